//! `doctor`: checks the requirements on this machine.

use std::collections::BTreeSet;

use blueprint::{Blueprint, failure::Failure};
use harness::ops::{
    doctor::{self, Outcome},
    local,
};
use host::{environment::Found, manifests};
use serde_json::json;

use crate::{
    cli::Doctor,
    context::{Context, manifests},
    view,
};

/// Runs the command. Checks the public ports of the default blueprint of `local-up`.
pub(crate) async fn run(args: Doctor, context: &Context) -> anyhow::Result<()> {
    let blueprints = manifests::select(&manifests()?, &[local::BLUEPRINT.to_owned()])?;
    let ports = ports(&blueprints)?;
    let chosen = context.choose(args.runtime).await;
    let checks = context
        .interrupt
        .unless(async {
            let mut checks = doctor::run(chosen.kind, &ports).await;
            // Running environments, too: a ferry stops if its clocks drift too far apart.
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
            json!({
                "runtime": chosen.kind,
                "why": chosen.why,
                "verdict": doctor::verdict(&checks),
                "checks": checks,
            })
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
    .hint("apply the fix that is listed for each")
    .into())
}

fn ports(blueprints: &[Blueprint]) -> anyhow::Result<Vec<u16>> {
    let ports: BTreeSet<u16> = local::public_ports(blueprints)?;
    Ok(ports.into_iter().collect())
}
