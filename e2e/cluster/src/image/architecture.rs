//! Processor architectures by their Go names, as in images and Kubernetes.

use std::time::Duration;

use blueprint::failure::Failure;
use futures_util::future::join_all;
use host::docker::Info;
use render::Architecture;

use super::docker;

/// Time for an engine to describe an image, where it is asked only to warn.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// That of the service programs: they are built on this machine, for it.
pub fn of_programs() -> &'static str {
    in_go(std::env::consts::ARCH)
}

/// `x86_64`, as `uname -m`, Rust and an engine say it, is `amd64`; and so on. What is not known stays.
pub fn in_go(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" | "arm64v8" => "arm64",
        "i386" | "i686" | "x86" => "386",
        "armv7l" | "armv6l" => "arm",
        other => other,
    }
}

/// Refuses images that the nodes of this engine cannot run: each would end as soon as it is started, over and over.
pub async fn check(images: &[String], info: &Info) -> anyhow::Result<()> {
    let Some(nodes) = info.architecture.as_deref().filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    for name in images {
        let image = docker::image(name).await?;
        if let Some(found) = image.and_then(|image| image.architecture) {
            fits(name, &found, nodes)?;
        }
    }
    Ok(())
}

fn fits(image: &str, found: &str, nodes: &str) -> Result<(), Failure> {
    let (found, nodes) = (in_go(found), in_go(nodes));
    if found == nodes {
        return Ok(());
    }
    Err(Failure::infrastructure(format!(
        "image `{image}` is for {found}, but the engine's machine is {nodes}, so its programs \
         would not start"
    ))
    .hint(format!(
        "run `docker image rm {image}` and unset `DOCKER_DEFAULT_PLATFORM` to pull or build it \
         for {nodes}, or use another image"
    )))
}

/// What speaks against images on nodes of these architectures, in a sentence each. Images that no engine of this machine has
/// pass, and so do all of them without an engine.
pub async fn doubts(images: &[String], nodes: &[Architecture]) -> Vec<String> {
    let looks = images.iter().map(|name| async move {
        let found = tokio::time::timeout(LOOK_LIMIT, docker::image(name)).await;
        let image = found.ok()?.ok()??;
        doubt(name, &image.architecture?, nodes)
    });
    join_all(looks).await.into_iter().flatten().collect()
}

/// No more than a doubt: the registry may have the image for several architectures, and an engine takes the one that is its own.
fn doubt(image: &str, found: &str, nodes: &[Architecture]) -> Option<String> {
    let found = in_go(found);
    let names: Vec<_> = nodes.iter().map(|node| node.as_str()).collect();
    (!names.is_empty() && !names.contains(&found)).then(|| {
        format!(
            "`{image}` is for {found} on this machine, and the pods ask for nodes of {}: unless the registry has it for them too, \
             its programs will not start; `--arch {found}` asks for others",
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_another_architecture_is_refused() {
        for (found, nodes) in [
            ("amd64", "x86_64"),
            ("arm64", "aarch64"),
            ("s390x", "s390x"),
        ] {
            fits("x", found, nodes).unwrap();
        }
        let failure = fits("ferry/services:1", "amd64", "aarch64").unwrap_err();
        assert_eq!(
            failure.to_string(),
            "image `ferry/services:1` is for amd64, but the engine's machine is arm64, \
             so its programs would not start"
        );
        assert!(failure.next_step().unwrap().contains("docker image rm"));
    }

    #[test]
    fn an_image_that_is_for_other_nodes_is_doubted() {
        use Architecture::{Amd64, Arm64};
        let words = doubt("r.example/x:1", "x86_64", &[Arm64]).unwrap();
        assert!(
            words.starts_with("`r.example/x:1` is for amd64 on this machine"),
            "{words}"
        );
        assert!(words.contains("nodes of arm64") && words.contains("`--arch amd64`"));
        for (found, nodes) in [
            ("amd64", &[Amd64][..]),
            ("arm64", &[Amd64, Arm64]),
            ("arm64", &[]),
        ] {
            assert_eq!(doubt("x", found, nodes), None);
        }
    }
}
