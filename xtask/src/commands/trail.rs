//! `trail`: shows or verifies the messages stored at the sinks.

use std::path::Path;

use blueprint::failure::Failure;
use harness::{
    pinhole::Pinhole,
    proof,
    trail::{Audit, Finding, StoredMessage},
};
use host::select;
use serde::Serialize;

use crate::{cli::Trail, context::Context, view};

/// One line of `--json`. Contains the message unchanged, its payload byte for byte.
#[derive(Serialize)]
struct Line<'a> {
    sink: &'a str,
    cluster: &'a str,
    stored: &'a StoredMessage,
}

/// One line of `--verify --json`: one finding.
#[derive(Serialize)]
struct Wrong<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sink: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a str>,
    #[serde(flatten)]
    finding: &'a Finding,
}

/// Runs the command.
pub(crate) async fn run(args: Trail, context: &Context) -> anyhow::Result<()> {
    match &args.from {
        Some(from) => verify_file(from, &args, context).await,
        None if args.verify => verify(&args, context).await,
        None => show(args, context).await,
    }
}

async fn verify(args: &Trail, context: &Context) -> anyhow::Result<()> {
    let environment = context.environment(args.named.name.as_deref())?;
    let record = &environment.record;
    let mut total = Audit::default();
    for sink in record
        .blueprints
        .keys()
        .flat_map(|blueprint| select::sinks(record, blueprint))
    {
        let (pod, cluster) = (sink.name.pod(), sink.name.cluster());
        if sink.token_file.is_none() {
            context.output.warn(format!(
                "{pod} in {cluster} has no pinhole, so its messages cannot be read"
            ));
            continue;
        }
        let audit = context
            .interrupt
            .unless(proof::audit_sink(&environment, sink))
            .await?;
        report(Some((pod, cluster)), audit, &mut total, args, context)?;
    }
    conclude(&total, context)
}

async fn verify_file(from: &Path, args: &Trail, context: &Context) -> anyhow::Result<()> {
    let roots = match &args.roots {
        Some(roots) => proof::roots_of(roots)?,
        None => proof::roots(&context.environment(args.named.name.as_deref())?)?,
    };
    let mut total = Audit::default();
    let all = proof::evidence_of(from)?;
    if all.is_empty() {
        let cause = format!("`{}` contains no stored message", from.display());
        return Err(Failure::usage(cause)
            .hint("pass the lines of a sink's `/output`, or of `cargo xtask trail --json`")
            .into());
    }
    for evidence in all {
        let audit = context
            .interrupt
            .unless(proof::audit(evidence.output, roots.clone(), None))
            .await?;
        let sink = evidence.sink.as_ref();
        let sink = sink.map(|(pod, cluster)| (pod.as_str(), cluster.as_str()));
        report(sink, audit, &mut total, args, context)?;
    }
    conclude(&total, context)
}

/// Prints one line per finding at one sink and adds the audit to `total`.
fn report(
    sink: Option<(&str, &str)>,
    audit: Audit,
    total: &mut Audit,
    args: &Trail,
    context: &Context,
) -> anyhow::Result<()> {
    for finding in &audit.findings {
        context.output.data(match (args.json, sink) {
            (true, _) => serde_json::to_string(&Wrong {
                sink: sink.map(|(pod, _)| pod),
                cluster: sink.map(|(_, cluster)| cluster),
                finding,
            })?,
            (false, Some((pod, cluster))) => format!("{pod} in {cluster}: {finding}"),
            (false, None) => finding.to_string(),
        });
    }
    total.messages += audit.messages;
    total.hops += audit.hops;
    total.findings.extend(audit.findings);
    Ok(())
}

fn conclude(total: &Audit, context: &Context) -> anyhow::Result<()> {
    let wrong = total.findings.len();
    if wrong > 0 {
        let s = if wrong == 1 { "" } else { "s" };
        return Err(Failure::product(format!(
            "{wrong} problem{s} in the trails of {} messages",
            total.messages
        ))
        .hint("see `services/messages/docs/signature.md` for what each signature covers")
        .into());
    }
    context.output.note(format!(
        "{} messages, {} signed hops: every trail is valid",
        total.messages, total.hops
    ));
    Ok(())
}

async fn show(args: Trail, context: &Context) -> anyhow::Result<()> {
    let environment = context.environment(args.named.name.as_deref())?;
    let record = &environment.record;
    for blueprint in record.blueprints.keys() {
        for sink in select::sinks(record, blueprint) {
            let (pod, cluster) = (sink.name.pod(), sink.name.cluster());
            if sink.token_file.is_none() {
                context.output.warn(format!(
                    "{pod} in {cluster} has no pinhole, so its messages cannot be read"
                ));
                continue;
            }
            let pinhole = Pinhole::of(sink)?;
            let output = context.interrupt.unless(pinhole.output(0)).await?;
            if !args.json {
                let style = context.output.data_style();
                context.output.data(view::stored(sink, &output, style));
                continue;
            }
            for stored in &output {
                let line = Line {
                    sink: pod,
                    cluster,
                    stored,
                };
                context.output.data(serde_json::to_string(&line)?);
                if context.output.is_closed() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}
