//! `e2e`: creates an environment, proves its blueprints, and removes it.

use std::time::Instant;

use blueprint::{Blueprint, failure::Failure, plan::Ports};
use harness::{
    ops::{
        choice::{Chosen, RuntimeChoice},
        run::Run,
    },
    proof::{self, Verdict},
    runtime::request::{Lifetime, OnFailure, PublicAddress, UpRequest},
};
use host::{
    binaries::Profile,
    environment::{Environment, Name, RuntimeKind},
    manifests, select,
    timeline::Timeline,
};
use serde_json::json;

use crate::{
    cli::E2e,
    context::{Context, manifests},
    interrupt::Interrupted,
    output::seconds,
    view,
};

/// Runs the command.
pub(crate) async fn run(args: E2e, context: &Context) -> anyhow::Result<()> {
    let mut blueprints = manifests::select(&manifests()?, &args.blueprints)?;
    let chosen = choose(&args, context).await?;
    if args.blueprints.is_empty() {
        let (taken, left) = select::unnamed(blueprints, chosen.kind)?;
        blueprints = taken;
        if !left.is_empty() {
            let left: Vec<_> = left.iter().map(|left| left.name.as_str()).collect();
            context.output.note(format!(
                "skipped, because they need more than {} clusters: {}; \
                 pass a name to prove one of them",
                select::MOST_CLUSTERS_UNNAMED,
                left.join(", ")
            ));
        }
    }
    let rounds = args.repeat.unwrap_or(1);
    for round in 1..=rounds {
        let began = Instant::now();
        let result = once(&args, &blueprints, &chosen, context).await;
        if rounds > 1 {
            let verdict = if result.is_ok() { "passed" } else { "failed" };
            let took = seconds(began.elapsed());
            context
                .output
                .note(format!("run {round} of {rounds}: {verdict} in {took}"));
        }
        result?;
    }
    Ok(())
}

/// Chooses the runtime. Options for existing clusters imply the `existing` runtime.
async fn choose(args: &E2e, context: &Context) -> anyhow::Result<Chosen> {
    let named = args.clusters.are_named();
    Ok(match args.runtime.unwrap_or_default() {
        RuntimeChoice::Auto if named => context.report_choice(Chosen {
            kind: RuntimeKind::Existing,
            why: "clusters were given".into(),
        }),
        RuntimeChoice::Embedded | RuntimeChoice::K3d if named => {
            return Err(Failure::usage(
                "`--context` and the other options for existing clusters \
                 require `--runtime existing`",
            )
            .hint("pass `--runtime existing`, or remove these options")
            .into());
        }
        _ => context.choose(args.runtime).await,
    })
}

async fn once(
    args: &E2e,
    blueprints: &[Blueprint],
    chosen: &Chosen,
    context: &Context,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let timeline = context.output.timeline();
    let mut run = Run::new(
        context.store_of(chosen.kind)?,
        Name::unique("e2e")?,
        timeline.clone(),
    );
    let name = run.name().clone();
    let request = UpRequest {
        name: name.clone(),
        runtime: chosen.kind,
        blueprints: blueprints.to_vec(),
        ports: Ports::Spread,
        public: PublicAddress::OwnNetwork,
        lifetime: Lifetime::Command,
        on_failure: OnFailure::LeaveToCaller,
        settings: [].into(),
        profile: Profile::Dev,
        existing: (chosen.kind == RuntimeKind::Existing).then(|| args.clusters.destination()),
    };
    let mut verdicts = vec![];
    let work = prove(
        &mut run,
        request,
        blueprints,
        &timeline,
        &mut verdicts,
        args,
        context,
    );
    let result = context.interrupt.unless(work).await;
    let evidence = match &result {
        Ok(_) if args.keep => None,
        // `--keep` leaves a failed environment running for inspection.
        Err(error) if args.keep && !error.is::<Interrupted>() => None,
        _ => context.close(&mut run, &result).await,
    };
    let result = match result {
        Ok(mut environment) if args.keep => {
            run.release(&mut environment, &verdicts)?;
            note_kept(&environment, context);
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(error) if args.keep && !error.is::<Interrupted>() => {
            if let Ok(mut environment) = run.store().load(&name) {
                run.release_failed(&mut environment, &error).await?;
                note_kept(&environment, context);
            }
            Err(error)
        }
        Err(error) => Err(error),
    };
    let style = context.output.data_style();
    if args.json {
        context.output.data(
            json!({
                "verdict": view::verdict(&result),
                "runtime": chosen.kind,
                "why": chosen.why,
                "environment": name.as_str(),
                "seconds": began.elapsed().as_secs_f64(),
                "blueprints": verdicts,
                "steps": timeline.entries(),
                "error": result.as_ref().err().map(|error| format!("{error:#}")),
                "evidence": evidence,
            })
            .to_string(),
        );
    } else {
        context
            .output
            .data(view::timeline(&timeline.entries(), style));
        if result.is_ok() {
            let took = seconds(began.elapsed());
            context
                .output
                .data(view::summary(&verdicts, chosen.kind, &took, style));
        }
    }
    result
}

/// Creates the environment and proves each blueprint. Verdicts reached before a failure stay in
/// `verdicts`.
async fn prove(
    run: &mut Run,
    request: UpRequest,
    blueprints: &[Blueprint],
    timeline: &Timeline,
    verdicts: &mut Vec<Verdict>,
    args: &E2e,
    context: &Context,
) -> anyhow::Result<Environment> {
    let environment = run.up(request).await?;
    for blueprint in blueprints {
        let verdict = proof::auto_trigger(&environment, &blueprint.name, timeline).await?;
        if !args.json {
            context.verdict(&blueprint.title, &verdict);
        }
        verdicts.push(verdict);
    }
    Ok(environment)
}

fn note_kept(environment: &Environment, context: &Context) {
    let text = view::kept(&environment.record, environment.layout().root());
    context.output.note(text);
}
