//! Creates folders and files of an environment, readable by their owner only, and removes them
//! completely or not at all.

use std::{
    fs::{self, DirBuilder},
    io::ErrorKind,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use blueprint::failure::Failure;
use jiff::{Timestamp, tz::TimeZone};

use super::{Layout, random_hex};
use crate::process;

/// In the name of a folder that is being deleted: `.<environment>.removed-<hex>`.
const REMOVED: &str = ".removed-";

/// A folder that only its owner can enter.
pub fn private_folder(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot create `{}`", path.display()))
}

/// Writes a file of mode `mode` by one rename: a reader sees the old content or the new, never a part.
pub fn replace_file(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    use std::{io::Write as _, os::unix::fs::PermissionsExt as _};
    let write = || -> anyhow::Result<()> {
        let folder = path.parent().context("it has no folder")?;
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .permissions(fs::Permissions::from_mode(mode))
            .tempfile_in(folder)?;
        file.write_all(content)?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write `{}`", path.display()))
}

/// The path without links, as the kernel shows it for the working folder of a process. What is not there is taken as it
/// is written, so that a folder keeps its path when it is deleted.
pub(super) fn canonical(folder: &Path) -> PathBuf {
    let there = folder
        .ancestors()
        .find_map(|part| Some((part.canonicalize().ok()?, part)));
    there
        .and_then(|(real, part)| Some(real.join(folder.strip_prefix(part).ok()?)))
        // Joining nothing would leave a slash at the end.
        .map(|path| path.components().collect())
        .unwrap_or_else(|| folder.into())
}

/// Deletes what killed commands were deleting below a state root.
pub(super) fn finish_removals(root: &Path) {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let ours = |name: &str| name.starts_with('.') && name.contains(REMOVED);
        if name.to_str().is_some_and(ours) {
            // What stays is tried again by the next sweep.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Layout {
    /// Deletes the folder, by a rename first: whenever this command is killed, there is a whole environment or none.
    /// Refused while a process that was started for it runs, since it could not be found again.
    pub fn remove(&self) -> anyhow::Result<()> {
        if let Some(running) = process::processes_under(self.root())?.first() {
            return Err(Failure::infrastructure(format!(
                "`{}` was not removed: {running} ({}) still runs in it",
                self.root().display(),
                running.name()
            ))
            .hint("run `cargo xtask sweep` to end it and remove the folder")
            .into());
        }
        let cannot = || format!("cannot delete `{}`", self.root().display());
        let doomed = self.beside(|name| format!(".{name}{REMOVED}{}", random_hex(12)))?;
        match fs::rename(self.root(), &doomed) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            renamed => renamed.with_context(cannot)?,
        }
        fs::remove_dir_all(&doomed).with_context(cannot)
    }

    /// Whether there is something in it that cannot be made again: keys, what sinks have stored, credentials of clusters.
    pub fn holds_what_is_kept(&self) -> bool {
        [
            self.identity(),
            self.kubeconfig(),
            self.root().join("pods"),
            self.root().join("k3d"),
        ]
        .iter()
        .any(|path| path.exists())
    }

    /// Moves the folder to a name that is no environment's, `<environment>.unreadable-<time>`, which is returned.
    pub fn set_aside(&self) -> anyhow::Result<PathBuf> {
        let now = Timestamp::now().to_zoned(TimeZone::UTC);
        let now = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let aside = self.beside(|name| format!("{name}.unreadable-{now}-{}", random_hex(4)))?;
        fs::rename(self.root(), &aside).with_context(|| {
            format!(
                "cannot move `{}` to `{}`",
                self.root().display(),
                aside.display()
            )
        })?;
        Ok(aside)
    }

    fn beside(&self, name: impl FnOnce(&str) -> String) -> anyhow::Result<PathBuf> {
        let own = self.root().file_name().and_then(|name| name.to_str());
        let own = own.with_context(|| format!("`{}` has no name", self.root().display()))?;
        Ok(self.root().with_file_name(name(own)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolved_path_is_same_before_and_after_mkdir() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        fs::create_dir(real.join("real")).unwrap();
        std::os::unix::fs::symlink(real.join("real"), real.join("link")).unwrap();
        let state = real.join("link/state/local");
        assert_eq!(canonical(&state), real.join("real/state/local"));
        fs::create_dir_all(&state).unwrap();
        assert_eq!(canonical(&state), real.join("real/state/local"));
        assert_eq!(canonical(&real.join("link")), real.join("real"));
    }

    #[test]
    fn a_removal_that_was_killed_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".local.removed-0a", "local.unreadable-1", "local", ".git"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("file"), "").unwrap();
        }
        finish_removals(folder.path());
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, [".git", "local", "local.unreadable-1"]);
    }

    #[test]
    fn what_is_set_aside_is_whole_and_closed() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().join("local"));
        private_folder(layout.root()).unwrap();
        assert!(!layout.holds_what_is_kept());
        private_folder(&layout.identity()).unwrap();
        fs::write(layout.identity().join("root.key"), "secret").unwrap();
        assert!(layout.holds_what_is_kept());
        let aside = layout.set_aside().unwrap();
        assert!(!layout.root().exists());
        let key = fs::read_to_string(aside.join("identity/root.key")).unwrap();
        assert_eq!(key, "secret");
        assert_eq!(
            fs::metadata(&aside).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }
}
