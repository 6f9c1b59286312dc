//! `local-down`: stops and removes environments of this machine.

use blueprint::failure::Failure;
use harness::ops::lifecycle;
use host::environment::{Environment, RuntimeKind};

use crate::{cli::LocalDown, context::Context, persistent};

/// Runs the command.
pub(crate) async fn run(args: LocalDown, context: &Context) -> anyhow::Result<()> {
    let wanted = if args.all {
        all(context)?
    } else {
        vec![removable(
            context.environment(args.named.name.as_deref())?,
            context,
        )?]
    };
    if wanted.is_empty() {
        context.output.note("no environment is up");
    }
    let timeline = context.output.timeline();
    let mut failed = None;
    for environment in wanted {
        let state = persistent::state_after(&environment, args.keep_data, context).await;
        let work = lifecycle::down(&context.store, environment.name(), state, &timeline);
        let ended = tokio::select! {
            ended = work => ended,
            interrupted = context.interrupt.second() => return Err(interrupted.into()),
        };
        if let Err(error) = ended {
            // One failure does not keep the other environments up.
            if let Some(earlier) = failed.replace(error) {
                context.output.warn_also("not removed", &earlier);
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Returns every environment that no running command owns; prints the others with the reason.
fn all(context: &Context) -> anyhow::Result<Vec<Environment>> {
    let mut all = vec![];
    for found in context.store.list()? {
        match found.readable() {
            Ok(environment) => match removable(environment, context) {
                Ok(environment) => all.push(environment),
                Err(reason) => context.output.note(format!("{reason:#}")),
            },
            Err((name, problem)) => context
                .output
                .warn(format!("`{name}` was skipped: {problem}")),
        }
    }
    Ok(all)
}

/// Fails if the environment has an owner or is deployed on existing clusters.
///
/// Accepts an environment of which only files are left.
fn removable(environment: Environment, context: &Context) -> anyhow::Result<Environment> {
    let environment = context.require_unowned(environment)?;
    let record = &environment.record;
    if record.runtime == RuntimeKind::Existing && !record.clusters.is_empty() {
        let name = environment.name();
        return Err(Failure::usage(format!(
            "environment `{name}` is deployed on existing clusters"
        ))
        .hint(format!(
            "run `cargo xtask undeploy --name {name}` to remove it"
        ))
        .into());
    }
    Ok(environment)
}
