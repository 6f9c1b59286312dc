//! A child command that ends with this process, together with everything that the child has
//! started.
//!
//! The command joins the process group of a watcher, a shell that waits for the end of a pipe whose other end this process
//! alone holds. The kernel closes that end with this process, after SIGKILL too, and the watcher then kills the whole
//! group. The command itself is a direct child: its input, its output and its exit status are its own.
//!
//! `PR_SET_PDEATHSIG` would reach the command alone and not what it has started, and is there on Linux only.

use std::{
    io,
    process::{ExitStatus, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
};

const SHELL: &str = "/bin/sh";

/// Ends with the pipe that is its standard input, and takes its own group along. It is the leader of that group, so the
/// number stays its own as long as it is not waited for.
const WATCH: &str = r#"read -r _; kill -s KILL -- "-$$""#;

/// What `ps` shows a watcher as.
const NAME: &str = "ferry: ends a command with the process that started it";

/// A command and its watcher. Dropped before the command has ended, it ends the command and all that the command has started.
#[derive(Debug)]
pub struct GroupChild {
    child: Child,
    watcher: Child,
    ended: bool,
}

impl GroupChild {
    /// Starts `command` in a separate group, so that Ctrl-C in the terminal reaches this process
    /// alone, which decides what
    /// to end and in which order.
    ///
    /// # Errors
    ///
    /// The system's error at the start of the command or of the watcher.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        // Of a kind of its own: it is not the command that is not there.
        let watcher = watcher().map_err(|error| io::Error::other(format!("`{SHELL}`: {error}")))?;
        let group = group(&watcher)
            .ok_or_else(|| io::Error::other("the process that watches over it has ended"))?;
        let child = command
            .process_group(group.as_raw_nonzero().get())
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self {
            child,
            watcher,
            ended: false,
        })
    }

    /// The pipe to its standard input; `None` where there is none, or it was taken.
    pub fn input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// The pipe of its standard output; `None` where there is none, or it was taken.
    pub fn output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// The pipe of its standard error; `None` where there is none, or it was taken.
    pub fn errors(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Waits for the command's own end. What it has left running goes on.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.ended = true;
        self.watcher.kill().await?;
        Ok(status)
    }

    /// Reads what it writes, and waits for its end.
    pub async fn wait_with_output(mut self) -> io::Result<Output> {
        let (mut stdout, mut stderr) = (vec![], vec![]);
        let (out, err) = (self.output(), self.errors());
        let read_out = async {
            match out {
                Some(mut pipe) => pipe.read_to_end(&mut stdout).await,
                None => Ok(0),
            }
        };
        let read_err = async {
            match err {
                Some(mut pipe) => pipe.read_to_end(&mut stderr).await,
                None => Ok(0),
            }
        };
        let (status, _, _) = tokio::try_join!(self.wait(), read_out, read_err)?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }
}

impl Drop for GroupChild {
    fn drop(&mut self) {
        if self.ended {
            // Before its pipe is closed: it must not end what the command has left running.
            let _ = self.watcher.start_kill();
        } else if let Some(group) = group(&self.watcher) {
            // The watcher has not been waited for, so the group is still this one. An error means that all of it is gone.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

fn watcher() -> io::Result<Child> {
    Command::new(SHELL)
        .args(["-c", WATCH, NAME])
        // Nothing by which it could be taken for a process of an environment, and no folder that it would hold.
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

/// The watcher's process and group; `None` once it was waited for.
fn group(watcher: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(watcher.id()?).ok()?)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt as _, path::Path};

    use super::*;
    use crate::{
        process::{CommandLine, ProcessId, run},
        wait::{Seen, Wait},
    };

    /// Where a test that was started by itself has its command write down which processes it is.
    const PIDS: &str = "TEST_PIDS";

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The processes that a command has written to `file`, once it has.
    async fn processes(file: &Path) -> Vec<ProcessId> {
        Wait::until("the command to say which processes it is")
            .poll(|| async {
                let text = std::fs::read_to_string(file).unwrap_or_default();
                Ok(match text.strip_suffix('\n') {
                    None => Seen::Waiting(text),
                    Some(line) => Seen::Ready(
                        line.split(' ')
                            .map(|pid| ProcessId::of(pid.parse().unwrap()).unwrap())
                            .collect(),
                    ),
                })
            })
            .await
            .unwrap()
    }

    async fn gone(processes: &[ProcessId]) {
        Wait::until("the end of a command and of what it has started")
            .within(std::time::Duration::from_secs(120))
            .poll(|| async {
                let left: Vec<_> = processes.iter().filter(|one| one.is_running()).collect();
                Ok(if left.is_empty() {
                    Seen::Ready(())
                } else {
                    Seen::Waiting(format!("{left:?}"))
                })
            })
            .await
            .unwrap();
    }

    fn two_that_stay(file: &Path) -> String {
        format!("sleep 600 & echo $$ $! >'{}'; wait", file.display())
    }

    #[tokio::test]
    async fn a_dropped_command_ends_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pids");
        let child = GroupChild::spawn(&mut shell(&two_that_stay(&file))).unwrap();
        let both = processes(&file).await;
        assert_eq!(both.len(), 2);
        drop(child);
        gone(&both).await;
    }

    #[tokio::test]
    async fn command_past_deadline_ends_with_children() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pids");
        // The limit counts from the moment at which both are there.
        let line = CommandLine::new("sh")
            .args(["-c", &two_that_stay(&file)])
            .within(std::time::Duration::from_secs(3600));
        let running = crate::process::output(&line);
        tokio::pin!(running);
        let both = tokio::select! {
            both = processes(&file) => both,
            done = &mut running => panic!("it must go on: {done:?}"),
        };
        tokio::time::pause();
        let error = running.await.unwrap_err().to_string();
        tokio::time::resume();
        assert!(error.ends_with("did not end within 3600s"), "{error}");
        gone(&both).await;
    }

    /// The test starts itself as the process that is killed.
    #[tokio::test]
    async fn command_ends_with_its_parent() {
        if let Some(file) = std::env::var_os(PIDS) {
            let script = two_that_stay(Path::new(&file));
            let _ = run(&CommandLine::new("sh").args(["-c", &script])).await;
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pids");
        let itself = "process::child::tests::command_ends_with_its_parent";
        let mut starter = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", itself])
            .env(PIDS, &file)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let both = processes(&file).await;
        starter.kill().unwrap();
        let status = starter.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{status}");
        gone(&both).await;
    }

    #[tokio::test]
    async fn command_keeps_own_status_and_output() {
        for (script, code, signal) in [
            ("exit 0", Some(0), None),
            ("exit 137", Some(137), None),
            ("kill -s KILL $$", None, Some(9)),
            ("kill -s SEGV $$", None, Some(11)),
        ] {
            let script = format!("echo out; echo err >&2; {script}");
            let child = GroupChild::spawn(&mut shell(&script)).unwrap();
            let done = child.wait_with_output().await.unwrap();
            assert_eq!(
                (done.status.code(), done.status.signal()),
                (code, signal),
                "{script}"
            );
            assert_eq!(
                (&*done.stdout, &*done.stderr),
                (&b"out\n"[..], &b"err\n"[..])
            );
        }
    }

    #[tokio::test]
    async fn what_an_ended_command_has_left_goes_on() {
        let child = GroupChild::spawn(&mut shell("sleep 600 >/dev/null 2>&1 & echo $!")).unwrap();
        let done = child.wait_with_output().await.unwrap();
        let pid = String::from_utf8(done.stdout).unwrap();
        let left = ProcessId::of(pid.trim().parse().unwrap()).unwrap();
        assert!(left.is_running());
        crate::process::kill(&[left]).await.unwrap();
    }
}
