//! `undeploy`: removes a deployment's namespaces from its clusters.

use blueprint::failure::Failure;
use harness::ops::lifecycle;
use host::environment::RuntimeKind;

use crate::{cli::Undeploy, context::Context, persistent};

/// Runs the command.
pub(crate) async fn run(args: Undeploy, context: &Context) -> anyhow::Result<()> {
    let environment =
        context.require_unowned(context.deployment(&context.name(args.named.name.as_deref())?)?)?;
    let name = environment.name();
    if environment.record.runtime != RuntimeKind::Existing {
        return Err(Failure::usage(format!(
            "environment `{name}` was created on this machine, not by `deploy`"
        ))
        .hint(format!(
            "run `cargo xtask local-down --name {name}` to remove it"
        ))
        .into());
    }
    let store = environment.store();
    let timeline = context.output.timeline();
    let state = persistent::state_after(&environment, args.keep_data, context).await;
    let work = lifecycle::down(&store, name, state, &timeline);
    tokio::select! {
        ended = work => ended,
        interrupted = context.interrupt.second() => Err(interrupted.into()),
    }
}
