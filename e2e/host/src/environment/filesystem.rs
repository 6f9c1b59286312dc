//! Checks that a file system supports modes, links and sockets. `/mnt/c` of WSL2, exFAT and
//! some network shares do not.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, ErrorKind},
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{OpenOptionsExt as _, PermissionsExt as _, symlink},
            net::UnixListener,
        },
    },
    path::Path,
};

use anyhow::Context as _;
use blueprint::failure::Failure;

use super::{RuntimeKind, STATE_VARIABLE};

/// Mode of a file with a key.
const KEY: u32 = 0o600;

/// What a file system does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    /// A file of mode 0600 has this one.
    Modes(u32),
    Links,
    Sockets,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Modes(seen) => write!(
                f,
                "keeps no file modes ({KEY:04o} becomes {seen:04o}), so that others could read the keys in it"
            ),
            Self::Links => f.write_str("has no symbolic links"),
            Self::Sockets => f.write_str("has no Unix sockets"),
        }
    }
}

/// What is going to lie in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Files with keys.
    Keys,
    /// Keys, and links that replace several of them by one rename.
    State,
    /// The same, and the sockets of processes.
    Processes,
}

/// Refuses a folder, a state root or one in it, that cannot keep an environment of this runtime.
pub fn check_state(folder: &Path, runtime: RuntimeKind) -> anyhow::Result<()> {
    let content = match runtime {
        RuntimeKind::Embedded => Content::Processes,
        RuntimeKind::K3d | RuntimeKind::Existing => Content::State,
    };
    let fix = format!(
        "set `{STATE_VARIABLE}` to a folder on a file system of Linux, such as `$HOME/.local/state/ferry`"
    );
    check(folder, content, &fix)
}

/// Refuses a folder on a file system that cannot keep `content`; where it is not there yet, by the folder in which it will
/// be. `fix` says where else it may lie.
///
/// # Errors
///
/// An infrastructure failure that names the folder and what its file system does not do.
pub fn check(folder: &Path, content: Content, fix: &str) -> anyhow::Result<()> {
    let there = folder.ancestors().find(|above| above.is_dir());
    let lack = look(there.unwrap_or(folder), content)
        .with_context(|| format!("cannot write in `{}`", folder.display()))?;
    match lack {
        None => Ok(()),
        Some(lack) => Err(Failure::infrastructure(format!(
            "the file system of `{}` {lack}",
            folder.display()
        ))
        .hint(fix)
        .into()),
    }
}

/// The first thing that it does not do, of those that `content` needs.
fn look(folder: &Path, content: Content) -> io::Result<Option<Lack>> {
    let probe = tempfile::Builder::new()
        .prefix(".probe-")
        .tempdir_in(folder)?;
    let key = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(KEY)
        .open(probe.path().join("key"))?;
    if let Some(lack) = lack_of_modes(key.metadata()?.permissions().mode()) {
        return Ok(Some(lack));
    }
    if content != Content::Keys && is_refused(symlink("key", probe.path().join("link")))? {
        return Ok(Some(Lack::Links));
    }
    if content == Content::Processes && is_refused(listen(probe.path()))? {
        return Ok(Some(Lack::Sockets));
    }
    Ok(None)
}

fn lack_of_modes(mode: u32) -> Option<Lack> {
    let mode = mode & 0o7777;
    // Less than was asked for is what the user's own mask does.
    (mode & !KEY != 0).then_some(Lack::Modes(mode))
}

/// A full disk, or a folder that may not be written, is not for want of a feature.
fn is_refused<T>(tried: io::Result<T>) -> io::Result<bool> {
    match tried {
        Ok(_) => Ok(false),
        Err(error) => match error.kind() {
            ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::NotFound => Err(error),
            _ => Ok(true),
        },
    }
}

/// By the folder's descriptor, since the path of a socket has 108 bytes at most, as `crate::http` dials it.
fn listen(folder: &Path) -> io::Result<UnixListener> {
    let open = File::open(folder)?;
    UnixListener::bind(format!("/proc/self/fd/{}/socket", open.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_file_system_keeps_everything() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("x".repeat(200)).join("y".repeat(200));
        std::fs::create_dir_all(&deep).unwrap();
        for content in [Content::Keys, Content::State, Content::Processes] {
            for folder in [folder.path(), &deep] {
                assert_eq!(look(folder, content).unwrap(), None, "{content:?}");
                check(folder, content, "").unwrap();
            }
        }
        assert_eq!(std::fs::read_dir(&deep).unwrap().count(), 0);
    }

    #[test]
    fn a_mode_that_is_wider_than_asked_for_is_a_lack() {
        for (mode, lack) in [
            (0o100_600, None),
            (0o100_400, None),
            (0o100_777, Some(Lack::Modes(0o777))),
            (0o100_755, Some(Lack::Modes(0o755))),
            (0o100_644, Some(Lack::Modes(0o644))),
            (0o100_660, Some(Lack::Modes(0o660))),
            (0o100_700, Some(Lack::Modes(0o700))),
        ] {
            assert_eq!(lack_of_modes(mode), lack, "{mode:o}");
        }
        assert_eq!(
            Lack::Modes(0o777).to_string(),
            "keeps no file modes (0600 becomes 0777), so that others could read the keys in it"
        );
    }

    #[test]
    fn refused_feature_differs_from_obstacle() {
        let of = |error: ErrorKind| is_refused::<()>(Err(error.into()));
        // What exFAT, drvfs and CIFS answer.
        for kind in [
            ErrorKind::Unsupported,
            ErrorKind::PermissionDenied,
            ErrorKind::InvalidInput,
            ErrorKind::Other,
        ] {
            assert!(of(kind).unwrap(), "{kind:?}");
        }
        for kind in [ErrorKind::StorageFull, ErrorKind::ReadOnlyFilesystem] {
            assert_eq!(of(kind).unwrap_err().kind(), kind);
        }
        assert!(!is_refused(Ok(())).unwrap());
    }

    #[test]
    fn missing_folder_is_judged_by_its_parent() {
        let folder = tempfile::tempdir().unwrap();
        check(&folder.path().join("a/b/c"), Content::State, "x").unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let error = check(Path::new("/proc/a/b"), Content::State, "x").unwrap_err();
        assert!(format!("{error:#}").contains("`/proc/a/b`"), "{error:#}");
    }
}
