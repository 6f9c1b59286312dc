//! `trigger`: sends messages through a gateway and shows their acknowledgements.

use std::{collections::BTreeSet, path::Path};

use blueprint::failure::Failure;
use harness::pinhole::{Pinhole, Trigger as Sending};
use host::{select, text};

use crate::{cli::Trigger, context::Context, view};

/// Runs the command.
pub(crate) async fn run(args: Trigger, context: &Context) -> anyhow::Result<()> {
    let environment = context.environment(args.named.name.as_deref())?;
    let gateway = select::gateway(&environment.record, args.gateway.as_deref())?;
    let pinhole = Pinhole::of(gateway)?;
    let work = async {
        let sending = sending(&args).await?;
        let mut acks = pinhole.trigger(&sending).await?;
        let mut all = vec![];
        while let Some(answered) = acks.next_answered().await? {
            if args.json {
                context.output.data(serde_json::to_string(&answered)?);
            }
            all.push(answered.ack);
        }
        Ok((sending.count(), all))
    };
    let (count, acks) = context.interrupt.unless(work).await?;
    if !args.json {
        let style = context.output.data_style();
        context.output.data(view::acks(&acks, style));
    }
    let refused: BTreeSet<_> = acks
        .iter()
        .filter(|ack| !ack.outcome.is_delivered())
        .map(|ack| ack.id)
        .collect();
    let answered: BTreeSet<_> = acks.iter().map(|ack| ack.id).collect();
    let delivered = answered.difference(&refused).count();
    let result = format!("{delivered} of {count} delivered");
    if delivered == count {
        context.output.note(result);
        return Ok(());
    }
    let reason = view::first_reason(&acks).unwrap_or("the others were not acknowledged");
    Err(Failure::product(format!("{result}: {reason}"))
        .hint("run `cargo xtask status` for the pods' state and `cargo xtask logs` for their logs")
        .into())
}

async fn sending(args: &Trigger) -> anyhow::Result<Sending> {
    let count = args.count.unwrap_or(1);
    let Some(path) = args.payload.clone() else {
        return Ok(Sending::Default { count });
    };
    let shown = path.display().to_string();
    // Standard input may never end, so the read has its own thread that an interrupt abandons.
    let json = tokio::task::spawn_blocking(move || read(&path)).await??;
    let payload = harness::pinhole::payload(json).map_err(|error| {
        Failure::usage(format!("invalid payload in `{shown}`: {error}")).hint("pass one JSON value")
    })?;
    Ok(Sending::Same { payload, count })
}

fn read(path: &Path) -> anyhow::Result<String> {
    let (name, read) = if path.as_os_str() == "-" {
        ("standard input".to_owned(), text::read_standard_input())
    } else {
        (format!("`{}`", path.display()), text::read(path))
    };
    read.map_err(|error| {
        Failure::usage(format!("cannot read {name}: {error}"))
            .hint("pass a file with one JSON value, or `-` for standard input")
            .into()
    })
}
