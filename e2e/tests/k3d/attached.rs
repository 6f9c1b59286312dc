//! The tests that are not of one runtime, unchanged, on an environment that is there already.

use std::time::Duration;

use e2e::{
    environment::{STATE_VARIABLE, workspace_root},
    process::{self, CommandLine},
    services::is_of_the_outer_cargo,
    testing::{ENVIRONMENT_VARIABLE, show},
};

use crate::scene::Scene;

/// They may have to be built first.
const LIMIT: Duration = Duration::from_secs(900);

/// Runs the tests whose name has this in it.
pub(crate) async fn tests(scene: &Scene, module: &str) -> anyhow::Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let outer = std::env::vars().filter(|(name, _)| is_of_the_outer_cargo(name));
    let tests = CommandLine::new("env")
        .args(outer.flat_map(|(name, _)| ["-u".to_owned(), name]))
        .args([cargo])
        .args(["test", "--package", "e2e", "--test", "it", "--", module])
        .env(ENVIRONMENT_VARIABLE, scene.environment.name().as_str())
        // A failed check says what it saw, in a line that a backtrace would hide.
        .env("RUST_BACKTRACE", "0")
        .env(STATE_VARIABLE, scene.store.root().to_string_lossy())
        .folder(&workspace_root()?)
        .within(LIMIT);
    let done = process::output(&tests).await?;
    anyhow::ensure!(
        done.status.success(),
        "{}\n{}",
        process::tail(&done.stdout, 80),
        done.tail(20)
    );
    let passed = done.stdout.lines().filter(|line| line.ends_with(" ... ok"));
    let passed: Vec<_> = passed.collect();
    assert!(
        !passed.is_empty(),
        "tests must have run: {}",
        process::tail(&done.stdout, 20)
    );
    // A test of another runtime passes and says so.
    let said = done.stderr.lines().filter(|line| line.starts_with("NOT "));
    for line in passed.into_iter().chain(said) {
        show(&format!("  {line}"));
    }
    Ok(())
}

/// The same, of those that need an environment with other settings than the rest.
pub(crate) async fn tests_with(
    scene: &Scene,
    settings: &[(&str, &str)],
    module: &str,
) -> anyhow::Result<()> {
    scene.set(settings).await?;
    tests(scene, module).await
}
