//! A state root of a test's own, and the real `xtask` program on it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use ::e2e::testing::{Turn, Turns};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Longest wait of a test: for what takes no time at all, on a machine that has much else to do.
pub(crate) const LONGEST: Duration = Duration::from_secs(300);

/// Waits for what `look` finds.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONGEST;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {LONGEST:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a detached process of a pod has in its environment.
const POD: &str = "FERRY_STARTED_IN=";

/// Signals that this process ignores would be ignored by the commands too, as under `nohup` and in a background job, and no
/// test could send them. What listens for them instead is not inherited.
fn heed_signals() {
    static LISTENERS: OnceLock<Vec<Signal>> = OnceLock::new();
    LISTENERS.get_or_init(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigIgn:"))
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        let ignored = |number| mask.is_none_or(|mask| mask & (1_u64 << (number - 1)) != 0);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        [1, 2, 15]
            .into_iter()
            .filter(|number| ignored(*number))
            .map(|number| signal(SignalKind::from_raw(number)).unwrap())
            .collect()
    });
}

/// The state root of one test; at its end nothing may be left in it, and what is left anyway is swept.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bench {
    pub(crate) fn new() -> Self {
        heed_signals();
        Self {
            folder: tempfile::Builder::new().prefix("ferry-").tempdir().unwrap(),
        }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A file of the test's own, outside the state root.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// An empty folder of the test's own, outside the state root.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// A command of `xtask`; one that brings something up does so on the embedded runtime, whatever this machine has, unless it
    /// names another.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(args);
        let brings_up = matches!(args.first(), Some(&("e2e" | "local-up")));
        if brings_up && !args.contains(&"--runtime") {
            command.args(["--runtime", "embedded"]);
        }
        command
            .env("FERRY_STATE", self.state())
            .env_remove("FERRY_ENVIRONMENT")
            .env_remove("CI")
            .stdin(Stdio::null());
        command
    }

    /// Lets `outer`, which starts its last arguments as a program, start a command.
    pub(crate) fn wrap(&self, outer: &mut Command, args: &[&str]) {
        let inner = self.command(args);
        outer.arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => outer.env(name, value),
                None => outer.env_remove(name),
            };
        }
        outer.stdin(Stdio::null());
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        finish(&mut self.command(args))
    }

    /// Starts a command whose standard error is read line by line.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        self.start_as(&mut self.command(args))
    }

    /// Starts what [`Bench::command`] or [`Bench::wrap`] made.
    pub(crate) fn start_as(&self, command: &mut Command) -> Running {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let collect = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        let lines = BufReader::new(child.stderr.take().unwrap());
        Running {
            child,
            lines,
            seen: String::new(),
            collect,
        }
    }

    /// Takes down what is up when this test is ended from outside, as by Ctrl-C: it waits for the end of a
    /// pipe that the test alone holds.
    pub(crate) fn guard(&self) -> Child {
        const SCRIPT: &str = r#"
            trap '' INT TERM HUP
            cat >/dev/null
            if [ -d "$1/state" ]; then FERRY_STATE=$1/state "$2" local-down --all || true; fi
            rm -rf "$1""#;
        let xtask = env!("CARGO_BIN_EXE_xtask");
        let mut guard = Command::new("sh");
        guard
            .args(["-euc", SCRIPT, "guard"])
            .arg(self.folder.path());
        guard
            .arg(xtask)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap()
    }

    /// No environment, no lock, no process.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        let files: Vec<_> = fs::read_dir(self.state())
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(
            files.is_empty(),
            "the state root must be empty, holds {files:?}"
        );
        self.assert_no_process();
    }

    #[track_caller]
    pub(crate) fn assert_no_process(&self) {
        self.wait_for_the_tools_of_a_killed_command();
        let processes = processes_of(&self.state());
        assert!(
            processes.is_empty(),
            "no process must be left: {processes:#?}"
        );
    }

    /// Waits for the end of what a command had started beside its pods: its compilers and tools. They are killed with it, and
    /// are gone when the system comes to it; pods are gone when the command says so.
    #[track_caller]
    pub(crate) fn wait_for_the_tools_of_a_killed_command(&self) {
        let gone = || {
            let left = tools_of(&self.state());
            left.is_empty().then_some(())
        };
        eventually("the tools of a killed command to end with it", gone);
    }

    /// The processes of the environment `local` as its record has them: `<pod or cluster> <container>` → pid.
    pub(crate) fn processes(&self) -> BTreeMap<String, u64> {
        let record = self.record("local");
        let parts = ["clusters", "pods"].map(|part| record[part].as_array().unwrap().clone());
        let mut found = BTreeMap::new();
        for owner in parts.iter().flatten() {
            let name = owner["name"].as_str().unwrap().split('.').next().unwrap();
            for process in owner["processes"].as_array().unwrap() {
                let container = process["container"].as_str().unwrap();
                let pid = process["id"]["pid"].as_u64().unwrap();
                found.insert(format!("{name} {container}"), pid);
            }
        }
        found
    }

    pub(crate) fn record(&self, name: &str) -> serde_json::Value {
        let path = self.state().join(name).join("environment.json");
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    /// Writes a record as somebody else would have left it.
    pub(crate) fn write_record(&self, name: &str, record: &str) {
        fs::write(self.state().join(name).join("environment.json"), record).unwrap();
    }

    /// The records of all environments that are there.
    pub(crate) fn records(&self) -> Vec<serde_json::Value> {
        let entries = fs::read_dir(self.state()).into_iter().flatten();
        entries
            .filter_map(|entry| fs::read(entry.unwrap().path().join("environment.json")).ok())
            .map(|content| serde_json::from_slice(&content).unwrap())
            .collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // A failed test must not leave a ferry running; what it wanted to say it has said by now.
        if self.state().exists() {
            let _ = self.command(&["local-down", "--all"]).output();
            let _ = self.command(&["sweep"]).output();
        }
    }
}

/// A command that runs.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: BufReader<std::process::ChildStderr>,
    seen: String,
    collect: JoinHandle<String>,
}

impl Running {
    /// The next line of standard error; `None` at its end.
    pub(crate) fn next_line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).unwrap();
        self.seen.push_str(&line);
        (read > 0).then_some(line)
    }

    /// Sends a signal by its name, as a shell would.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.child.id())])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Reads to the end.
    pub(crate) fn finish(mut self) -> Done {
        while self.next_line().is_some() {}
        Done {
            status: self.child.wait().unwrap(),
            stdout: self.collect.join().unwrap(),
            stderr: self.seen,
        }
    }
}

impl Done {
    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(
            self.status.code(),
            Some(code),
            "exit code must be {code}: {self}"
        );
        self
    }

    #[track_caller]
    pub(crate) fn assert_says(&self, text: &str) -> &Self {
        assert!(
            self.stderr.contains(text),
            "standard error must hold `{text}`: {self}"
        );
        self
    }

    #[track_caller]
    pub(crate) fn assert_data(&self, text: &str) -> &Self {
        assert!(
            self.stdout.contains(text),
            "standard output must hold `{text}`: {self}"
        );
        self
    }

    /// Standard output as one JSON value a line.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
        self.stdout
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {self}"))
            })
            .collect()
    }
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n--- standard output\n{}\n--- standard error\n{}",
            self.status, self.stdout, self.stderr
        )
    }
}

pub(crate) fn finish(command: &mut Command) -> Done {
    let output = command.output().unwrap();
    Done {
        status: output.status,
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Every process whose working folder or environment names `folder`: looked at with the test's own means.
fn processes_of(folder: &Path) -> Vec<String> {
    let all = all_of(folder);
    all.into_iter().map(|(shown, _)| shown).collect()
}

/// Those among them that are not of a pod.
fn tools_of(folder: &Path) -> Vec<String> {
    let all = all_of(folder).into_iter();
    let tools = all.filter(|(_, environ)| !environ.contains(POD));
    tools.map(|(shown, _)| shown).collect()
}

/// How each process is shown, and its environment.
fn all_of(folder: &Path) -> Vec<(String, String)> {
    let mut found = vec![];
    let text = folder.to_string_lossy().into_owned();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let path = entry.path();
        let of_process = |name: &str| fs::read(path.join(name)).unwrap_or_default();
        let cwd = fs::read_link(path.join("cwd")).unwrap_or_default();
        let environ = String::from_utf8_lossy(&of_process("environ")).into_owned();
        if cwd.starts_with(folder) || environ.contains(&text) {
            let shown = format!(
                "{}: {} in {}",
                entry.file_name().to_string_lossy(),
                String::from_utf8_lossy(&of_process("cmdline")).replace('\0', " "),
                cwd.display()
            );
            found.push((shown, environ));
        }
    }
    found
}

/// The folder with the service programs, built.
pub(crate) fn services() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_xtask"))
        .parent()
        .unwrap()
        .to_path_buf();
    let bench = Bench::new();
    // Whatever it is asked for, it builds them first; the way is the product's own.
    if !["gateway", "processor", "sink", "wosp", "probe"]
        .iter()
        .all(|name| folder.join(name).is_file())
    {
        bench.run(&["e2e"]).assert_code(0);
    }
    folder
}

/// The right to use the fixed public ports 30100 and 30200 of this machine; others wait. Taken before [`turn`], by all.
pub(crate) fn fixed_ports() -> File {
    let lock = File::create(std::env::temp_dir().join("ferry-tests-fixed-ports.lock")).unwrap();
    lock.lock().unwrap();
    lock
}

/// Several whole runs at once would only make each other slow: as many tests at once as there are processors.
pub(crate) fn turn() -> Turn {
    let count = std::thread::available_parallelism().map_or(2, usize::from);
    let turns = Turns::new("command-line", u32::try_from(count).unwrap());
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(turns.take())
        .unwrap()
}
