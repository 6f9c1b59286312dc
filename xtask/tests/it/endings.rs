//! Runs that are ended from outside, at many moments: nothing may stay.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use crate::{
    bench::{Bench, Running, eventually, fixed_ports, services, turn},
    failures::services_but,
};

const ONE: &str = "fast-international-ferry";

/// A run that does not end before its signal comes, however late that is.
const FOR_EVER: [&str; 4] = ["e2e", ONE, "--repeat", "1000000"];

/// Goes on for `lines` lines of standard error; false where the run ended before.
fn let_run(running: &mut Running, lines: usize) -> bool {
    (0..lines).all(|_| running.next_line().is_some())
}

#[test]
fn a_killed_run_is_swept_whatever_the_moment() {
    let _turn = turn();
    let bench = Bench::new();
    for moment in 1.. {
        let mut running = bench.start(&["e2e", ONE]);
        let alive = let_run(&mut running, moment);
        running.child.kill().unwrap();
        running.finish();
        bench.wait_for_the_tools_of_a_killed_command();
        bench.run(&["sweep"]).assert_code(0);
        bench.assert_nothing_left();
        if !alive {
            assert!(
                moment > 4,
                "a run must have several moments, this one had {moment}"
            );
            break;
        }
    }
}

/// A stand-in for Cargo that has started another process, says so in a file, and builds for ever.
fn slow_cargo(bench: &Bench) -> (PathBuf, PathBuf) {
    let started = bench.file("started", "");
    let script = format!(
        "#!/bin/sh\nsleep 600 &\ngrep SigIgn /proc/self/status >>'{}'\nwait\n",
        started.display()
    );
    let cargo = bench.file("cargo", &script);
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    (cargo, started)
}

fn start_building(bench: &Bench, command: &mut Command) -> (Running, String) {
    let (cargo, started) = slow_cargo(bench);
    let running = bench.start_as(command.env("CARGO", cargo).env_remove("FERRY_BIN_DIR"));
    let said = eventually("the build to begin", || {
        let said = fs::read_to_string(&started).unwrap();
        said.ends_with('\n').then_some(said)
    });
    (running, said)
}

#[test]
fn a_build_ends_with_the_command_that_is_killed() {
    let bench = Bench::new();
    let (mut running, _) = start_building(&bench, &mut bench.command(&["e2e", ONE]));
    running.child.kill().unwrap();
    running.finish();
    bench.wait_for_the_tools_of_a_killed_command();
    bench.run(&["sweep"]).assert_code(0);
    bench.assert_nothing_left();
}

#[test]
fn interrupt_ends_running_build() {
    let bench = Bench::new();
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let (running, _) = start_building(&bench, &mut bench.command(&["e2e", ONE]));
        running.signal(signal);
        running.finish().assert_code(code);
        bench.assert_nothing_left();
    }
}

/// A command that is started by a shell that ignores signals.
fn ignoring(bench: &Bench, signals: &str, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!(r#"trap '' {signals}; exec "$@""#), "sh"]);
    bench.wrap(&mut command, args);
    command
}

#[test]
fn signal_ignored_at_start_stays_ignored() {
    let _turn = turn();
    let bench = Bench::new();
    let mut command = ignoring(&bench, "HUP INT TERM", &["e2e", ONE]);
    let mut running = bench.start_as(command.env("FERRY_BIN_DIR", services()));
    assert!(let_run(&mut running, 1));
    for signal in ["HUP", "INT", "TERM", "HUP"] {
        running.signal(signal);
    }
    running.finish().assert_code(0).assert_data("5/5");
    bench.assert_nothing_left();
}

#[test]
fn children_ignore_inherited_signals() {
    let bench = Bench::new();
    for (signals, mask, ends) in [
        ("HUP", 0x1, "TERM"),
        ("INT HUP", 0x3, "TERM"),
        ("TERM", 0x4000, "HUP"),
    ] {
        let (running, said) = start_building(&bench, &mut ignoring(&bench, signals, &["e2e", ONE]));
        let seen = said.trim_start_matches("SigIgn:").trim();
        let seen = u64::from_str_radix(seen, 16).unwrap();
        assert_eq!(seen & 0x4003, mask, "{said}");
        // The others are heeded.
        running.signal(ends);
        let code = if ends == "TERM" { 143 } else { 129 };
        running.finish().assert_code(code);
        bench.assert_nothing_left();
    }
}

#[test]
fn ctrl_c_removes_everything_at_any_moment() {
    let _turn = turn();
    let bench = Bench::new();
    for (moment, signal, code) in [
        (1, "INT", 130),
        (2, "TERM", 143),
        (4, "INT", 130),
        (6, "HUP", 129),
    ] {
        let mut running = bench.start(&FOR_EVER);
        assert!(
            let_run(&mut running, moment),
            "the run must reach moment {moment}"
        );
        running.signal(signal);
        running.finish().assert_code(code);
        bench.assert_nothing_left();
    }
}

#[test]
fn second_ctrl_c_ends_run_and_leaves_nothing() {
    let _turn = turn();
    let bench = Bench::new();
    let mut running = bench.start(&FOR_EVER);
    assert!(let_run(&mut running, 5));
    running.signal("INT");
    running.signal("INT");
    running.finish().assert_code(130);
    bench.assert_nothing_left();
}

#[test]
fn interrupted_local_up_removes_its_own() {
    let _ports = fixed_ports();
    let _turn = turn();
    let bench = Bench::new();
    // One that does not come up: it is still on its way when it is interrupted.
    let programs = services_but(&bench, "gateway", "exec sleep 600");
    let mut running = bench.start_as(
        bench
            .command(&["local-up", "international-ferry"])
            .env("FERRY_BIN_DIR", programs),
    );
    assert!(let_run(&mut running, 4));
    running.signal("INT");
    running.finish().assert_code(130);
    bench.assert_nothing_left();
}
