//! `cargo xtask`, Ferry's command line: parses the arguments, runs the command, exits with its code.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cli;
mod commands;
mod context;
mod interrupt;
mod output;
mod persistent;
mod view;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use cli::Cli;
use context::Context;
use output::Output;

fn main() -> ExitCode {
    let output = Output::new();
    let code = match Cli::try_parse() {
        Ok(cli) => {
            let result = start(cli, output.clone());
            output.finish(result)
        }
        // Help and usage errors end here, before anything is started.
        Err(error) => output.finish_usage(&error),
    };
    ExitCode::from(code)
}

fn start(cli: Cli, output: Output) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    // A failure is harmless: Ferry then runs with the current limit on open files.
    let _ = host::process::raise_open_files();
    let result = runtime.block_on(async {
        let context = Context::new(output)?;
        commands::run(cli.command, &context).await
    });
    // A pending read of standard input must not delay the exit.
    runtime.shutdown_background();
    result
}
