use e2e::runtime;

use crate::{cli::Sweep, context::Context};

pub(crate) async fn run(_args: Sweep, context: &Context) -> anyhow::Result<()> {
    let timeline = context.output.timeline();
    let swept = context
        .interrupt
        .unless(runtime::sweep(&context.store, &timeline))
        .await?;
    if swept.is_empty() {
        context.output.say("nothing was left behind");
    }
    for one in swept {
        let processes = match one.processes {
            1 => "1 process".into(),
            count => format!("{count} processes"),
        };
        context.output.data(format!(
            "removed `{}` and {processes}: {}",
            one.name, one.why
        ));
    }
    Ok(())
}
