use std::collections::BTreeSet;

use e2e::{
    blueprint::{self, Blueprint},
    doctor::{self, Outcome},
    environment::Found,
    failure::Failure,
    local,
};
use serde_json::json;

use crate::{
    cli::Doctor,
    context::{Context, manifests},
    view,
};

/// Looks at what `local-up` needs where nothing is said: its blueprint's ports as written.
pub(crate) async fn run(args: Doctor, context: &Context) -> anyhow::Result<()> {
    let blueprints = blueprint::select(&manifests()?, &[local::BLUEPRINT.to_owned()])?;
    let ports = ports(&blueprints)?;
    let chosen = context.choose(args.runtime).await;
    let checks = context
        .interrupt
        .unless(async {
            let mut checks = doctor::run(chosen.kind, &ports).await;
            // Of what is up already: a ferry whose clocks drift apart stands still.
            for found in context.store.list()? {
                if let Found::Environment(environment) = found {
                    checks.extend(doctor::clocks(&environment).await);
                }
            }
            Ok(checks)
        })
        .await?;
    if args.json {
        context.output.data(
            json!({ "runtime": chosen.kind, "why": chosen.why, "verdict": doctor::verdict(&checks), "checks": checks })
                .to_string(),
        );
    } else {
        let style = context.output.data_style();
        context.output.data(view::checks(&checks, style));
    }
    let failed: Vec<_> = checks
        .iter()
        .filter(|check| check.outcome == Outcome::Fail)
        .map(|check| check.name.as_str())
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::infrastructure(format!(
        "this machine cannot run Ferry on the {} runtime: {}",
        view::runtime(chosen.kind),
        failed.join(", ")
    ))
    .hint("the fix of each stands beside it")
    .into())
}

fn ports(blueprints: &[Blueprint]) -> anyhow::Result<Vec<u16>> {
    let ports: BTreeSet<u16> = local::public_ports(blueprints)?;
    Ok(ports.into_iter().collect())
}
