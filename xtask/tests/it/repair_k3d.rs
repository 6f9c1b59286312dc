//! `local-up` on clusters of k3d that are there: a pod whose programs are the same is left alone, with what it has stored.
//!
//! It uses the fixed public ports.

use std::collections::BTreeMap;

use crate::{
    bench::{Bench, fixed_ports},
    repair::{Copy, count, replace},
};

/// Pod → the name that Kubernetes has given it.
fn pods(bench: &Bench) -> BTreeMap<String, String> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let records = bench.records();
    let pods = records[0]["pods"].as_array().unwrap().iter();
    pods.map(|pod| (text(&pod["name"]), text(&pod["pod_name"])))
        .collect()
}

/// Which pods of those that were there before are others now.
fn changed(before: &BTreeMap<String, String>, bench: &Bench) -> Vec<String> {
    let now = pods(bench).into_iter();
    now.filter(|(name, pod)| before[name] != *pod)
        .map(|(name, _)| name)
        .collect()
}

#[test]
#[ignore = "needs k3d: .ci/k3d"]
fn changed_gateway_spares_sink_on_k3d() {
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
    assert_eq!(
        changed(&before, &bench),
        ["gateway.cluster-a.international-ferry.ferry.internal"]
    );
    assert_eq!(count(&bench), 120);

    // Clusters have the ports that they were made with.
    let before = pods(&bench);
    bench.file("blueprint.yaml", &text.replace("30200", "30201"));
    up().assert_code(2)
        .assert_says("120 messages, which would be lost")
        .assert_says("--fresh");
    assert_eq!(changed(&before, &bench), [""; 0]);
    assert_eq!(count(&bench), 120);

    bench.run(&["local-down"]).assert_code(0);
    bench.assert_nothing_left();
    drop(guard.stdin.take());
    assert!(guard.wait().unwrap().success());
}
