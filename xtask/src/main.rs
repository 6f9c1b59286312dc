//! `cargo xtask`: Ferry's command line. Parses, routes, and ends with the exit code.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cli;
mod commands;
mod context;
mod interrupt;
mod output;
mod standing;
mod view;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use cli::{Cli, Command};
use context::Context;
use output::Output;

fn main() -> ExitCode {
    let output = Output::new();
    let code = match Cli::try_parse() {
        Ok(cli) => {
            let result = start(cli, output.clone());
            output.finish(result)
        }
        // Help and wrong usage end here, before anything is started.
        Err(words) => output.finish_usage(&words),
    };
    ExitCode::from(code)
}

fn start(cli: Cli, output: Output) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the threads of the runtime")?;
    // With fewer than there may be, little is different.
    let _ = e2e::process::raise_open_files();
    let result = runtime.block_on(async {
        let context = Context::new(output)?;
        route(cli.command, &context).await
    });
    // A read of standard input that nobody waits for any more must not hold up the end.
    runtime.shutdown_background();
    result
}

async fn route(command: Command, context: &Context) -> anyhow::Result<()> {
    match command {
        Command::E2e(args) => commands::e2e::run(args, context).await,
        Command::LocalUp(args) => commands::local_up::run(args, context).await,
        Command::LocalDown(args) => commands::local_down::run(args, context).await,
        Command::Deploy(args) => commands::deploy::run(args, context).await,
        Command::Undeploy(args) => commands::undeploy::run(args, context).await,
        Command::Image(args) => commands::image::run(args, context).await,
        Command::Status(args) => commands::status::run(args, context).await,
        Command::Trigger(args) => commands::trigger::run(args, context).await,
        Command::Trail(args) => commands::trail::run(args, context).await,
        Command::Identity(args) => commands::identity::run(args, context).await,
        Command::Logs(args) => commands::logs::run(args, context).await,
        Command::Sweep(args) => commands::sweep::run(args, context).await,
        Command::Doctor(args) => commands::doctor::run(args, context).await,
        Command::Bench(args) => commands::bench::run(args, context).await,
        Command::New(args) => commands::new::run(args, context).await,
        Command::Render(args) => commands::render::run(args, context).await,
        Command::Addresses(args) => commands::addresses::run(&args, context),
        Command::Bundle(args) => commands::bundle::run(args, context),
    }
}
