//! The registry's credentials, from a file that Docker writes.

use std::path::Path;

use crate::failure::Failure;

/// What is in the file, where a node can use it: some registry's credentials themselves, and not the name of a program on
/// this machine that has them.
/// <https://kubernetes.io/docs/tasks/configure-pod-container/pull-image-private-registry/#log-in-to-docker-hub>
pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    let refused = |cause: &str| {
        Failure::usage(format!("`{}`: {cause}", path.display())).hint(
            "name a Docker `config.json` with the credentials in it; `kubectl create secret docker-registry x --dry-run=client \
             -o jsonpath='{.data.\\.dockerconfigjson}' … | base64 -d` makes one",
        )
    };
    let text = std::fs::read_to_string(path).map_err(|error| refused(&error.to_string()))?;
    let config: serde_json::Value =
        serde_json::from_str(&text).map_err(|_| refused("it is no JSON"))?;
    let registries = config["auths"].as_object().map(|auths| auths.values());
    let usable = |registry: &serde_json::Value| {
        ["auth", "password", "identitytoken"]
            .iter()
            .any(|key| registry[key].as_str().is_some_and(|text| !text.is_empty()))
    };
    if registries.is_some_and(|mut all| all.any(usable)) {
        Ok(text)
    } else {
        Err(refused("it holds no credentials").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_credentials_that_a_node_can_use_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        assert_eq!(Failure::exit_code(&read(&path).unwrap_err()), 2);
        for text in [
            "",
            "[]",
            "{}",
            r#"{"auths":{}}"#,
            r#"{"auths":{"x":{}},"credsStore":"desktop"}"#,
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(Failure::exit_code(&read(&path).unwrap_err()), 2, "`{text}`");
        }
        let text = r#"{"auths":{"registry.example":{"auth":"dTpw"}}}"#;
        std::fs::write(&path, text).unwrap();
        assert_eq!(read(&path).unwrap(), text);
    }
}
