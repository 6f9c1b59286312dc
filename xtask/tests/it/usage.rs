//! What is answered at once: help, wrong usage, bad blueprints.

use crate::bench::{Bench, finish};

#[test]
fn help_names_every_command_and_starts_nothing() {
    let bench = Bench::new();
    let done = bench.run(&["--help"]);
    done.assert_code(0);
    for command in [
        "e2e",
        "local-up",
        "local-down",
        "deploy",
        "undeploy",
        "image",
        "status",
        "trigger",
        "trail",
        "logs",
        "sweep",
    ] {
        done.assert_data(command);
        bench
            .run(&[command, "--help"])
            .assert_code(0)
            .assert_data("Usage:");
    }
    bench.assert_nothing_left();
}

#[test]
fn wrong_usage_exits_with_two() {
    let bench = Bench::new();
    bench.run(&[]).assert_code(2);
    bench.run(&["e2f"]).assert_code(2).assert_says("e2e");
    bench
        .run(&["e2e", "--runtime", "moon"])
        .assert_code(2)
        .assert_says("embedded");
    bench.run(&["e2e", "--repeat", "0"]).assert_code(2);
    bench
        .run(&["local-up", "--name", "No Name"])
        .assert_code(2)
        .assert_says("help:");
    bench
        .run(&["status", "--name", "nowhere"])
        .assert_code(2)
        .assert_says("local-up");
    bench.assert_nothing_left();
}

#[test]
fn a_new_blueprint_that_cannot_be_is_refused() {
    let bench = Bench::new();
    for (args, reason) in [
        (&["new"][..], "--clusters"),
        (
            &[
                "new",
                "international-ferry",
                "--protocol",
                "grpc",
                "--clusters",
                "a,b",
            ],
            "already exists",
        ),
        (
            &[
                "new",
                "Big Ferry",
                "--protocol",
                "grpc",
                "--clusters",
                "a,b",
            ],
            "lower-case letters",
        ),
        (
            &["new", "lake-ferry", "--protocol", "grpc", "--clusters", "a"],
            "needs two clusters",
        ),
        (
            &[
                "new",
                "lake-ferry",
                "--protocol",
                "pigeon",
                "--clusters",
                "a,b",
            ],
            "use `websocket` or `grpc`",
        ),
    ] {
        bench.run(args).assert_code(2).assert_says(reason);
    }
    let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/lake-ferry");
    assert!(!std::path::Path::new(manifests).exists());
}

#[test]
fn unknown_blueprint_lists_known_ones() {
    let bench = Bench::new();
    bench
        .run(&["e2e", "international-fery"])
        .assert_code(2)
        .assert_says("international-fery")
        .assert_says("fast-international-ferry");
    bench.assert_nothing_left();
}

#[test]
fn bad_blueprint_shows_every_problem_by_line() {
    let bench = Bench::new();
    let path = bench.file(
        "blueprint.yaml",
        "name: bad-ferry\n\
         title: Bad Ferry\n\
         protocol: pigeon\n\
         clusters: [cluster-a]\n\
         pods:\n\
         - { name: gateway, role: gateway, cluster: cluster-a, port: 80 }\n\
         - { name: sink, role: sink, cluster: cluster-z, port: 30200 }\n\
         connections:\n\
         - { from: gateway, to: snik }\n",
    );
    let done = bench.run(&["e2e", path.to_str().unwrap()]);
    done.assert_code(2);
    for line in [3, 6, 7, 9] {
        done.assert_says(&format!("blueprint.yaml:{line}: "));
    }
    bench.assert_nothing_left();
}

#[test]
fn no_colours_go_to_what_is_no_terminal() {
    let bench = Bench::new();
    let done = finish(
        bench
            .command(&["status", "--name", "nowhere"])
            .env("CLICOLOR_FORCE", "1"),
    );
    assert!(!done.stderr.contains('\u{1b}'), "{done}");
}
