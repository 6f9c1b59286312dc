//! The sink as a process: exit codes, signals and log.
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A sink with a complete environment; ports are free ones.
fn sink(dir: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sink"));
    command
        .env_clear()
        .env("FERRY_BLUEPRINT", "test-ferry")
        .env("FERRY_WORKLOAD", "sink")
        .env("FERRY_ROLE", "sink")
        .env("FERRY_CLUSTER", "cluster-b")
        .env("FERRY_POD_NAME", "sink-1")
        .env("FERRY_NAMESPACE", "test-ferry-sink-ns")
        .env("FERRY_NODE", "node-1")
        .env("FERRY_HTTP_LISTEN", "127.0.0.1:0")
        .env("FERRY_RELAY_LISTEN", "127.0.0.1:0")
        .env(
            "FERRY_CONNECTIONS",
            "gateway.cluster-a.test-ferry.ferry.internal>\
             sink.cluster-b.test-ferry.ferry.internal",
        )
        .env("FERRY_IDENTITY_DIR", dir.path())
        .env("FERRY_DATA_DIR", dir.path().join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs it to its end: exit code and log.
fn run(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    assert!(
        output.stdout.is_empty(),
        "a service prints nothing: it logs"
    );
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Starts it and reads its log up to the line `started`.
fn started(command: &mut Command) -> (Child, impl std::io::Read + use<>) {
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("started") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "it must start");
    }
    (child, log)
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[test]
fn wrong_settings_exit_2_with_every_problem() {
    let dir = TempDir::new().unwrap();
    let (code, log) = run(sink(&dir)
        .env("FERRY_HTTP_LISTEN", "everywhere")
        .env("FERRY_WINDOW", "-1")
        .env("FERRY_LOG", "=loud=")
        .env_remove("FERRY_DATA_DIR"));
    assert_eq!(code, Some(2), "{log}");
    for variable in [
        "FERRY_HTTP_LISTEN",
        "FERRY_WINDOW",
        "FERRY_LOG",
        "FERRY_DATA_DIR",
    ] {
        let lines = log
            .lines()
            .filter(|line| line.contains(&format!("{variable}: ")));
        assert_eq!(lines.count(), 1, "{variable} in:\n{log}");
    }
}

#[test]
fn another_role_is_exit_code_2() {
    let dir = TempDir::new().unwrap();
    let (code, log) = run(sink(&dir).env("FERRY_ROLE", "gateway"));
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("start the program `gateway`"), "{log}");
}

#[test]
fn taken_port_exits_3() {
    let dir = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, log) = run(sink(&dir).env("FERRY_RELAY_LISTEN", &address));
    assert_eq!(code, Some(3), "{log}");
    assert!(
        log.contains(&address) && log.contains("FERRY_RELAY_LISTEN"),
        "{log}"
    );
}

/// Waits until the first sink has its store open: it opens beside the pod.
fn wait_for_lock(dir: &TempDir) {
    let path = dir.path().join("data/messages/lock");
    let began = std::time::Instant::now();
    let is_locked = || {
        let file = std::fs::File::open(&path);
        file.is_ok_and(|file| file.try_lock().is_err())
    };
    while !is_locked() {
        assert!(
            began.elapsed().as_secs() < 20,
            "the first sink must open its store"
        );
        std::thread::yield_now();
    }
}

#[test]
fn data_folder_in_use_exits_3() {
    let dir = TempDir::new().unwrap();
    let (mut first, _log) = started(&mut sink(&dir));
    wait_for_lock(&dir);
    let (code, log) = run(&mut sink(&dir));
    assert_eq!(code, Some(3), "{log}");
    assert!(
        log.contains("data/messages") && log.contains("in use"),
        "{log}"
    );
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn sigterm_and_ctrl_c_end_in_good_order() {
    for name in [Signal::TERM, Signal::INT] {
        let dir = TempDir::new().unwrap();
        let (mut child, mut log) = started(sink(&dir).env("FERRY_LOG_FORMAT", "json"));
        signal(&child, name);
        let status: ExitStatus = child.wait().unwrap();
        let mut rest = String::new();
        log.read_to_string(&mut rest).unwrap();
        assert_eq!(status.code(), Some(0), "{rest}");
        assert!(
            rest.lines()
                .any(|line| line.contains(r#""message":"ended""#)),
            "{rest}"
        );
    }
}
