//! The tests of a blueprint, unchanged, on an environment that is there already.

use std::time::Duration;

use e2e::{
    environment::{STATE_VARIABLE, workspace_root},
    process::{self, CommandLine},
    testing::ENVIRONMENT_VARIABLE,
};

use crate::scene::Scene;

/// They may have to be built first.
const LIMIT: Duration = Duration::from_secs(600);

pub(crate) async fn blueprint_tests(scene: &Scene) -> anyhow::Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let tests = CommandLine::new(cargo)
        .args(["test", "--quiet", "--package", "e2e", "--test", "it"])
        .args(["fast_international_ferry::"])
        .env(ENVIRONMENT_VARIABLE, scene.environment.name().as_str())
        .env(STATE_VARIABLE, scene.store.root().to_string_lossy())
        .folder(&workspace_root()?)
        .within(LIMIT);
    let done = process::output(&tests).await?;
    anyhow::ensure!(
        done.status.success(),
        "{}\n{}",
        process::tail(&done.stdout, 60),
        done.tail(20)
    );
    assert!(
        done.stdout.contains("4 passed"),
        "all tests of the blueprint must have run: {}",
        done.tail(20)
    );
    Ok(())
}
