//! `deploy` and its like: what is refused before anything is made on clusters that somebody else made.

use serde_json::json;

use crate::{
    bench::{Bench, Done, turn},
    fake_api::{Answer, FakeServer, kubeconfig, kubeconfig_of, status, version},
};

const IMAGE: &[&str] = &["--image", "registry.example/ferry:1"];
const BOTH: &[&str] = &["--context", "cluster-a=one", "--context", "cluster-b=two"];

/// Runs `deploy` with this kubeconfig and these arguments.
fn deploy(bench: &Bench, kubeconfig: &std::path::Path, args: &[&[&str]]) -> Done {
    let fixed = ["deploy", "--kubeconfig", kubeconfig.to_str().unwrap()];
    bench.run(&[&fixed[..], &args.concat()].concat())
}

#[test]
fn wrong_usage_names_what_is_missing_or_too_much() {
    let bench = Bench::new();
    let config = kubeconfig(&bench, 1);
    let secret = bench.file("config.json", r#"{"auths":{},"credsStore":"desktop"}"#);
    let secret = secret.to_str().unwrap();
    let of_another = r#"{"auths":{"other.example":{"auth":"dTpw"}}}"#;
    let of_another = bench.file("other.json", of_another);
    let of_another = of_another.to_str().unwrap();
    for (args, says) in [
        (
            &[IMAGE][..],
            "missing context: `--context cluster-a=NAME` and `--context cluster-b=NAME`",
        ),
        (
            &[IMAGE, &["--context", "cluster-a=one"]],
            "missing context: `--context cluster-b=NAME`",
        ),
        (
            &[IMAGE, BOTH, &["--context", "cluster-c=one"]],
            "no blueprint has cluster `cluster-c`",
        ),
        (
            &[
                IMAGE,
                &["--context", "cluster-a=one", "--context", "cluster-b=one"],
            ],
            "context `one` is given for both `cluster-a`",
        ),
        (
            &[
                IMAGE,
                &["--context", "cluster-a=one", "--context", "cluster-b=three"],
            ],
            "it has `one`, `two`",
        ),
        (&[BOTH], "missing `--image REGISTRY/NAME:TAG`"),
        (&[BOTH, &["--image", "a b"]], "invalid image name `a b`"),
        (
            &[IMAGE, BOTH, &["--address", "cluster-z=x"]],
            "`--address cluster-z=…` matches no cluster",
        ),
        (
            &[IMAGE, BOTH, &["--reach", "cluster-b=http://x"]],
            "expected CLUSTER=HOST[:PORT]",
        ),
        (
            &[IMAGE, BOTH, &["--target", "moon"]],
            "use one of k3d, gke, eks, aks, generic",
        ),
        (
            &[
                IMAGE,
                BOTH,
                &["--target", "gke", "--address", "cluster-z=192.0.2.1"],
            ],
            "`--address cluster-z=…` matches no cluster",
        ),
        (
            &[IMAGE, BOTH, &["--pull-secret", secret]],
            "it holds no credentials",
        ),
        (
            &[IMAGE, BOTH, &["--pull-secret", of_another]],
            "it holds credentials for `other.example`, and the images are",
        ),
        (
            &[IMAGE, &["--context", "cluster-a"]],
            "expected CLUSTER=CONTEXT",
        ),
    ] {
        deploy(&bench, &config, args)
            .assert_code(2)
            .assert_says(says);
    }
    bench.assert_nothing_left();
}

#[test]
fn unreadable_kubeconfig_is_named_not_quoted() {
    let bench = Bench::new();
    let nowhere = bench.file("nowhere", "").with_extension("yaml");
    deploy(&bench, &nowhere, &[IMAGE, BOTH])
        .assert_code(2)
        .assert_says("nowhere.yaml");
    let broken = bench.file("broken", "users: [s3cret");
    let done = deploy(&bench, &broken, &[IMAGE, BOTH]);
    done.assert_code(2).assert_says("it is no kubeconfig");
    assert!(!done.stderr.contains("s3cret"), "{done}");
    bench.assert_nothing_left();
}

#[test]
fn each_runtime_has_its_own_commands() {
    let _turn = turn();
    let bench = Bench::new();
    bench
        .run(&["local-up", "--runtime", "existing"])
        .assert_code(2)
        .assert_says("cargo xtask deploy");
    bench
        .run(&[&["e2e", "--runtime", "embedded"], BOTH].concat())
        .assert_code(2)
        .assert_says("--runtime existing");
    bench
        .run(&["e2e", "--runtime", "embedded", "--target", "generic"])
        .assert_code(2)
        .assert_says("--runtime existing");
    bench
        .run(&["e2e", "--runtime", "existing"])
        .assert_code(2)
        .assert_says("--context");
    bench.run(&["undeploy"]).assert_code(2);
    bench.assert_nothing_left();
}

#[test]
fn foreign_namespace_is_refused_unchanged() {
    let bench = Bench::new();
    let server = FakeServer::start(|path| match path {
        "/version" => (200, version("34")),
        "/api/v1/namespaces/fast-international-ferry-terminator-ns" => (
            200,
            json!({ "kind": "Namespace", "apiVersion": "v1", "metadata": { "name": "x", "labels": { "ferry.internal/environment": "local" } } }),
        ),
        _ => (404, status(404, "not found")),
    });
    // The label of another environment, even one of the same name, is not ours.
    let done = deploy(&bench, &kubeconfig(&bench, server.port), &[IMAGE, BOTH]);
    done.assert_code(3)
        .assert_says("cluster-b: namespace fast-international-ferry-terminator-ns already exists and is of environment local")
        .assert_says("kubectl delete namespace");
    assert!(!done.stderr.contains("s3cret"), "{done}");
    let asked = server.asked();
    assert!(
        asked.iter().all(|request| request.starts_with("GET ")),
        "{asked:#?}"
    );
    bench.assert_nothing_left();
}

#[test]
fn refusing_or_old_api_server_ends_early() {
    let bench = Bench::new();
    for (answer, says) in [
        (
            (|_| (401, status(401, "Unauthorized"))) as Answer,
            "refuses context `one`",
        ),
        (|_| (200, version("28")), "Kubernetes v1.28.4 is too old"),
    ] {
        let server = FakeServer::start(answer);
        let one = [
            "international-ferry",
            "--context",
            "cluster-b=one",
            "--context",
            "cluster-a=two",
        ];
        let done = deploy(&bench, &kubeconfig(&bench, server.port), &[IMAGE, &one]);
        done.assert_code(3);
        // Both clusters are asked side by side; either may be the first to say no.
        assert!(
            done.stderr.contains(says) || done.stderr.contains(&says.replace("one", "two")),
            "{done}"
        );
        let asked = server.asked();
        assert!(
            asked.iter().all(|request| request == "GET /version"),
            "{asked:#?}"
        );
    }
    bench.assert_nothing_left();
}

#[test]
fn distant_api_server_clocks_are_named() {
    let bench = Bench::new();
    let answer: Answer = |path| match path {
        "/version" => (200, version("34")),
        "/api/v1/namespaces/fast-international-ferry-terminator-ns" => (
            200,
            json!({ "kind": "Namespace", "apiVersion": "v1", "metadata": { "name": "x", "labels": {} } }),
        ),
        _ => (404, status(404, "not found")),
    };
    for (ahead, says) in [
        (
            120,
            &[
                "the clock of cluster-b is 1",
                " s (± 0.",
                " s) ahead of cluster-a's",
                "chronyc makestep",
            ][..],
        ),
        (
            -120,
            &["the clock of cluster-a is 1", " ahead of cluster-b's"],
        ),
        // What is no trouble is said, too, and the next thing looked at.
        (
            30,
            &[
                "clocks: cluster-a ",
                "namespace fast-international-ferry-terminator-ns already exists",
            ],
        ),
    ] {
        let [one, two] = [0, ahead].map(|ahead| FakeServer::with_clock(answer, ahead));
        let config = kubeconfig_of(&bench, [one.port, two.port]);
        let done = deploy(&bench, &config, &[IMAGE, BOTH]);
        done.assert_code(3);
        for says in says {
            done.assert_says(says);
        }
        let asked = [one.asked(), two.asked()].concat();
        assert!(
            asked.iter().all(|request| request.starts_with("GET ")),
            "{asked:#?}"
        );
    }
    bench.assert_nothing_left();
}
