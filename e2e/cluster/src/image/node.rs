//! Parses `ctr images list` of a node. Does no I/O.
//!
//! containerd lists an image under its name with the digest of its manifest. The kubelet's side of containerd adds a row
//! named by the digest of the configuration, which is the image's id for Docker and for Kubernetes; once that row is
//! there, the kubelet can use the image.

/// The rows of `ctr images list` (`REF TYPE DIGEST …`).
#[derive(Debug)]
pub(super) struct Listing {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    digest: String,
}

/// How an image of this machine stands on a node.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Absent,
    /// There, but the kubelet cannot use it yet.
    Unnoticed,
    Same,
    /// Under the same name there is another image, with these ids.
    Other(Vec<String>),
}

impl Listing {
    pub(super) fn parse(text: &str) -> Self {
        let rows = text.lines().skip(1).filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (name, _kind, digest) = (fields.next()?, fields.next()?, fields.next()?);
            Some(Row {
                name: name.into(),
                digest: digest.into(),
            })
        });
        Self {
            rows: rows.collect(),
        }
    }

    /// Compares the image `name` with the one whose id is `local` on this machine.
    pub(super) fn presence(&self, name: &str, local: &str) -> Presence {
        let name = full_name(name);
        let Some(named) = self.rows.iter().find(|row| row.name == name) else {
            return Presence::Absent;
        };
        let ids: Vec<_> = self
            .rows
            .iter()
            .filter(|row| row.digest == named.digest && row.name.starts_with("sha256:"))
            .map(|row| row.name.clone())
            .collect();
        if ids.is_empty() {
            Presence::Unnoticed
        } else if ids.iter().any(|id| id == local) || named.digest == local {
            // A Docker engine that keeps its images in containerd goes by the manifest's digest.
            Presence::Same
        } else {
            Presence::Other(ids)
        }
    }
}

/// An image's name as containerd keeps it: with its registry, `library` and tag.
/// <https://github.com/distribution/reference/blob/main/normalize.go>
pub(super) fn full_name(name: &str) -> String {
    let with_registry = match name.split_once('/') {
        None => format!("docker.io/library/{name}"),
        Some((first, _)) if !first.contains(['.', ':']) && first != "localhost" => {
            format!("docker.io/{name}")
        }
        Some(_) => name.to_owned(),
    };
    let last = with_registry.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) {
        with_registry
    } else {
        format!("{with_registry}:latest")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
REF                                TYPE                                                 DIGEST          SIZE      PLATFORMS   LABELS
docker.io/envoyproxy/envoy:v1.40.0 application/vnd.docker.distribution.manifest.v2+json sha256:manifest 183.2 MiB linux/amd64 io.cri-containerd.image=managed
docker.io/ferry/services:new       application/vnd.docker.distribution.manifest.v2+json sha256:fresh    9.0 MiB   linux/amd64 -
sha256:config                      application/vnd.docker.distribution.manifest.v2+json sha256:manifest 183.2 MiB linux/amd64 io.cri-containerd.image=managed
";

    #[test]
    fn image_matches_by_configuration_or_manifest() {
        let listing = Listing::parse(LIST);
        let envoy = |id| listing.presence("envoyproxy/envoy:v1.40.0", id);
        assert_eq!(envoy("sha256:config"), Presence::Same);
        assert_eq!(envoy("sha256:manifest"), Presence::Same);
        assert_eq!(
            envoy("sha256:fresh"),
            Presence::Other(vec!["sha256:config".into()])
        );
    }

    #[test]
    fn image_unknown_to_kubelet_is_missing() {
        let listing = Listing::parse(LIST);
        assert_eq!(
            listing.presence("ferry/services:new", "sha256:x"),
            Presence::Unnoticed
        );
        assert_eq!(
            listing.presence("ferry/services:other", "sha256:x"),
            Presence::Absent
        );
        assert_eq!(Listing::parse("").presence("a", "b"), Presence::Absent);
    }

    #[test]
    fn names_are_completed_as_containerd_does() {
        for (name, full) in [
            ("debian", "docker.io/library/debian:latest"),
            ("ferry/services:a", "docker.io/ferry/services:a"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x:1", "localhost:5000/x:1"),
            ("ghcr.io/a/b:1", "ghcr.io/a/b:1"),
        ] {
            assert_eq!(full_name(name), full);
        }
    }
}
