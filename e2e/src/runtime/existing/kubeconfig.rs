//! The user's kubeconfig, as `kubectl` finds and merges it. Only read.

use std::path::{Path, PathBuf};

use kube::config::Kubeconfig;

use crate::failure::Failure;

/// The files that hold: the named one; else those of `KUBECONFIG` that are there; else `~/.kube/config`. Absolute.
/// <https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/>
pub(super) fn files(named: Option<&Path>) -> anyhow::Result<Vec<PathBuf>> {
    if let Some(named) = named {
        return Ok(vec![std::path::absolute(named)?]);
    }
    let listed = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let listed: Vec<_> = std::env::split_paths(&listed)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if listed.is_empty() {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        return home
            .map(|home| vec![home.join(".kube/config")])
            .ok_or_else(|| {
                Failure::usage("there is no `HOME` to look for a kubeconfig in")
                    .hint("name one by `--kubeconfig`")
                    .into()
            });
    }
    let mut there = vec![];
    for path in listed.iter().filter(|path| path.exists()) {
        there.push(std::path::absolute(path)?);
    }
    if there.is_empty() {
        let all: Vec<_> = listed
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        return Err(Failure::usage(format!(
            "no file of `KUBECONFIG={}` is there",
            all.join(":")
        ))
        .hint("name one by `--kubeconfig`")
        .into());
    }
    Ok(there)
}

/// All of `files` as one: of two entries of one name, the first counts.
pub(super) fn read(files: &[PathBuf]) -> anyhow::Result<Kubeconfig> {
    let mut merged = Kubeconfig::default();
    for file in files {
        // What stands in the file stays out of the message: it may be a key.
        let next = Kubeconfig::read_from(file).and_then(|next| merged.merge(next));
        merged = next.map_err(|error| {
            let cause = match &error {
                kube::config::KubeconfigError::ReadConfig(cause, _) => cause.to_string(),
                kube::config::KubeconfigError::Parse(_) => "it is no kubeconfig".into(),
                other => other.to_string(),
            };
            Failure::usage(format!(
                "kubeconfig `{}` cannot be read: {cause}",
                file.display()
            ))
            .hint("name another by `--kubeconfig`; `kubectl config view` shows what kubectl takes")
        })?;
    }
    Ok(merged)
}

/// Refuses a context that is not there, with those that are.
pub(super) fn check_context(
    config: &Kubeconfig,
    files: &[PathBuf],
    context: &str,
) -> anyhow::Result<()> {
    if config.contexts.iter().any(|named| named.name == context) {
        return Ok(());
    }
    let known: Vec<_> = config
        .contexts
        .iter()
        .map(|named| format!("`{}`", named.name))
        .collect();
    let files: Vec<_> = files
        .iter()
        .map(|file| format!("`{}`", file.display()))
        .collect();
    Err(Failure::usage(format!(
        "there is no context `{context}` in {}",
        files.join(" or ")
    ))
    .hint(if known.is_empty() {
        "it names no context at all".into()
    } else {
        format!("it has {}", known.join(", "))
    })
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster: { server: 'http://127.0.0.1:1' }\n\
        users:\n- name: u\n  user: { token: s3cret }\n\
        contexts:\n- name: one\n  context: { cluster: c, user: u }\n";

    #[test]
    fn files_are_merged_and_an_unknown_context_is_answered_with_the_known_ones() {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<_> = ["one", "two"]
            .map(|name| {
                let path = folder.path().join(name);
                std::fs::write(&path, ONE.replace("name: one", &format!("name: {name}"))).unwrap();
                path
            })
            .into();
        let config = read(&files).unwrap();
        for name in ["one", "two"] {
            check_context(&config, &files, name).unwrap();
        }
        let error = check_context(&config, &files, "three").unwrap_err();
        assert_eq!(Failure::exit_code(&error), 2);
        assert_eq!(
            Failure::of(&error).unwrap().next_step(),
            Some("it has `one`, `two`")
        );
    }

    #[test]
    fn what_cannot_be_read_is_named_and_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let error = read(std::slice::from_ref(&path)).unwrap_err();
        assert_eq!(Failure::exit_code(&error), 2, "{error}");
        std::fs::write(&path, "users: [s3cret").unwrap();
        let error = format!("{:#}", read(std::slice::from_ref(&path)).unwrap_err());
        assert!(
            error.contains("it is no kubeconfig") && !error.contains("s3cret"),
            "{error}"
        );
    }
}
