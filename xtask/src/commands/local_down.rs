use e2e::{
    environment::{Environment, Found},
    failure::Failure,
    runtime::{self, Condition, State},
};

use crate::{cli::LocalDown, context::Context};

pub(crate) async fn run(args: LocalDown, context: &Context) -> anyhow::Result<()> {
    let wanted = if args.all {
        all(context)?
    } else {
        vec![mine(context.environment(args.name.as_deref())?)?]
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
        match found {
            Found::Environment(environment) => match mine(*environment) {
                Ok(environment) => all.push(environment),
                Err(reason) => context.output.say(format!("{reason:#}")),
            },
            Found::Broken { name, problem, .. } => {
                context.output.warn(format!(
                    "`{name}` is left to `cargo xtask sweep`: {problem}"
                ));
            }
        }
    }
    Ok(all)
}

fn mine(environment: Environment) -> anyhow::Result<Environment> {
    match runtime::condition(&environment.record)? {
        Condition::Owned(owner) => Err(Failure::usage(format!(
            "environment `{}` belongs to {owner} ({}), which runs and removes it by itself",
            environment.name(),
            owner.name()
        ))
        .hint("end that command with Ctrl-C")
        .into()),
        _ => Ok(environment),
    }
}
