//! Finds processes without a record: by their working folder, and by the label that
//! [`super::Launch`] sets.

use std::{
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{LABEL, ProcessId};

/// How the kernel shows that a folder is no more.
const DELETED: &[u8] = b" (deleted)";

/// The detached processes whose working folder is `folder` or lies below it, recorded or not.
///
/// Finds what a command started that was killed before it could record it. A process is never judged by its name, and
/// one that was not started by [`Launch`] is not among them; nor is an [`Orphan`] of a folder that was there before.
pub fn processes_under(folder: &Path) -> anyhow::Result<Vec<ProcessId>> {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.into());
    let found = every_pid()?.filter_map(|pid| {
        // Unreadable: it has ended, or is another user's.
        let cwd = working_folder(pid)?;
        let below = cwd.starts_with(&folder) && !is_deleted(pid, &cwd);
        (below && label_of(pid).is_some()).then(|| ProcessId::of(pid))?
    });
    Ok(found.collect())
}

/// A detached process whose working folder was deleted under it, so that no record leads to it any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    pub process: ProcessId,
    /// The folder as it was called when the process was started in it. There may be another of this name by now.
    pub started_in: PathBuf,
}

/// The orphans that were started below `root`, which need not be there any more.
pub fn orphans_under(root: &Path) -> anyhow::Result<Vec<Orphan>> {
    let found = every_pid()?.filter_map(|pid| {
        let cwd = working_folder(pid)?;
        if !is_deleted(pid, &cwd) {
            return None;
        }
        let started_in = label_of(pid)?;
        let process = started_in.starts_with(root).then(|| ProcessId::of(pid))??;
        Some(Orphan {
            process,
            started_in,
        })
    });
    Ok(found.collect())
}

/// All pids of this PID namespace, ascending.
fn every_pid() -> anyhow::Result<impl Iterator<Item = u32>> {
    let entries = std::fs::read_dir("/proc").context("cannot read `/proc`")?;
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut pids: Vec<_> = pids.collect();
    pids.sort_unstable();
    Ok(pids.into_iter())
}

/// As the kernel shows it: with ` (deleted)` at its end where it is no more (proc_pid_cwd(5)).
fn working_folder(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// Whether the working folder of a process, shown as `cwd`, was deleted. A folder may well be called `… (deleted)`; it is
/// the one at its path then.
fn is_deleted(pid: u32, cwd: &Path) -> bool {
    if !cwd.as_os_str().as_bytes().ends_with(DELETED) {
        return false;
    }
    let number = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    let open = number(Path::new(&format!("/proc/{pid}/cwd")));
    // Unreadable: it has ended in the meantime.
    open.is_some() && open != number(cwd)
}

/// Returns what [`started_in`] does, once the process has become the program that it is to be.
///
/// In the moment of execve(2) the kernel shows no environment at all. Nothing tells a process of Ferry from another one
/// then, and neither may be taken for the other.
fn label_of(pid: u32) -> Option<PathBuf> {
    let deadline = Instant::now() + EXEC_LIMIT;
    while is_in_between(pid) && Instant::now() < deadline {
        std::thread::yield_now();
    }
    started_in(pid)
}

/// How long execve(2) may take: microseconds, more on a busy machine. No pause is short enough for it.
const EXEC_LIMIT: Duration = Duration::from_secs(2);

/// Whether a process is in the moment of execve(2): it has no place for an environment then. A program that runs without
/// any variable has such a place, which is empty.
fn is_in_between(pid: u32) -> bool {
    /// The fields `state` and `env_start` of `/proc/PID/stat`, the third and the 50th of all (proc_pid_stat(5)), counted
    /// from the first behind the name.
    const STATE: usize = 0;
    const ENV_START: usize = 47;
    // The name may hold any byte, a bracket and a space among them.
    let no_place = |stat: String| {
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(*fields.get(STATE)? != "Z" && *fields.get(ENV_START)? == "0")
    };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    stat.and_then(no_place) == Some(true)
}

/// The folder that a process was started in by [`Launch`]; `None` for a process that Ferry has not
/// started.
pub fn started_in(pid: u32) -> Option<PathBuf> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    environment
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(LABEL.as_bytes())?.strip_prefix(b"="))
        .map(|folder| PathBuf::from(std::ffi::OsStr::from_bytes(folder)))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, process::Command};

    use super::*;
    use crate::{
        process::{Launch, stop},
        wait::{Seen, Wait},
    };

    fn shell(folder: &Path, script: &str) -> Launch {
        let folder = folder.canonicalize().unwrap();
        Launch {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: BTreeMap::new(),
            log: folder.join("log"),
            folder,
        }
    }

    #[tokio::test]
    async fn process_of_deleted_folder_is_orphan() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let folder = root.join("local/pods/sink");
        std::fs::create_dir_all(&folder).unwrap();
        let id = shell(&folder, "exec sleep 600").start().unwrap();
        // The label is there once the shell runs.
        Wait::until("the label")
            .poll(|| async {
                Ok(match started_in(id.pid) {
                    Some(_) => Seen::Ready(()),
                    None => Seen::Waiting("no label".into()),
                })
            })
            .await
            .unwrap();
        assert_eq!(orphans_under(&root).unwrap(), []);
        std::fs::remove_dir_all(root.join("local")).unwrap();
        let orphan = Orphan {
            process: id,
            started_in: folder.clone(),
        };
        let alone = std::slice::from_ref(&orphan);
        assert_eq!(orphans_under(&root).unwrap(), alone);
        // A folder that is made at the same place since is another one.
        std::fs::create_dir_all(&folder).unwrap();
        let other = shell(&folder, "exec sleep 600").start().unwrap();
        assert_eq!(orphans_under(&root).unwrap(), [orphan]);
        assert_eq!(processes_under(&root).unwrap(), [other]);
        assert_eq!(orphans_under(&root.join("other")).unwrap(), []);
        stop(&[id, other], Duration::from_secs(20)).await.unwrap();
    }

    #[tokio::test]
    async fn moved_or_odd_folder_is_not_gone() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let (before, after) = (root.join("x"), root.join("y (deleted)"));
        std::fs::create_dir(&before).unwrap();
        let id = shell(&before, "exec sleep 600").start().unwrap();
        std::fs::rename(&before, &after).unwrap();
        assert_eq!(orphans_under(&root).unwrap(), []);
        assert_eq!(processes_under(&after).unwrap(), [id]);
        stop(&[id], Duration::from_secs(20)).await.unwrap();
    }

    #[tokio::test]
    async fn process_is_found_by_folder_until_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let below = folder.path().join("pods/sink");
        std::fs::create_dir_all(&below).unwrap();
        let id = shell(&below, "exec sleep 600").start().unwrap();
        assert_eq!(processes_under(folder.path()).unwrap(), [id]);
        assert_eq!(processes_under(other.path()).unwrap(), []);
        assert_eq!(stop(&[id], Duration::from_secs(20)).await.unwrap(), []);
        assert_eq!(processes_under(folder.path()).unwrap(), []);
    }

    /// Started again and again, so that some are looked at in the moment of execve(2).
    #[rstest::rstest]
    #[case::with_variables(false)]
    #[case::without_variables(true)]
    fn foreign_program_is_left_alone(#[case] cleared: bool) {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..200 {
            let mut command = Command::new("/bin/sleep");
            command.arg("600").current_dir(folder.path());
            if cleared {
                command.env_clear();
            }
            let mut foreign = command.spawn().unwrap();
            let found = processes_under(folder.path());
            foreign.kill().unwrap();
            foreign.wait().unwrap();
            assert_eq!(found.unwrap(), []);
        }
    }
}
