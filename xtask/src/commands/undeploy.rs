use e2e::{
    environment::RuntimeKind,
    failure::Failure,
    runtime::{self, State},
};

use crate::{cli::Undeploy, context::Context};

pub(crate) async fn run(args: Undeploy, context: &Context) -> anyhow::Result<()> {
    let environment = context.unowned(context.deployment(&context.name(args.name.as_deref())?)?)?;
    let name = environment.name();
    if environment.record.runtime != RuntimeKind::Existing {
        return Err(Failure::usage(format!(
            "environment `{name}` was made on this machine and not by `deploy`"
        ))
        .hint(format!("`cargo xtask local-down --name {name}` removes it"))
        .into());
    }
    let store = environment.store();
    let timeline = context.output.timeline();
    let work = runtime::down(&store, name, State::Remove, &timeline);
    tokio::select! {
        ended = work => ended,
        interrupted = context.interrupt.second() => Err(interrupted.into()),
    }
}
