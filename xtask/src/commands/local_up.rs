use e2e::{
    blueprint::{self, Blueprint},
    environment::{Environment, Found, Name},
    local,
    plan::Ports,
    proof,
    run::Run,
    runtime::{self, Chosen, Condition, Lifetime, OnFailure, PublicAddress, State, UpRequest},
    timeline::Timeline,
};

use crate::{
    cli::LocalUp,
    context::{Context, manifests},
    view,
};

/// An environment of the name that is up, has these blueprints and is ready, is proven again by fresh messages. One that is
/// not ready or differs from the files is replaced.
pub(crate) async fn run(args: LocalUp, context: &Context) -> anyhow::Result<()> {
    let name = context.name(args.name.as_deref())?;
    let mut wanted = args.blueprints;
    if wanted.is_empty() {
        wanted.push(local::BLUEPRINT.into());
    }
    let blueprints = blueprint::select(&manifests()?, &wanted)?;
    let chosen = context.choose(args.runtime).await;
    let timeline = context.output.timeline();
    let there = context
        .interrupt
        .unless(there(&name, &blueprints, &timeline, context))
        .await?;
    let environment = match there {
        Some(environment) => {
            context
                .output
                .say(format!("`{name}` is up already; proving it again"));
            context
                .interrupt
                .unless(prove_again(&environment, &blueprints, &timeline, context))
                .await?;
            environment
        }
        None => make(&name, &blueprints, &chosen, &timeline, context).await?,
    };
    let style = context.output.data_style();
    context
        .output
        .data(view::banner(&environment.record, style));
    Ok(())
}

/// The environment that is up already, if it will do; one that will not is removed.
async fn there(
    name: &Name,
    blueprints: &[Blueprint],
    timeline: &Timeline,
    context: &Context,
) -> anyhow::Result<Option<Environment>> {
    let found = context
        .store
        .list()?
        .into_iter()
        .find(|found| found.name() == name);
    // What is broken, stopped or abandoned makes room by itself; what another command owns is refused there.
    let Some(Found::Environment(environment)) = found else {
        return Ok(None);
    };
    if runtime::condition(&environment.record)? != Condition::Stays {
        return Ok(None);
    }
    match local::reason_to_replace(&environment, blueprints, timeline).await? {
        None => Ok(Some(*environment)),
        Some(reason) => {
            context
                .output
                .say(format!("`{name}` is up already and is replaced: {reason}"));
            runtime::down(&context.store, name, State::Remove, timeline).await?;
            Ok(None)
        }
    }
}

async fn prove_again(
    environment: &Environment,
    blueprints: &[Blueprint],
    timeline: &Timeline,
    context: &Context,
) -> anyhow::Result<()> {
    for blueprint in blueprints {
        let verdict = proof::again(environment, &blueprint.name, timeline).await?;
        let style = context.output.data_style();
        context
            .output
            .data(view::verdict_table(&blueprint.title, &verdict, style) + "\n");
    }
    Ok(())
}

async fn make(
    name: &Name,
    blueprints: &[Blueprint],
    chosen: &Chosen,
    timeline: &Timeline,
    context: &Context,
) -> anyhow::Result<Environment> {
    let mut run = Run::new(context.store.clone(), name.clone(), timeline.clone());
    let request = UpRequest {
        name: name.clone(),
        runtime: chosen.kind,
        blueprints: blueprints.to_vec(),
        ports: Ports::AsWritten,
        public: PublicAddress::Localhost,
        // Until it is proven: what is killed half-way is swept.
        lifetime: Lifetime::Command,
        on_failure: OnFailure::LeaveToCaller,
        settings: [].into(),
    };
    let work = async {
        let environment = run.up(request).await?;
        for blueprint in blueprints {
            let verdict = proof::auto_trigger(&environment, &blueprint.name, timeline).await?;
            let style = context.output.data_style();
            context
                .output
                .data(view::verdict_table(&blueprint.title, &verdict, style) + "\n");
        }
        Ok(environment)
    };
    match context.interrupt.unless(work).await {
        Ok(mut environment) => {
            run.release(&mut environment)?;
            Ok(environment)
        }
        result @ Err(_) => {
            context.close(&mut run, &result).await;
            result
        }
    }
}
