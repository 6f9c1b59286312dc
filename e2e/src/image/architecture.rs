//! Processor architectures, in the words of Go, which images and Kubernetes use.

use super::docker;
use crate::{docker::Info, failure::Failure};

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
        "the image `{image}` is for {found}, and the engine's machine is {nodes}: its programs would not start"
    ))
    .hint(format!(
        "remove it (`docker image rm {image}`) and unset `DOCKER_DEFAULT_PLATFORM`, so that it is fetched or built for {nodes}, or name another image"
    )))
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
            "the image `ferry/services:1` is for amd64, and the engine's machine is arm64: its programs would not start"
        );
        assert!(failure.next_step().unwrap().contains("docker image rm"));
    }
}
