//! Writes the kubeconfig files of an environment: one per cluster and one with all. Never
//! changes the user's.

use std::path::Path;

use anyhow::Context as _;
use host::environment::replace_file;
use kube::config::Kubeconfig;

/// Writes what k3d printed, after a look at whether it is a kubeconfig with the context `context`.
pub(super) fn save(text: &str, context: &str, path: &Path) -> anyhow::Result<()> {
    let config = Kubeconfig::from_yaml(text)
        .with_context(|| format!("cannot parse the kubeconfig of `{context}`"))?;
    anyhow::ensure!(
        config.contexts.iter().any(|named| named.name == context),
        "k3d's kubeconfig has no context `{context}`"
    );
    replace_file(path, text.as_bytes(), 0o600)
}

/// Writes all of `files` as one, with the context that the user chose there before, else the first.
pub(super) fn merge(files: &[impl AsRef<Path>], path: &Path) -> anyhow::Result<()> {
    let chosen = Kubeconfig::read_from(path)
        .ok()
        .and_then(|before| before.current_context);
    let mut merged = Kubeconfig::default();
    for file in files {
        let file = file.as_ref();
        let next = Kubeconfig::read_from(file)
            .with_context(|| format!("`{}` cannot be read", file.display()))?;
        merged = merged.merge(next)?;
    }
    if merged
        .contexts
        .iter()
        .any(|named| Some(&named.name) == chosen.as_ref())
    {
        merged.current_context = chosen;
    }
    // JSON is YAML too; kubectl writes its own style when it changes the file.
    replace_file(path, &serde_json::to_vec_pretty(&merged)?, 0o600)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn config(name: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: k3d-{name}\npreferences: {{}}\n\
             clusters:\n- name: k3d-{name}\n  cluster:\n    server: https://127.0.0.1:1\n    certificate-authority-data: QUJD\n\
             users:\n- name: admin@k3d-{name}\n  user:\n    client-certificate-data: QUJD\n    client-key-data: c2VjcmV0\n\
             contexts:\n- name: k3d-{name}\n  context:\n    cluster: k3d-{name}\n    user: admin@k3d-{name}\n"
        )
    }

    #[test]
    fn merged_kubeconfig_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["a", "b"].map(|name| {
            let path = folder.path().join(name);
            save(&config(name), &format!("k3d-{name}"), &path).unwrap();
            path
        });
        let merged = folder.path().join("kubeconfig");
        merge(&files, &merged).unwrap();
        for path in files.iter().chain([&merged]) {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        let read = Kubeconfig::read_from(&merged).unwrap();
        let contexts: Vec<_> = read
            .contexts
            .iter()
            .map(|named| named.name.as_str())
            .collect();
        assert_eq!(contexts, ["k3d-a", "k3d-b"]);
        assert_eq!(read.current_context.as_deref(), Some("k3d-a"));
        assert_eq!(
            std::fs::read_to_string(&merged)
                .unwrap()
                .matches("c2VjcmV0")
                .count(),
            2
        );
    }

    #[test]
    fn chosen_context_stays_with_its_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| {
            let path = folder.path().join(name);
            std::fs::write(&path, config(name)).unwrap();
            path
        });
        let merged = folder.path().join("kubeconfig");
        std::fs::write(&merged, config("b")).unwrap();
        merge(&[&a, &b], &merged).unwrap();
        assert_eq!(
            Kubeconfig::read_from(&merged)
                .unwrap()
                .current_context
                .as_deref(),
            Some("k3d-b")
        );
        merge(&[&a], &merged).unwrap();
        assert_eq!(
            Kubeconfig::read_from(&merged)
                .unwrap()
                .current_context
                .as_deref(),
            Some("k3d-a")
        );
    }

    #[test]
    fn foreign_kubeconfig_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for text in ["", "- 1", &config("other")] {
            assert!(
                save(text, "k3d-a", &path).is_err(),
                "`{text}` must be refused"
            );
        }
        assert!(!path.exists());
    }
}
