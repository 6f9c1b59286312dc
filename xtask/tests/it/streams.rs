//! Standard output that takes no more, and standard streams that are closed.

use std::{
    fs::File,
    process::{Command, Stdio},
};

use crate::bench::{Bench, Done, finish, turn};

const ONE: &str = "fast-international-ferry";

fn full_disk() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// Runs a command whose reader is gone before it starts.
fn unread(command: &mut Command) -> Done {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    Done {
        status: output.status,
        stdout: String::new(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A command that prints data: lost data fails it, a reader that goes away does not, and both are said on standard error or
/// not at all.
#[track_caller]
fn assert_lost_data_is_told(bench: &Bench, args: &[&str]) {
    finish(bench.command(args).stdout(full_disk()))
        .assert_code(3)
        .assert_says("cannot write to standard output: No space left on device")
        .assert_says("help: free disk space");
    let done = unread(&mut bench.command(args));
    done.assert_code(0);
    assert!(!done.stderr.contains("error:"), "{done}");
    // Nobody has to be there to be told.
    let silent = finish(bench.command(args).stdout(full_disk()).stderr(full_disk()));
    silent.assert_code(3);
}

#[test]
fn lost_data_fails_commands_without_environment() {
    let bench = Bench::new();
    for args in [
        &["--help"][..],
        &["--version"],
        &["trail", "--help"],
        &["addresses", "gke", "international-ferry"],
    ] {
        assert_lost_data_is_told(&bench, args);
    }
    // Nothing is lost where nothing is written.
    finish(bench.command(&["status"]).stdout(full_disk())).assert_code(0);
    finish(bench.command(&["e2f"]).stdout(full_disk())).assert_code(2);
}

#[test]
fn lost_data_fails_commands_on_environment() {
    let _turn = turn();
    let bench = Bench::new();
    bench.run(&["e2e", ONE, "--keep"]).assert_code(0);
    let name = bench.records()[0]["name"].as_str().unwrap().to_owned();
    for args in [
        &["trail"][..],
        &["trail", "--json"],
        &["status"],
        &["status", "--json"],
        &["logs"],
        &["logs", "--follow"],
        &["identity", "show"],
        &["identity", "show", "--json"],
        &["trigger"],
        &["trigger", "--json"],
    ] {
        assert_lost_data_is_told(&bench, &[args, &["--name", &name]].concat());
    }
    // A descriptor that cannot be written takes no data either.
    finish(
        bench
            .command(&["trail", "--json", "--name", &name])
            .stdout(File::open("/dev/null").unwrap()),
    )
    .assert_code(3)
    .assert_says("standard output: Bad file descriptor");
    bench.run(&["local-down", "--all"]).assert_code(0);
    bench.assert_nothing_left();
}

#[test]
fn run_with_lost_data_removes_everything() {
    let _turn = turn();
    let bench = Bench::new();
    for args in [&["e2e", ONE][..], &["e2e", ONE, "--json"]] {
        assert_lost_data_is_told(&bench, args);
        bench.assert_nothing_left();
    }
}

#[test]
fn streams_closed_at_start_are_no_failure() {
    let bench = Bench::new();
    for closed in [">&-", "2>&-", "<&-", ">&- 2>&- <&-"] {
        let mut command = Command::new("sh");
        command.args(["-c", &format!(r#"exec "$@" {closed}"#), "sh"]);
        bench.wrap(&mut command, &["trail", "--help"]);
        finish(&mut command).assert_code(0);
        let mut command = Command::new("sh");
        command.args(["-c", &format!(r#"exec "$@" {closed}"#), "sh"]);
        bench.wrap(&mut command, &["status", "--name", "nowhere"]);
        finish(&mut command).assert_code(2);
    }
}
