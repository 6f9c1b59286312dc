//! `status`: shows environments, their pods and clocks.

use harness::ops::{lifecycle, sweep};
use host::{clock, environment::Found};
use serde_json::json;

use crate::{cli::Status, context::Context, view};

/// Runs the command.
pub(crate) async fn run(args: Status, context: &Context) -> anyhow::Result<()> {
    let all = match &args.name {
        Some(name) => vec![Found::Environment(Box::new(
            context.environment(Some(name))?,
        ))],
        None => context.list()?,
    };
    if all.is_empty() {
        context
            .output
            .note("no environment is up; create one with `cargo xtask local-up`");
    }
    for found in all {
        let environment = match found.readable() {
            Ok(environment) => environment,
            Err((name, problem)) => {
                context
                    .output
                    .warn(format!("`{name}` cannot be read: {problem}"));
                continue;
            }
        };
        let condition = sweep::condition(&environment.record)?;
        let pods = context
            .interrupt
            .unless(lifecycle::status(&environment))
            .await?;
        let clocks = context
            .interrupt
            .unless(async { Ok(lifecycle::clocks(&environment).await) })
            .await?;
        let apart = clock::apart(&environment, &clocks);
        if args.json {
            context.output.data(
                json!({
                    "name": environment.name().as_str(),
                    "runtime": environment.record.runtime,
                    "condition": view::condition(&condition),
                    "created_at": environment.record.created_at,
                    "folder": environment.layout().root(),
                    "pods": pods,
                    "clocks": clocks,
                    "clocks_too_far_apart": apart.map(|far| far.to_string()),
                })
                .to_string(),
            );
        } else {
            let style = context.output.data_style();
            context
                .output
                .data(view::status(&environment.record, &condition, &pods, style));
            context.output.data(format!("clocks: {clocks}"));
            if let Some(far) = apart {
                context.output.warn(format!("{far}; {}", clock::FIX));
            }
        }
    }
    Ok(())
}
