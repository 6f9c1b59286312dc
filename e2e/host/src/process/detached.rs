//! Processes that outlive their command and that later commands find again.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    os::unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal},
};
use serde::{Deserialize, Serialize};

use super::{ProcessId, tail};
use crate::wait::{Seen, Wait};

/// What a detached process has of the environment of the command that starts it, and no more: the same everywhere.
const INHERITED: [&str; 6] = ["PATH", "HOME", "USER", "TMPDIR", "LANG", "TZ"];

/// Set for every detached process, to its working folder. Together with that folder it is the label by which
/// [`super::processes_under`] finds a process whose start was not recorded any more, and leaves alone a shell that
/// the user has there.
pub const LABEL: &str = "FERRY_STARTED_IN";

/// Longest time that a process may take to vanish after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// How a detached process is started: enough to start it again. Without secrets; those go by file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    pub program: PathBuf,
    #[serde(default)]
    pub args: Vec<String>,
    /// Set on top of `PATH`, `HOME` and the like.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Working folder, its own below a state folder. Absolute and free of links.
    pub folder: PathBuf,
    /// Standard output and error are appended to it.
    pub log: PathBuf,
}

impl Launch {
    /// Starts the process in a separate group, so that neither Ctrl-C nor the end of the terminal
    /// reaches it.
    pub fn start(&self) -> anyhow::Result<ProcessId> {
        self.spawn()
            .with_context(|| format!("cannot start `{}`", self.program.display()))
    }

    fn spawn(&self) -> anyhow::Result<ProcessId> {
        let log = self.open_log()?;
        let inherited = INHERITED
            .iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .env_clear()
            .envs(inherited)
            .envs(&self.env)
            .env(LABEL, &self.folder)
            .current_dir(&self.folder)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        // Not reaped before this line, so the pid is still the child's, even if it has ended already.
        let id = ProcessId::with_state(child.id()).map(|(id, _)| id);
        // Takes its exit status, so that it does not stay a zombie while this command lives.
        std::thread::Builder::new()
            .name("reaper".into())
            .stack_size(64 * 1024)
            .spawn(move || child.wait())?;
        id.context("`/proc` does not show it")
    }

    fn open_log(&self) -> anyhow::Result<File> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.log)
            .with_context(|| format!("cannot open its log `{}`", self.log.display()))
    }

    /// Bytes that the log has; 0 where there is none yet.
    pub fn log_length(&self) -> u64 {
        std::fs::metadata(&self.log).map_or(0, |log| log.len())
    }

    /// The last `lines` lines of the log.
    pub fn log_tail(&self, lines: usize) -> String {
        log_tail(&self.log, lines)
    }
}

/// The last `lines` lines of a log file; what is wrong with the file where it cannot be read.
pub fn log_tail(log: &Path, lines: usize) -> String {
    match std::fs::read(log) {
        Ok(content) => tail(&String::from_utf8_lossy(&content), lines),
        Err(error) => format!("(cannot read `{}`: {error})", log.display()),
    }
}

/// Ends processes side by side: SIGTERM, and SIGKILL for those that are still there after `limit`.
///
/// Returns the ones that had to be killed. Fails if one cannot be signalled, or outlives SIGKILL.
pub async fn stop(processes: &[ProcessId], limit: Duration) -> anyhow::Result<Vec<ProcessId>> {
    signal(processes, Signal::TERM)?;
    if gone(processes, limit).await.is_ok() {
        return Ok(vec![]);
    }
    let stubborn: Vec<_> = processes
        .iter()
        .copied()
        .filter(|process| process.is_running())
        .collect();
    kill(&stubborn).await?;
    Ok(stubborn)
}

/// Ends processes immediately, by SIGKILL.
pub async fn kill(processes: &[ProcessId]) -> anyhow::Result<()> {
    signal(processes, Signal::KILL)?;
    gone(processes, KILL_LIMIT).await
}

/// Makes processes hang, by SIGSTOP, until [`thaw`].
pub fn freeze(processes: &[ProcessId]) -> anyhow::Result<()> {
    signal(processes, Signal::STOP)
}

/// Lets processes that hang go on; one that does not is no error.
pub fn thaw(processes: &[ProcessId]) -> anyhow::Result<()> {
    signal(processes, Signal::CONT)
}

fn signal(processes: &[ProcessId], signal: Signal) -> anyhow::Result<()> {
    processes.iter().try_for_each(|process| {
        process
            .signal(signal)
            .with_context(|| format!("cannot signal {process} ({})", process.name()))
    })
}

async fn gone(processes: &[ProcessId], limit: Duration) -> anyhow::Result<()> {
    Wait::until("the end of processes")
        .within(limit)
        .looking_every(Duration::from_millis(20))
        .poll(|| async {
            let left: Vec<_> = processes
                .iter()
                .filter(|process| process.is_running())
                .map(|process| format!("{process} ({})", process.name()))
                .collect();
            Ok(if left.is_empty() {
                Seen::Ready(())
            } else {
                Seen::Waiting(left.join(", "))
            })
        })
        .await
}

impl ProcessId {
    /// Signals this very process; one that has ended is no error.
    fn signal(self, signal: Signal) -> anyhow::Result<()> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(());
        };
        // The descriptor keeps meaning the process that had the pid when it was opened, so the look that follows
        // settles that it is the right one.
        let descriptor = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(()),
            other => other?,
        };
        if !self.is_running() {
            return Ok(());
        }
        match rustix::process::pidfd_send_signal(&descriptor, signal) {
            Err(Errno::SRCH) => Ok(()),
            other => Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(folder: &Path, script: &str) -> Launch {
        let folder = folder.canonicalize().unwrap();
        Launch {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: BTreeMap::from([("FERRY_TEST".into(), "given".into())]),
            log: folder.join("log"),
            folder,
        }
    }

    async fn ended(id: ProcessId) {
        gone(&[id], Duration::from_secs(20)).await.unwrap();
    }

    #[tokio::test]
    async fn detached_process_has_own_folder_log_and_env() {
        let folder = tempfile::tempdir().unwrap();
        let launch = shell(
            folder.path(),
            "echo $FERRY_TEST ${CARGO_MANIFEST_DIR:-none}; pwd >&2",
        );
        ended(launch.start().unwrap()).await;
        assert_eq!(
            launch.log_tail(9),
            format!("given none\n{}", launch.folder.display())
        );
    }

    #[tokio::test]
    async fn ended_process_is_reaped_and_known() {
        let folder = tempfile::tempdir().unwrap();
        let id = shell(folder.path(), "exit 3").start().unwrap();
        Wait::until("the reaper")
            .poll(|| async {
                Ok(match ProcessId::with_state(id.pid) {
                    Some((seen, state)) if seen == id => Seen::Waiting(state),
                    _ => Seen::Ready(()),
                })
            })
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn frozen_process_hangs_until_thawed() {
        let folder = tempfile::tempdir().unwrap();
        let id = shell(folder.path(), "exec sleep 600").start().unwrap();
        let state = async |wanted: &str| {
            Wait::until(format!("state {wanted}"))
                .poll(|| async {
                    let (_, state) = ProcessId::with_state(id.pid).unwrap();
                    Ok(if state == wanted {
                        Seen::Ready(())
                    } else {
                        Seen::Waiting(state)
                    })
                })
                .await
                .unwrap();
        };
        freeze(&[id]).unwrap();
        state("T").await;
        assert!(id.is_running());
        thaw(&[id]).unwrap();
        state("S").await;
        freeze(&[id]).unwrap();
        kill(&[id]).await.unwrap();
        assert!(!id.is_running());
    }

    #[tokio::test]
    async fn process_ignoring_sigterm_is_killed_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let launch = shell(
            folder.path(),
            "trap '' TERM; echo deaf; while :; do sleep 0.05; done",
        );
        let id = launch.start().unwrap();
        Wait::until("the trap")
            .poll(|| async {
                Ok(match launch.log_tail(1).as_str() {
                    "deaf" => Seen::Ready(()),
                    other => Seen::Waiting(other.into()),
                })
            })
            .await
            .unwrap();
        assert_eq!(stop(&[id], Duration::from_millis(100)).await.unwrap(), [id]);
        assert!(!id.is_running());
    }

    #[tokio::test]
    async fn reused_pid_is_not_signalled() {
        let folder = tempfile::tempdir().unwrap();
        let id = shell(folder.path(), "exec sleep 600").start().unwrap();
        let earlier = ProcessId {
            start_time: id.start_time - 1,
            ..id
        };
        stop(&[earlier], Duration::from_secs(1)).await.unwrap();
        assert!(id.is_running());
        stop(&[id], Duration::from_secs(20)).await.unwrap();
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let launch = Launch {
            program: "/no/such/program".into(),
            ..shell(folder.path(), "")
        };
        let error = format!("{:#}", launch.start().unwrap_err());
        assert!(
            error.starts_with("cannot start `/no/such/program`: "),
            "{error}"
        );
    }
}
