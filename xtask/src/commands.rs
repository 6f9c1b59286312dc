//! One file per command: arguments → options → one call of the harness → print.

mod addresses;
mod bench;
mod bundle;
mod deploy;
mod doctor;
mod e2e;
mod identity;
mod image;
mod local_down;
mod local_up;
mod logs;
mod new;
mod render;
mod status;
mod sweep;
mod trail;
mod trigger;
mod undeploy;

use crate::{cli::Command, context::Context};

/// Runs the command that was parsed.
pub(crate) async fn run(command: Command, context: &Context) -> anyhow::Result<()> {
    match command {
        Command::E2e(args) => e2e::run(args, context).await,
        Command::LocalUp(args) => local_up::run(args, context).await,
        Command::LocalDown(args) => local_down::run(args, context).await,
        Command::Deploy(args) => deploy::run(args, context).await,
        Command::Undeploy(args) => undeploy::run(args, context).await,
        Command::Image(args) => image::run(args, context).await,
        Command::Status(args) => status::run(args, context).await,
        Command::Trigger(args) => trigger::run(args, context).await,
        Command::Trail(args) => trail::run(args, context).await,
        Command::Identity(args) => identity::run(args, context).await,
        Command::Logs(args) => logs::run(args, context).await,
        Command::Sweep(args) => sweep::run(args, context).await,
        Command::Doctor(args) => doctor::run(args, context).await,
        Command::Bench(args) => bench::run(args, context).await,
        Command::New(args) => new::run(args, context).await,
        Command::Render(args) => render::run(args, context).await,
        Command::Addresses(args) => addresses::run(&args, context),
        Command::Bundle(args) => bundle::run(args, context),
    }
}
