//! `sweep`: removes what killed commands left behind.

use harness::ops::sweep;

use crate::{cli::Sweep, context::Context, view};

/// Runs the command on every store.
pub(crate) async fn run(_args: Sweep, context: &Context) -> anyhow::Result<()> {
    let timeline = context.output.timeline();
    let mut swept = vec![];
    for store in context.stores() {
        let work = sweep::sweep(&store, &timeline);
        swept.extend(context.interrupt.unless(work).await?);
    }
    if swept.is_empty() {
        context.output.note("nothing to remove");
    }
    for one in swept {
        context.output.data(view::swept(&one));
    }
    Ok(())
}
