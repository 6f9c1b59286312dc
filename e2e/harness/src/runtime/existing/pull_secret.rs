//! Reads registry credentials from a Docker `config.json`.

use std::path::Path;

use blueprint::failure::Failure;
use host::text;
use render::Images;

/// What Docker Hub is called in the names of images, and in what `docker login` writes.
const DOCKER_HUB: [&str; 2] = ["docker.io", "index.docker.io"];

/// What a Secret of type `kubernetes.io/dockerconfigjson` needs so that nodes can pull the images: the credentials of their
/// registries out of the file, and nothing else that is in it.
/// <https://kubernetes.io/docs/tasks/configure-pod-container/pull-image-private-registry/#log-in-to-docker-hub>
///
/// # Errors
///
/// A [`Failure::usage`] where there are none that a node can use: not the name of a program on this machine that has them,
/// and not those of other registries.
pub(super) fn read(path: &Path, images: &Images) -> anyhow::Result<String> {
    let refused = |cause: &str| {
        Failure::usage(format!("`{}`: {cause}", path.display())).hint(
            "pass a Docker `config.json` that contains the credentials; create one with `kubectl \
             create secret docker-registry x --dry-run=client -o \
             jsonpath='{.data.\\.dockerconfigjson}' … | base64 -d`",
        )
    };
    let config = text::read(path).map_err(|error| refused(&error.to_string()))?;
    let config: serde_json::Value =
        serde_json::from_str(&config).map_err(|_| refused("it is no JSON"))?;
    let usable = |entry: &serde_json::Value| {
        ["auth", "password", "identitytoken"]
            .iter()
            .any(|key| entry[key].as_str().is_some_and(|text| !text.is_empty()))
    };
    let mut auths = config["auths"].as_object().cloned().unwrap_or_default();
    auths.retain(|_, entry| usable(entry));
    if auths.is_empty() {
        return Err(refused("it holds no credentials").into());
    }
    let held: Vec<_> = auths.keys().map(|entry| format!("`{entry}`")).collect();
    let names = images.all();
    let registries = names.each_ref().map(|image| registry(image));
    auths.retain(|entry, _| registries.iter().any(|registry| is_for(entry, registry)));
    if auths.is_empty() {
        return Err(refused(&format!(
            "it holds credentials for {}, and the images are `{}`",
            held.join(", "),
            names.join("` and `")
        ))
        .into());
    }
    Ok(serde_json::json!({ "auths": auths }).to_string())
}

/// Where an image comes from.
/// <https://github.com/distribution/reference/blob/main/normalize.go>
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => DOCKER_HUB[0],
    }
}

/// Whether a node may take an entry of the file for a registry. Where an entry is a pattern, or says which folders of the
/// registry it is for, that is left to the node.
/// <https://kubernetes.io/docs/concepts/containers/images/#config-json>
fn is_for(entry: &str, registry: &str) -> bool {
    let host = ["https://", "http://"]
        .iter()
        .find_map(|scheme| entry.strip_prefix(scheme))
        .unwrap_or(entry);
    let host = host.split('/').next().unwrap_or_default();
    let is_hub = |name| DOCKER_HUB.contains(&name);
    host == registry || (is_hub(host) && is_hub(registry)) || host.contains(['*', '?', '['])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(services: &str, envoy: &str) -> Images {
        Images {
            services: services.into(),
            envoy: envoy.into(),
            pull_policy: "IfNotPresent".into(),
            pull_secret: None,
            architectures: vec![],
            programs: None,
        }
    }

    #[test]
    fn node_usable_credentials_alone_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let images = images("registry.example/x:1", "registry.example/y:1");
        assert_eq!(
            Failure::exit_code(&read(&path, &images).unwrap_err()),
            2,
            "no file"
        );
        for text in [
            "",
            "[]",
            "{}",
            r#"{"auths":{}}"#,
            r#"{"auths":{"x":{}},"credsStore":"desktop"}"#,
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path, &images).unwrap_err();
            assert_eq!(Failure::exit_code(&error), 2, "`{text}`");
        }
        let text = r#"{"auths":{"registry.example":{"auth":"dTpw"}}}"#;
        std::fs::write(&path, text).unwrap();
        assert_eq!(read(&path, &images).unwrap(), text);
    }

    #[test]
    fn credentials_of_other_registries_stay_here() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let text = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"aHVi"},"localhost:5000":{"auth":"bG9jYWw="},
            "registry.example/team":{"auth":"dGVhbQ=="},"*.cloud.example":{"auth":"Y2xvdWQ="},"registry.example:5000":{}},
            "proxies":{"default":{"httpProxy":"http://me:s3cret@proxy.example"}}}"#;
        std::fs::write(&path, text).unwrap();
        for (services, envoy, expected) in [
            ("ferry/services:1", "envoyproxy/envoy:1", &["aHVi"][..]),
            ("localhost:5000/x:1", "envoy:1", &["aHVi", "bG9jYWw="]),
            (
                "registry.example/x:1",
                "docker.io/y:1",
                &["aHVi", "dGVhbQ=="],
            ),
        ] {
            let taken = read(&path, &images(services, envoy)).unwrap();
            for known in ["aHVi", "bG9jYWw=", "dGVhbQ=="] {
                assert_eq!(
                    taken.contains(known),
                    expected.contains(&known),
                    "{services}, {envoy}: {taken}"
                );
            }
            assert!(!taken.contains("s3cret"), "{taken}");
            assert!(taken.contains("Y2xvdWQ="), "a pattern is left to the node");
        }
        std::fs::write(&path, r#"{"auths":{"other.example":{"auth":"dTpw"}}}"#).unwrap();
        let error = read(&path, &images("registry.example/x:1", "envoy:1")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("for `other.example`, and the images are `registry.example/x:1`"),
            "{text}"
        );
        assert!(!text.contains("dTpw"), "{text}");
        assert_eq!(Failure::exit_code(&error), 2);
    }
}
