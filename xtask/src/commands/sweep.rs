use e2e::runtime;

use crate::{cli::Sweep, context::Context, view};

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
        context.output.data(view::swept(&one));
    }
    Ok(())
}
