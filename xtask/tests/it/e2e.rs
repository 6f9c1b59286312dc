//! `cargo xtask e2e`: from nothing to proof to nothing.

use serde_json::Value;

use crate::bench::{Bench, turn};

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
