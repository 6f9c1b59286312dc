use e2e::{
    environment::{Environment, RuntimeKind},
    failure::Failure,
    runtime::{self, State},
};

use crate::{cli::LocalDown, context::Context};

pub(crate) async fn run(args: LocalDown, context: &Context) -> anyhow::Result<()> {
    let wanted = if args.all {
        all(context)?
    } else {
        vec![mine(context.environment(args.name.as_deref())?, context)?]
    };
    if wanted.is_empty() {
        context.output.say("no environment is up");
    }
    let timeline = context.output.timeline();
    let mut failed = None;
    for environment in wanted {
        let work = runtime::down(&context.store, environment.name(), State::Remove, &timeline);
        let ended = tokio::select! {
            ended = work => ended,
            interrupted = context.interrupt.second() => return Err(interrupted.into()),
        };
        if let Err(error) = ended {
            // The others are taken down all the same.
            if let Some(earlier) = failed.replace(error) {
                context.output.beside("left behind", &earlier);
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Every environment without an owner that runs.
fn all(context: &Context) -> anyhow::Result<Vec<Environment>> {
    let mut all = vec![];
    for found in context.store.list()? {
        match found.readable() {
            Ok(environment) => match mine(environment, context) {
                Ok(environment) => all.push(environment),
                Err(reason) => context.output.say(format!("{reason:#}")),
            },
            Err((name, problem)) => context
                .output
                .warn(format!("`{name}` is left alone: {problem}")),
        }
    }
    Ok(all)
}

/// Refuses what is not for this command to take down. What only has files left is.
fn mine(environment: Environment, context: &Context) -> anyhow::Result<Environment> {
    let environment = context.unowned(environment)?;
    let record = &environment.record;
    if record.runtime == RuntimeKind::Existing && !record.clusters.is_empty() {
        let name = environment.name();
        return Err(Failure::usage(format!(
            "environment `{name}` is deployed on clusters that exist without it"
        ))
        .hint(format!("`cargo xtask undeploy --name {name}` removes it"))
        .into());
    }
    Ok(environment)
}
