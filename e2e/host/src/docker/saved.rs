//! Parses the output of `docker save`, for images whose id alone does not identify what arrives
//! on a node.

use std::{fs::File, io::Read, process::Stdio, time::Duration};

use anyhow::Context as _;
use blueprint::failure::Failure;
use serde::Deserialize;

use super::images::{no_pipe, spawn};

/// The file of an archive that names the configuration of each image in it.
/// <https://github.com/moby/docker-image-spec/blob/main/v1.2.md#combined-image-json--filesystem-changeset-format>
const INDEX: &str = "manifest.json";
const LONGEST_INDEX: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    /// `blobs/sha256/<digest>` or `<digest>.json`.
    config: String,
}

/// `sha256:…` of the configuration of what `docker save` hands out under this name.
///
/// An engine that keeps its images in containerd goes by the digest of an index, and hands out the one manifest of it that
/// it has: neither of both is what a node knows the image by.
pub async fn config_digest(reference: &str, limit: Duration) -> anyhow::Result<String> {
    let mut save = spawn(&["save"], &[reference.to_owned()], Stdio::null())?;
    let archive = save.output().ok_or_else(no_pipe)?;
    let archive = File::from(archive.into_owned_fd()?);
    let read = tokio::task::spawn_blocking(move || digest_in(archive));
    let found = tokio::time::timeout(limit, read).await.map_err(|_| {
        Failure::infrastructure(format!(
            "`docker save {reference}` did not finish within {limit:.0?}"
        ))
    })??;
    found.with_context(|| format!("`docker save {reference}` contains no configuration"))
}

/// Reads to the end, so that the writer of the archive does not find its pipe closed.
fn digest_in(archive: impl Read) -> anyhow::Result<String> {
    let mut archive = tar::Archive::new(archive);
    let mut found = None;
    for entry in archive.entries()? {
        let entry = entry?;
        if entry.path()?.to_str() == Some(INDEX) {
            let entries: Vec<Entry> = serde_json::from_reader(entry.take(LONGEST_INDEX))?;
            found = entries.into_iter().next();
        }
    }
    let config = found.context("the archive has no index of images")?.config;
    let name = config.rsplit('/').next().unwrap_or_default();
    let digest = name.strip_suffix(".json").unwrap_or(name);
    anyhow::ensure!(
        digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "`{config}` is not a digest"
    );
    Ok(format!("sha256:{digest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(vec![]);
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len().try_into().unwrap());
            header.set_mode(0o644);
            header.set_cksum();
            archive
                .append_data(&mut header, name, content.as_bytes())
                .unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn a_saved_image_is_known_by_its_configuration() {
        let digest = "ab".repeat(32);
        for config in [format!("{digest}.json"), format!("blobs/sha256/{digest}")] {
            let index = format!(r#"[{{"Config":"{config}","RepoTags":["a:b"],"Layers":[]}}]"#);
            let saved = archive(&[("oci-layout", "{}"), (INDEX, &index), ("layer.tar", "x")]);
            assert_eq!(
                digest_in(saved.as_slice()).unwrap(),
                format!("sha256:{digest}")
            );
        }
        for broken in [
            archive(&[("index.json", "{}")]),
            archive(&[(INDEX, r#"[{"Config":"../../etc"}]"#)]),
            archive(&[(INDEX, "[]")]),
            archive(&[(INDEX, "{")]),
        ] {
            assert!(digest_in(broken.as_slice()).is_err());
        }
    }
}
