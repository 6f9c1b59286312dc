//! What the image of the services holds.

use std::{collections::BTreeSet, path::Path, time::Duration};

use anyhow::Context as _;
use host::process::{self, CommandLine};
use serde_json::Value;

use crate::{broken::own_image, scene::Scene};

const LIMIT: Duration = Duration::from_secs(120);
const PROGRAMS: [&str; 5] = ["gateway", "probe", "processor", "sink", "wosp"];

/// The programs, and the loader and libraries that they are linked with; no shell, no package, no file of anybody else.
#[tokio::test]
#[ignore = "needs k3d: .ci/k3d"]
async fn service_image_holds_programs_alone() -> anyhow::Result<()> {
    let scene = &Scene::shared().await?;
    let image = own_image(scene).await?;
    let folder = tempfile::tempdir()?;
    let archive = folder.path().join("image.tar");
    let save = CommandLine::new("docker")
        .args(["save", &image, "--output"])
        .args([&archive])
        .within(LIMIT);
    process::run(&save).await?;
    unpack(&archive, folder.path()).await?;
    let manifest = std::fs::read_to_string(folder.path().join("manifest.json"))?;
    let manifest: Value = serde_json::from_str(&manifest)?;
    let layers = manifest[0]["Layers"].as_array().context("layers")?;
    assert_eq!(layers.len(), 1, "one COPY on nothing: {layers:?}");
    let layer = layers[0].as_str().context("the path of a layer")?;
    let files = files(&folder.path().join(layer)).await?;
    let (programs, rest): (BTreeSet<&str>, BTreeSet<&str>) = files
        .iter()
        .map(String::as_str)
        .partition(|path| !path.contains('/'));
    assert_eq!(programs, BTreeSet::from(PROGRAMS));
    for path in rest {
        let name = path.rsplit('/').next().unwrap_or_default();
        let loader = name.starts_with("ld-linux");
        let library = path.starts_with("lib/ferry/") && name.contains(".so");
        assert!(loader || library, "`{path}` must not be in {image}");
    }
    let config = manifest[0]["Config"]
        .as_str()
        .context("the path of the configuration")?;
    let config: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.path().join(config))?)?;
    assert_eq!(
        config["config"]["User"], "65532:65532",
        "not root by itself"
    );
    Ok(())
}

async fn unpack(archive: &Path, folder: &Path) -> anyhow::Result<()> {
    let line = CommandLine::new("tar")
        .args(["--extract", "--file"])
        .args([archive])
        .args(["--directory"])
        .args([folder])
        .within(LIMIT);
    process::run(&line).await?;
    Ok(())
}

/// All that is no folder.
async fn files(layer: &Path) -> anyhow::Result<Vec<String>> {
    let line = CommandLine::new("tar")
        .args(["--list", "--file"])
        .args([layer])
        .within(LIMIT);
    let listed = process::run(&line).await?.stdout;
    let files = listed.lines().filter(|line| !line.ends_with('/'));
    Ok(files
        .map(|line| line.trim_start_matches("./").to_owned())
        .collect())
}
