//! `cargo xtask e2e`: from nothing to proof to nothing.

use std::{fs, process::Command};

use serde_json::Value;

use crate::bench::{Bench, finish, turn};

#[test]
fn every_blueprint_is_proven_and_nothing_is_left() {
    let _turn = turn();
    let bench = Bench::new();
    let done = bench.run(&["e2e"]);
    done.assert_code(0);
    for text in [
        "fast-international-ferry 5/5",
        "grand-tour-ferry 5/5",
        "harbour-ferry 5/5",
        " international-ferry 5/5",
        "cluster-a",
        "cluster-d",
    ] {
        done.assert_data(text);
    }
    done.assert_says("runtime: embedded");
    bench.assert_nothing_left();
}

#[test]
fn two_runs_at_once_both_pass() {
    let _turn = turn();
    let bench = Bench::new();
    let first = bench.start(&["e2e"]);
    let second = bench.start(&["e2e"]);
    for running in [first, second] {
        running.finish().assert_code(0).assert_data("5/5");
    }
    bench.assert_nothing_left();
}

#[test]
fn a_run_for_programs_is_one_json_object_a_run() {
    let _turn = turn();
    let bench = Bench::new();
    let two = ["fast-international-ferry", "international-ferry"];
    let done = bench.run(&["e2e", two[0], two[1], "--json", "--repeat", "2"]);
    done.assert_code(0);
    let runs = done.json_lines();
    assert_eq!(runs.len(), 2, "{done}");
    for run in runs {
        assert_eq!(run["verdict"], "passed", "{run:#}");
        assert_eq!(run["runtime"], "embedded", "{run:#}");
        let blueprints = run["blueprints"].as_array().unwrap();
        assert_eq!(blueprints.len(), 2, "{run:#}");
        for blueprint in blueprints {
            assert_eq!(blueprint["delivered"], 5, "{run:#}");
            assert_eq!(blueprint["expected"], 5, "{run:#}");
        }
    }
    bench.assert_nothing_left();
}

#[test]
fn a_kept_run_can_be_looked_at_and_taken_down() {
    let _turn = turn();
    let bench = Bench::new();
    let done = bench.run(&["e2e", "international-ferry", "--keep"]);
    done.assert_code(0);
    let records = bench.records();
    let name = match &records[..] {
        [Value::Object(record)] => record["name"].as_str().unwrap().to_owned(),
        other => panic!("one environment must be kept, not {other:#?}"),
    };
    done.assert_says(&format!("cargo xtask local-down --name {name}"));
    bench
        .run(&["status", "--name", &name])
        .assert_code(0)
        .assert_data("sink");
    let trail = bench.run(&["trail", "--name", &name, "--json"]);
    assert_eq!(trail.assert_code(0).json_lines().len(), 5, "{trail}");
    bench.run(&["local-down", "--name", &name]).assert_code(0);
    bench.assert_nothing_left();
}

#[test]
fn a_checkout_may_lie_deep() {
    let _turn = turn();
    let bench = Bench::new();
    // The address of a Unix socket holds 107 bytes.
    let deep = bench.state().join("d".repeat(100)).join("e".repeat(200));
    let state = deep.join("state");
    let mut command = bench.command(&["e2e", "international-ferry"]);
    finish(command.env("FERRY_STATE", &state)).assert_code(0);
    assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
    bench.assert_no_process();
}

#[test]
fn pods_have_more_files_open_than_a_shell() {
    let _turn = turn();
    let bench = Bench::new();
    let mut command = Command::new("sh");
    command.args(["-c", r#"ulimit -Sn 256; exec "$@""#, "sh"]);
    bench.wrap(&mut command, &["e2e", "international-ferry", "--keep"]);
    finish(&mut command).assert_code(0);
    let record = &bench.records()[0];
    let pods = record["pods"].as_array().unwrap().iter();
    let processes = pods.flat_map(|pod| pod["processes"].as_array().unwrap());
    let mut looked = 0;
    for process in processes {
        let pid = &process["id"]["pid"];
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let files = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let mut words = files.unwrap().split_whitespace().skip(3);
        let [soft, hard] = [words.next(), words.next()].map(|word| word.unwrap().parse::<u64>());
        let enough = hard.unwrap_or(u64::MAX).min(4096);
        assert!(soft.unwrap_or(u64::MAX) >= enough, "{limits}");
        looked += 1;
    }
    assert_eq!(looked, 6);
    bench.run(&["local-down", "--all"]).assert_code(0);
    bench.assert_nothing_left();
}
