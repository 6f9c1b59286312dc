//! `local-up` on clusters of k3d that are there: a pod whose programs are the same is left alone, and what a sink has stored
//! outlives its pod.
//!
//! It uses the fixed public ports.

use std::{
    collections::BTreeMap,
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::json;

use crate::{
    bench::{Bench, Done, eventually, fixed_ports},
    repair::{Copy, count, replace},
};

const GATEWAY: &str = "gateway.cluster-a.international-ferry.ferry.internal";
const SINK: &str = "sink.cluster-b.international-ferry.ferry.internal";
const SINKS_NODE: &str = "k3d-cluster-b-server-0";
const SINKS_NAMESPACE: &str = "international-ferry-sink-ns";

/// Pod → the name that Kubernetes has given it, and since when it is there: that of a sink keeps its name.
fn pods(bench: &Bench) -> BTreeMap<String, String> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let records = bench.records();
    let pods = records[0]["pods"].as_array().unwrap().iter();
    pods.map(|pod| {
        let (name, since) = (text(&pod["pod_name"]), text(&pod["started_at"]));
        (text(&pod["name"]), format!("{name} since {since}"))
    })
    .collect()
}

/// Which pods of those that were there before are others now.
fn changed(before: &BTreeMap<String, String>, bench: &Bench) -> Vec<String> {
    let now = pods(bench).into_iter();
    now.filter(|(name, pod)| before[name] != *pod)
        .map(|(name, _)| name)
        .collect()
}

/// What the `kubectl` of the sink's node says, given this on its standard input.
fn kubectl(args: &[&str], input: &str) -> String {
    let mut child = Command::new("docker")
        .args([
            "exec",
            "--interactive",
            SINKS_NODE,
            "kubectl",
            "--namespace",
            SINKS_NAMESPACE,
        ])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let done = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "kubectl {args:?}: {said}");
    String::from_utf8(done.stdout).unwrap()
}

/// The messages, each once.
fn assert_stored(bench: &Bench, expected: usize) {
    let trail = bench.run(&["trail", "--json"]);
    let lines = trail.assert_code(0).json_lines();
    let ids: std::collections::BTreeSet<_> = lines
        .iter()
        .map(|line| line["stored"]["message"]["id"].as_str().unwrap())
        .collect();
    assert_eq!((lines.len(), ids.len()), (expected, expected));
}

/// The sink's pod goes while messages flow: those before and after it are there, each once.
fn lose_the_pod(bench: &Bench, stored: usize) {
    // More than can be stored while the pod ends.
    const COUNT: usize = 10_000;
    let flow = bench.start(&["trigger", "--count", &COUNT.to_string()]);
    eventually("the first of the messages", || {
        (count(bench) > stored).then_some(())
    });
    kubectl(&["delete", "pod", "sink-0"], "");
    flow.finish().assert_code(0);
    eventually("the next pod to answer", || {
        let trail = bench.run(&["trail", "--json"]);
        trail.status.success().then_some(())
    });
    assert_stored(bench, stored + COUNT);
}

/// The volumes of k3d are on one node: while it takes no pods, the sink waits for it and loses nothing.
fn drain_the_node(bench: &Bench, up: &dyn Fn() -> Done, stored: usize) {
    let node = kubectl(
        &[
            "get",
            "pod",
            "sink-0",
            "--output",
            "jsonpath={.spec.nodeName}",
        ],
        "",
    );
    kubectl(&["cordon", &node], "");
    kubectl(&["delete", "pod", "sink-0"], "");
    up().assert_code(3)
        .assert_says("pod international-ferry-sink-ns/sink-0 cannot be scheduled")
        .assert_says("the messages lie on a volume of one node or zone");
    kubectl(&["uncordon", &node], "");
    up().assert_code(0).assert_data("5/5");
    assert_stored(bench, stored + 5);
}

/// The clusters are stopped with all that is on them; returns how many messages there are at the end: a gateway that starts
/// again sends some by itself.
fn stop_and_come_back(bench: &Bench, up: &dyn Fn() -> Done, stored: usize) -> usize {
    bench
        .run(&["local-down", "--keep-data"])
        .assert_code(0)
        .assert_says(&format!("its sinks keep {stored} messages"));
    up().assert_code(0).assert_data("5/5");
    let count = count(bench);
    assert!(count >= stored + 5, "{count} messages");
    assert_stored(bench, count);
    count
}

/// Has the sink as an earlier Ferry deployed it: a Deployment whose messages end with its pod.
fn deploy_as_before() {
    let set = kubectl(&["get", "statefulset", "sink", "--output", "json"], "");
    let set: serde_json::Value = serde_json::from_str(&set).unwrap();
    kubectl(
        &["delete", "statefulset", "sink", "--cascade=foreground"],
        "",
    );
    kubectl(&["delete", "persistentvolumeclaim", "data-sink-0"], "");
    let mut template = set["spec"]["template"].clone();
    let volumes = template["spec"]["volumes"].as_array_mut().unwrap();
    volumes.push(json!({ "name": "data", "emptyDir": { "sizeLimit": "2Gi" } }));
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "sink", "labels": set["metadata"]["labels"] },
        "spec": {
            "replicas": 1,
            "selector": set["spec"]["selector"],
            "strategy": { "type": "Recreate" },
            "template": template,
        },
    });
    kubectl(&["apply", "--filename", "-"], &deployment.to_string());
    kubectl(
        &["rollout", "status", "deployment/sink", "--timeout=120s"],
        "",
    );
}

/// Waits until a command gets through.
fn answers(bench: &Bench, command: &[&str]) {
    let what = format!("an answer to {command:?}");
    eventually(&what, || {
        (bench.run(command).status.success()).then_some(())
    });
}

fn come_from_an_earlier_ferry(bench: &Bench, up: &dyn Fn() -> Done) {
    deploy_as_before();
    // While its sink was away, the gateway was not ready, and k3d leaves out what was refused.
    answers(bench, &["trail"]);
    answers(bench, &["trigger", "--count", "10"]);
    assert_stored(bench, 10);
    up().assert_code(2)
        .assert_says("the 10 messages of sink end with its pod")
        .assert_says("--fresh");
    assert_stored(bench, 10);
    let deployment = ["get", "deployment", "sink", "--output", "name"];
    assert_eq!(kubectl(&deployment, ""), "deployment.apps/sink\n");
    // Its pod goes, and its messages with it: nothing is left to lose.
    kubectl(&["rollout", "restart", "deployment/sink"], "");
    kubectl(
        &["rollout", "status", "deployment/sink", "--timeout=120s"],
        "",
    );
    answers(bench, &["trail"]);
    assert_stored(bench, 0);
    up().assert_code(0).assert_data("5/5");
    assert_stored(bench, 5);
    let gone = [&deployment[..], &["--ignore-not-found"]].concat();
    assert_eq!(kubectl(&gone, ""), "");
}

#[test]
#[ignore = "needs k3d: .ci/k3d"]
fn sink_of_another_image_keeps_all_on_k3d() {
    let _ports = fixed_ports();
    let bench = Bench::new();
    let mut guard = bench.guard();
    let copy = Copy::new(&bench);
    let (text, bin) = (&copy.text, &copy.bin);
    let up = || copy.up(&bench, "k3d");
    up().assert_code(0).assert_data("5/5");
    bench.run(&["trigger", "--count", "100"]).assert_code(0);
    assert_eq!(count(&bench), 105);

    bench
        .run(&["doctor", "--runtime", "k3d"])
        .assert_code(0)
        .assert_data("in use by Ferry's `local`");

    let before = pods(&bench);
    bench.file("blueprint.yaml", &format!("# a comment\n\n{text}\n"));
    up().assert_code(0).assert_says("already");
    assert_eq!(changed(&before, &bench), [""; 0]);
    assert_eq!(count(&bench), 110);

    // Another gateway, by one byte after its end; it sends five messages by itself.
    replace(&bin.join("gateway"), |content| content.push(0));
    up().assert_code(0).assert_data("5/5");
    assert_eq!(changed(&before, &bench), [GATEWAY]);
    assert_eq!(count(&bench), 120);

    // Another sink, out of another image.
    let before = pods(&bench);
    replace(&bin.join("sink"), |content| content.push(0));
    up().assert_code(0).assert_data("5/5");
    assert_eq!(changed(&before, &bench), [SINK]);
    assert_stored(&bench, 125);

    lose_the_pod(&bench, 125);
    drain_the_node(&bench, &up, 10_125);
    come_from_an_earlier_ferry(&bench, &up);
    let stored = stop_and_come_back(&bench, &up, 5);

    // Clusters have the ports that they were made with.
    let before = pods(&bench);
    bench.file("blueprint.yaml", &text.replace("30200", "30201"));
    up().assert_code(2)
        .assert_says(&format!("{stored} messages, which would be lost"))
        .assert_says("--fresh");
    assert_eq!(changed(&before, &bench), [""; 0]);
    assert_stored(&bench, stored);

    bench
        .run(&["local-down"])
        .assert_code(0)
        .assert_says(&format!(
            "{stored} messages that its sinks keep are deleted"
        ));
    bench.assert_nothing_left();
    drop(guard.stdin.take());
    assert!(guard.wait().unwrap().success());
}
