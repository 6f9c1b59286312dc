//! `addresses`: prints the provider's commands that reserve a blueprint's addresses.

use blueprint::plan::{Plan, Ports, Sockets};
use host::manifests;

use crate::{
    cli::Addresses,
    context::{Context, manifests},
};

/// Runs the command.
pub(crate) fn run(args: &Addresses, context: &Context) -> anyhow::Result<()> {
    let blueprints = manifests::select(&manifests()?, std::slice::from_ref(&args.blueprint))?;
    let plan = Plan::of(&blueprints, Ports::AsWritten, &|_| Sockets::in_pod())?;
    let commands = render::commands(&plan, args.target)?;
    context.output.data(commands.trim_end());
    Ok(())
}
