use std::time::Instant;

use e2e::{
    blueprint::{self, Blueprint},
    environment::{Environment, Name, RuntimeKind},
    failure::Failure,
    plan::Ports,
    proof::{self, Verdict},
    run::Run,
    runtime::{Chosen, Lifetime, OnFailure, PublicAddress, RuntimeChoice, UpRequest},
    select,
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

pub(crate) async fn run(args: E2e, context: &Context) -> anyhow::Result<()> {
    let mut blueprints = blueprint::select(&manifests()?, &args.blueprints)?;
    let chosen = choose(&args, context).await?;
    if args.blueprints.is_empty() {
        let (taken, left) = select::unnamed(blueprints, chosen.kind)?;
        blueprints = taken;
        if !left.is_empty() {
            let left: Vec<_> = left.iter().map(|left| left.name.as_str()).collect();
            context.output.say(format!(
                "left out, because they need more than {} clusters: {}; name one to prove it",
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
                .say(format!("run {round} of {rounds}: {verdict} in {took}"));
        }
        result?;
    }
    Ok(())
}

/// Whoever names contexts means the clusters behind them.
async fn choose(args: &E2e, context: &Context) -> anyhow::Result<Chosen> {
    let named = args.clusters.are_named();
    Ok(match args.runtime.unwrap_or_default() {
        RuntimeChoice::Auto if named => context.chosen(Chosen {
            kind: RuntimeKind::Existing,
            why: "its clusters are named".into(),
        }),
        RuntimeChoice::Embedded | RuntimeChoice::K3d if named => {
            return Err(Failure::usage(
                "clusters that exist already are named, and another runtime is asked for",
            )
            .hint("use `--runtime existing`, or leave `--context` and what belongs to it out")
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
        // Somebody wants to look at it as it is.
        Err(error) if args.keep && !error.is::<Interrupted>() => None,
        _ => context.close(&mut run, &result).await,
    };
    let result = match result {
        Ok(mut environment) if args.keep => {
            run.release(&mut environment, &verdicts)?;
            say_kept(&environment, context);
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(error) if args.keep && !error.is::<Interrupted>() => {
            if let Ok(mut environment) = run.store().load(&name) {
                run.release_failed(&mut environment, &error).await?;
                say_kept(&environment, context);
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

/// Brings everything up and proves each blueprint; what was proven before a failure stays in `verdicts`.
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

fn say_kept(environment: &Environment, context: &Context) {
    let talk = view::kept(&environment.record, environment.layout().root());
    context.output.say(talk);
}
