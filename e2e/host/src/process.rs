//! Child processes: commands that end ([`run`]), and processes that are recorded and found again ([`ProcessId`]).

use std::{
    ffi::OsStr,
    fmt,
    path::Path,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use blueprint::failure::Failure;
use serde::{Deserialize, Serialize};
use tokio::{io::AsyncWriteExt as _, process::Command};

mod child;
mod detached;
mod find;
mod limits;
mod program;

pub use child::GroupChild;
pub use detached::LABEL;
pub use detached::{Launch, freeze, kill, log_tail, stop, thaw};
pub use find::processes_under;
pub use find::{orphans_under, started_in};
pub use limits::raise_open_files;

/// A command line without secrets: those go by file or stdin, so the command is always safe to print.
#[derive(Clone, Debug)]
pub struct CommandLine {
    program: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    without: Vec<String>,
    folder: Option<std::path::PathBuf>,
    stdin: Option<Vec<u8>>,
    limit: Duration,
}

impl CommandLine {
    /// A command with a deadline of 60 s.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            args: vec![],
            env: vec![],
            without: vec![],
            folder: None,
            stdin: None,
            limit: Duration::from_secs(60),
        }
    }

    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.args.extend(
            args.into_iter()
                .map(|arg| arg.as_ref().to_string_lossy().into_owned()),
        );
        self
    }

    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Keeps a variable of this process from it.
    #[must_use]
    pub fn without(mut self, name: impl Into<String>) -> Self {
        self.without.push(name.into());
        self
    }

    #[must_use]
    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.into());
        self
    }

    #[must_use]
    pub fn stdin(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(input.into());
        self
    }

    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        for name in &self.without {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command.stdin(if self.stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)?;
        self.args.iter().try_for_each(|arg| {
            if arg.contains(' ') {
                write!(f, " '{arg}'")
            } else {
                write!(f, " {arg}")
            }
        })
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Done {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Done {
    /// The last `lines` lines of standard error, or of standard output where that is empty.
    pub fn tail(&self, lines: usize) -> String {
        tail(
            if self.stderr.trim().is_empty() {
                &self.stdout
            } else {
                &self.stderr
            },
            lines,
        )
    }
}

/// The last `lines` lines of `text`.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Runs a command to its end; an exit status other than 0 is not an error here, see [`run`].
///
/// At its deadline, when the future is dropped, and when this process ends, whatever ends it, the command is killed with
/// all that it has started.
pub async fn output(line: &CommandLine) -> anyhow::Result<Done> {
    let started = Instant::now();
    let mut child = match GroupChild::spawn(&mut line.command()) {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(
                Failure::infrastructure(format!("`{}` is not on the PATH", line.program))
                    .hint(format!("install `{}`", line.program))
                    .into(),
            );
        }
        Err(error) => return Err(error).with_context(|| format!("cannot start `{line}`")),
    };
    let work = async {
        let feed = child.input().zip(line.stdin.as_deref());
        let feed = async {
            if let Some((mut stdin, input)) = feed {
                // A child that exits without reading its input reports that by its status.
                let _ = stdin.write_all(input).await;
            }
        };
        let (_, output) = tokio::join!(feed, child.wait_with_output());
        output
    };
    let output = tokio::time::timeout(line.limit, work)
        .await
        .map_err(|_| {
            Failure::infrastructure(format!("`{line}` did not end within {:.0?}", line.limit))
        })?
        .with_context(|| format!("cannot read the output of `{line}`"))?;
    Ok(Done {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: started.elapsed(),
    })
}

/// Runs a command that must succeed; a failed one shows itself: command, status, duration, the end of its output.
pub async fn run(line: &CommandLine) -> anyhow::Result<Done> {
    let done = output(line).await?;
    if done.status.success() {
        return Ok(done);
    }
    Err(Failure::infrastructure(format!(
        "`{line}`: {} after {:.1?}\n{}",
        done.status,
        done.took,
        done.tail(20)
    ))
    .into())
}

/// A process as it can be found again: a pid alone may have been given to another process since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: u32,
    /// Clock ticks from boot to the start of the process: field 22 of `/proc/<pid>/stat` (proc(5)).
    pub start_time: u64,
}

impl ProcessId {
    /// No process, ever: what stands for one of another boot.
    pub const NONE: Self = Self {
        pid: 0,
        start_time: 0,
    };

    /// The process with this pid as it runs now; `None` where there is none, or only a zombie.
    pub fn of(pid: u32) -> Option<Self> {
        let (id, state) = Self::with_state(pid)?;
        (!matches!(state.as_str(), "Z" | "X")).then_some(id)
    }

    /// The process with this pid, ended or not, and its state's letter.
    fn with_state(pid: u32) -> Option<(Self, String)> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program's name in parentheses and may hold anything, so count from the last `)`.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?.to_owned();
        let start_time = fields.nth(18)?.parse().ok()?;
        Some((Self { pid, start_time }, state))
    }

    pub fn current() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// True while this very process runs.
    pub fn is_running(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// The program's short name, for messages only; never used to find a process.
    pub fn name(self) -> String {
        std::fs::read_to_string(format!("/proc/{}/comm", self.pid))
            .map_or_else(|_| "an ended process".into(), |name| name.trim().into())
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_command_shows_itself() {
        let error = run(&CommandLine::new("sh").args(["-c", "echo why >&2; exit 7"]))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("`sh -c 'echo why >&2; exit 7'`: exit status: 7 after"),
            "{error}"
        );
        assert!(error.ends_with("\nwhy"), "{error}");
    }

    #[tokio::test]
    async fn a_command_is_cut_at_its_deadline() {
        let error = run(&CommandLine::new("sleep")
            .args(["60"])
            .within(Duration::from_millis(50)))
        .await
        .unwrap_err();
        assert_eq!(error.to_string(), "`sleep 60` did not end within 50ms");
    }

    #[tokio::test]
    async fn stdin_reaches_the_command() {
        assert_eq!(
            run(&CommandLine::new("cat").stdin("through"))
                .await
                .unwrap()
                .stdout,
            "through"
        );
    }

    #[tokio::test]
    async fn a_variable_can_be_kept_from_a_command() {
        let line = CommandLine::new("/bin/sh").args(["-c", "echo ${PATH+set}${OTHER-unset}"]);
        let line = line.env("OTHER", "x").without("OTHER");
        // What is set for it is set, whatever else is kept from it.
        assert_eq!(run(&line).await.unwrap().stdout, "setx\n");
        let line = CommandLine::new("/usr/bin/env").without("PATH");
        let shown = run(&line).await.unwrap().stdout;
        assert!(!shown.lines().any(|line| line.starts_with("PATH=")));
    }

    #[test]
    fn a_process_is_itself_and_no_other() {
        let own = ProcessId::current().unwrap();
        assert!(own.is_running());
        assert!(
            !ProcessId {
                start_time: own.start_time + 1,
                ..own
            }
            .is_running()
        );
    }
}
