use e2e::{environment::Found, runtime};
use serde_json::json;

use crate::{cli::Status, context::Context, view};

pub(crate) async fn run(args: Status, context: &Context) -> anyhow::Result<()> {
    let all = match &args.name {
        Some(name) => vec![Found::Environment(Box::new(
            context.environment(Some(name))?,
        ))],
        None => context.store.list()?,
    };
    if all.is_empty() {
        context
            .output
            .say("no environment is up; start one with `cargo xtask local-up`");
    }
    for found in all {
        let environment = match found {
            Found::Environment(environment) => environment,
            Found::Broken { name, problem, .. } => {
                context.output.warn(format!(
                    "`{name}` is broken: {problem}; `cargo xtask sweep` removes it"
                ));
                continue;
            }
        };
        let condition = runtime::condition(&environment.record)?;
        let pods = context
            .interrupt
            .unless(runtime::status(&environment))
            .await?;
        if args.json {
            context.output.data(
                json!({
                    "name": environment.name().as_str(),
                    "runtime": environment.record.runtime,
                    "condition": view::condition(&condition),
                    "created_at": environment.record.created_at,
                    "folder": environment.layout().root(),
                    "pods": pods,
                })
                .to_string(),
            );
        } else {
            let style = context.output.data_style();
            context
                .output
                .data(view::status(&environment.record, &condition, &pods, style));
        }
    }
    Ok(())
}
