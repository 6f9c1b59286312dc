//! Finds and merges the user's kubeconfig as `kubectl` does. Reads each file once and writes
//! none.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::Context as _;
use blueprint::failure::Failure;
use host::{environment::replace_file, timeline::Timeline};
use kube::config::{Kubeconfig, KubeconfigError};

/// The files that hold: the named one; else those of `KUBECONFIG` that are there; else `~/.kube/config`. Absolute.
/// <https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/>
pub fn files(named: Option<&Path>) -> anyhow::Result<Vec<PathBuf>> {
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
                Failure::usage("cannot find a kubeconfig: `HOME` is not set")
                    .hint("pass one with `--kubeconfig`")
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
        return Err(
            Failure::usage(format!("no file of `KUBECONFIG={}` exists", all.join(":")))
                .hint("pass one with `--kubeconfig`")
                .into(),
        );
    }
    Ok(there)
}

/// All of the files as one.
pub struct Read {
    pub config: Kubeconfig,
    files: Vec<(PathBuf, Option<Kubeconfig>)>,
}

/// What was read of files that give it once only: a command may do its work several times over.
static READ_ONCE: Mutex<BTreeMap<PathBuf, Kubeconfig>> = Mutex::new(BTreeMap::new());

/// All of `files` as one: of two entries of one name, the first counts.
pub fn read(files: &[PathBuf]) -> anyhow::Result<Read> {
    let mut read = Read {
        config: Kubeconfig::default(),
        files: vec![],
    };
    for file in files {
        // What stands in the file stays out of the message: it may be a key.
        let refused = |error: &KubeconfigError| {
            let cause = match error {
                KubeconfigError::ReadConfig(cause, _) => cause.to_string(),
                KubeconfigError::Parse(_) => "it is no kubeconfig".into(),
                other => other.to_string(),
            };
            Failure::usage(format!(
                "cannot read kubeconfig `{}`: {cause}",
                file.display()
            ))
            .hint(
                "pass another with `--kubeconfig`; run `kubectl config view` to see the one of \
                   kubectl",
            )
        };
        let next = if gives_it_once(file) {
            let mut known = READ_ONCE.lock().unwrap_or_else(PoisonError::into_inner);
            let next = match known.get(file) {
                Some(next) => next.clone(),
                None => Kubeconfig::read_from(file).map_err(|error| refused(&error))?,
            };
            known.insert(file.clone(), next.clone());
            read.files.push((file.clone(), Some(next.clone())));
            next
        } else {
            read.files.push((file.clone(), None));
            Kubeconfig::read_from(file).map_err(|error| refused(&error))?
        };
        read.config = read.config.merge(next).map_err(|error| refused(&error))?;
    }
    Ok(read)
}

/// Whether another command would find something else there: the other end of a pipe, or what only this process has open.
fn gives_it_once(file: &Path) -> bool {
    let is_a_file = std::fs::metadata(file).is_ok_and(|found| found.is_file());
    let is_open_here = ["/dev", "/proc"].iter().any(|root| file.starts_with(root));
    is_open_here || (file.exists() && !is_a_file)
}

impl Read {
    /// The files that later commands read: those that were named, and in place of each that gives its text once only a copy in
    /// `folder`, for its owner alone. Copies that `before` names and that are in use no more are removed.
    pub fn keep(
        &self,
        folder: &Path,
        before: &[PathBuf],
        timeline: &Timeline,
    ) -> anyhow::Result<Vec<PathBuf>> {
        let mut kept = vec![];
        for (number, (file, once)) in self.files.iter().enumerate() {
            let Some(once) = once else {
                kept.push(file.clone());
                continue;
            };
            let copy = folder.join(format!("kubeconfig.{number}"));
            // JSON is YAML too. Paths in it are absolute by now.
            replace_file(&copy, &serde_json::to_vec_pretty(once)?, 0o600)?;
            timeline.note(format!(
                "`{}` can be read once only: later commands read `{}`, which goes with the environment",
                file.display(),
                copy.display()
            ));
            kept.push(copy);
        }
        for old in before {
            if old.starts_with(folder) && !kept.contains(old) && old.exists() {
                std::fs::remove_file(old)
                    .with_context(|| format!("cannot remove `{}`", old.display()))?;
            }
        }
        Ok(kept)
    }

    /// Refuses a context that is not there, with those that are.
    pub fn check_context(&self, context: &str) -> anyhow::Result<()> {
        let contexts = &self.config.contexts;
        if contexts.iter().any(|named| named.name == context) {
            return Ok(());
        }
        let known: Vec<_> = contexts
            .iter()
            .map(|named| format!("`{}`", named.name))
            .collect();
        let files: Vec<_> = self
            .files
            .iter()
            .map(|(file, _)| format!("`{}`", file.display()))
            .collect();
        Err(
            Failure::usage(format!("no context `{context}` in {}", files.join(" or ")))
                .hint(if known.is_empty() {
                    "it has no contexts".into()
                } else {
                    format!("it has {}", known.join(", "))
                })
                .into(),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
    };

    use super::*;

    const ONE: &str = "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster: { server: 'http://127.0.0.1:1' }\n\
        users:\n- name: u\n  user: { token: s3cret }\n\
        contexts:\n- name: one\n  context: { cluster: c, user: u }\n";

    #[test]
    fn files_merge_and_unknown_context_lists_known() {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<_> = ["one", "two"]
            .map(|name| {
                let path = folder.path().join(name);
                std::fs::write(&path, ONE.replace("name: one", &format!("name: {name}"))).unwrap();
                path
            })
            .into();
        let read = read(&files).unwrap();
        for name in ["one", "two"] {
            read.check_context(name).unwrap();
        }
        let error = read.check_context("three").unwrap_err();
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
        let error = read(std::slice::from_ref(&path)).err().unwrap();
        assert_eq!(Failure::exit_code(&error), 2, "{error}");
        std::fs::write(&path, "users: [s3cret").unwrap();
        let error = format!("{:#}", read(std::slice::from_ref(&path)).err().unwrap());
        assert!(
            error.contains("it is no kubeconfig") && !error.contains("s3cret"),
            "{error}"
        );
    }

    /// A path that gives `text` once, and what must stay open for it.
    fn pipe(text: &str) -> (PathBuf, std::io::PipeReader) {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        (format!("/dev/fd/{}", reader.as_raw_fd()).into(), reader)
    }

    #[test]
    fn one_time_input_is_kept_for_later_commands() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other");
        std::fs::write(&other, ONE.replace("name: one", "name: two")).unwrap();
        let (once, _open) = pipe(ONE);
        let files = [other.clone(), once];
        let timeline = Timeline::default();
        // A command may look at it several times.
        for _ in 0..2 {
            let found = read(&files).unwrap();
            found.check_context("one").unwrap();
            found.check_context("two").unwrap();
        }
        let kept = read(&files)
            .unwrap()
            .keep(folder.path(), &[], &timeline)
            .unwrap();
        let copy = folder.path().join("kubeconfig.1");
        assert_eq!(kept, [other.clone(), copy.clone()]);
        assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let later = read(&kept).unwrap();
        later.check_context("one").unwrap();
        // The copy itself is a file as any other, and goes when it is used no more.
        let files = [other];
        let same = later.keep(folder.path(), &kept, &timeline).unwrap();
        assert_eq!(same, kept);
        let fewer = read(&files).unwrap();
        assert_eq!(fewer.keep(folder.path(), &kept, &timeline).unwrap(), files);
        assert!(!copy.exists());
    }

    #[test]
    fn paths_in_a_file_are_relative_to_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a,b");
        let text = "clusters:\n- name: c\n  cluster: { server: 'https://x', certificate-authority: ca.crt }\n\
            users:\n- name: u\n  user: { tokenFile: t, exec: { command: ./login } }\n";
        std::fs::write(&path, text).unwrap();
        let config = read(&[path]).unwrap().config;
        let cluster = config.clusters[0].cluster.as_ref().unwrap();
        let user = config.auth_infos[0].auth_info.as_ref().unwrap();
        for (found, file) in [
            (&cluster.certificate_authority, "ca.crt"),
            (&user.token_file, "t"),
            (&user.exec.as_ref().unwrap().command, "./login"),
        ] {
            let expected = folder.path().join(file);
            assert_eq!(found.as_deref(), expected.to_str(), "{file}");
        }
    }
}
