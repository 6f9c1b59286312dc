//! The scripts.

use std::{fs, path::Path, process::Command};

use blueprint::Target;
use e2e::testing::program;
use harness::ops::bundle;
use host::manifests;
use rstest::rstest;

use super::fake::{Operator, context, message, request, shipped};

const FERRY: &str = "international-ferry";
const GATEWAY: &str = "international-ferry-gateway-ns";
const SINK: &str = "international-ferry-sink-ns";

fn deploy(cluster: &str) -> String {
    format!("./deploy-{cluster}.sh --cluster {}", context(cluster))
}

fn five(stops: &[&str]) -> Vec<String> {
    (1..=5).map(|seq| message(FERRY, seq, stops)).collect()
}

const WAY: [&str; 2] = ["cluster-a/gateway", "cluster-b/sink"];

#[test]
fn shellcheck_finds_nothing_in_any_script() {
    if program(&["shellcheck"], "the scripts of bundles")
        .unwrap()
        .is_none()
    {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut scripts = vec![];
    for name in [
        "international-ferry",
        "fast-international-ferry",
        "grand-tour-ferry",
        "harbour-ferry",
    ] {
        for target in [Target::Gke, Target::Eks, Target::Aks, Target::Generic] {
            let out = folder.path().join(format!("{name}-{target}"));
            let mut request = request(shipped(name), target, out.clone());
            // Half of them with an address that is known.
            if target == Target::Gke || target == Target::Eks {
                request.addresses = vec!["cluster-b=203.0.113.7".parse().unwrap()];
            }
            request.identity = Some(folder.path().join(name));
            bundle::write(&request).unwrap();
            scripts.extend(scripts_in(&out));
        }
    }
    assert!(scripts.len() >= 64, "{scripts:?}");
    let done = Command::new("shellcheck")
        .arg("--shell=sh")
        .args(&scripts)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stdout)
    );
}

fn scripts_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path().display().to_string());
    paths.filter(|path| path.ends_with(".sh")).collect()
}

#[test]
fn sink_is_first_and_its_address_recorded() {
    let operator = Operator::new(FERRY, &[]);
    operator.expect(
        &deploy("cluster-a"),
        2,
        "where cluster-b/sink is, is not known",
    );
    assert!(
        !operator.calls().contains("apply"),
        "nothing may be applied"
    );
    operator.set("without-address", "2");
    operator.set("unready", "1");
    operator.expect(&deploy("cluster-b"), 0, "next deploy-cluster-a.sh");
    let calls = operator.calls();
    let place = |what: &str| {
        calls
            .find(what)
            .unwrap_or_else(|| panic!("no `{what}` in\n{calls}"))
    };
    assert!(place("apply") < place("rollout") && place("rollout") < place("get service"));
    assert_eq!(calls.matches("get service").count(), 3, "{calls}");
    assert_eq!(calls.matches("rollout status").count(), 2, "{calls}");
    let recorded = || fs::read_to_string(operator.bundle.join("addresses")).unwrap();
    assert_eq!(recorded(), "cluster-b/sink=203.0.113.7\n");

    operator.expect(&deploy("cluster-a"), 0, "next verify.sh");
    let gateway = format!("{}/{GATEWAY}.peers", context("cluster-a"));
    assert!(operator.get(&gateway).unwrap().contains("203.0.113.7"));

    // Another address, a host name this time, is taken when it is all done again.
    operator.set("address", " lb-1.elb.example.com\n");
    operator.expect(&deploy("cluster-b"), 0, "is at lb-1.elb.example.com");
    assert_eq!(recorded(), "cluster-b/sink=lb-1.elb.example.com\n");
    operator.expect(&deploy("cluster-a"), 0, "done");
    let peers = operator.get(&gateway).unwrap();
    assert!(
        peers.contains(r#""address": "lb-1.elb.example.com""#),
        "{peers}"
    );
    assert!(
        !peers.contains("@cluster") && !peers.contains("203.0.113.7"),
        "{peers}"
    );
}

#[rstest]
#[case::alone("2001:db8::7")]
#[case::by_cluster("cluster-b=2001:db8::7")]
#[case::by_pod("cluster-b/sink=2001:db8::7")]
#[case::in_brackets("cluster-b=[2001:db8::7]")]
fn an_address_that_is_given_wins(#[case] given: &str) {
    let operator = Operator::new(FERRY, &["cluster-b=192.0.2.1"]);
    let line = format!("{} --address {given}", deploy("cluster-a"));
    operator.expect(&line, 0, "done");
    let peers = operator
        .get(&format!("{}/{GATEWAY}.peers", context("cluster-a")))
        .unwrap();
    assert!(
        peers.contains("2001:db8::7") && !peers.contains("192.0.2.1"),
        "{peers}"
    );
}

#[test]
fn an_address_that_was_known_is_checked_and_used() {
    let operator = Operator::new(FERRY, &["cluster-b=192.0.2.1"]);
    operator.expect(&deploy("cluster-a"), 0, "done");
    let peers = operator
        .get(&format!("{}/{GATEWAY}.peers", context("cluster-a")))
        .unwrap();
    assert!(peers.contains("192.0.2.1"), "{peers}");
    operator.expect(
        &deploy("cluster-b"),
        3,
        "got 203.0.113.7, not 192.0.2.1, which was asked for",
    );
    operator.set("address", "192.0.2.1 \n");
    operator.expect(&deploy("cluster-b"), 0, "is at 192.0.2.1");

    // A name in somebody's DNS is nothing that a Service can ask for.
    let operator = Operator::new(FERRY, &["cluster-b=ferry.example.com"]);
    operator.expect(&deploy("cluster-b"), 0, "others dial ferry.example.com");
    let service = fs::read_to_string(operator.bundle.join("sink/06-service.yaml")).unwrap();
    assert!(!service.contains("ferry.example.com"), "{service}");
}

#[rstest]
#[case::no_cluster("./deploy-cluster-b.sh", 2, "`--cluster CONTEXT` is missing")]
#[case::no_value("./deploy-cluster-b.sh --cluster", 2, "needs a value")]
#[case::unknown_flag("./deploy-cluster-b.sh --force", 2, "`--force` is not known")]
#[case::unknown_context(
    "./deploy-cluster-b.sh --cluster elsewhere",
    2,
    "no context `elsewhere`"
)]
#[case::part_of_a_context("./deploy-cluster-b.sh --cluster cluster/cluster-b", 2, "no context")]
#[case::no_timeout("./deploy-cluster-b.sh --timeout soon", 2, "no number of seconds")]
#[case::no_address(
    "./deploy-cluster-a.sh --address 'a b'",
    2,
    "neither an IP address nor"
)]
#[case::code(
    "./deploy-cluster-a.sh --address 'x|e'",
    2,
    "neither an IP address nor"
)]
#[case::port(
    "./deploy-cluster-a.sh --address cluster-c=192.0.2.1",
    2,
    "is for no pod"
)]
#[case::verify("./verify.sh", 2, "`--cluster cluster-a=CONTEXT` is missing")]
#[case::teardown(
    "./teardown.sh --cluster cluster-z=x",
    2,
    "one of cluster-a, cluster-b"
)]
fn wrong_usage_is_named(#[case] line: &str, #[case] code: i32, #[case] says: &str) {
    let operator = Operator::new(FERRY, &[]);
    operator.expect(line, code, says);
    assert!(!operator.calls().contains("apply"));
}

#[test]
fn every_script_explains_itself() {
    let operator = Operator::new("harbour-ferry", &[]);
    for script in scripts_in(&operator.bundle) {
        let text = operator.expect(&format!("{script} --help"), 0, "Usage: ");
        assert!(
            text.contains("--timeout SECONDS") && !text.contains("{{"),
            "{text}"
        );
    }
    operator.without("kubectl");
    operator.expect(&deploy("cluster-d"), 3, "kubectl is not installed");
}

#[test]
fn a_namespace_of_somebody_else_is_never_touched() {
    let operator = Operator::new(FERRY, &[]);
    let place = format!("{}/{SINK}", context("cluster-b"));
    for label in ["", "international-ferry-000000000000"] {
        operator.set(&place, label);
        operator.expect(&deploy("cluster-b"), 3, "is there already");
        let named =
            ["cluster-a", "cluster-b"].map(|name| format!("--cluster {name}={}", context(name)));
        operator.expect(
            &format!("./teardown.sh {}", named.join(" ")),
            0,
            "is not of this bundle and stays",
        );
        assert_eq!(operator.get(&place).unwrap(), label);
    }
    let calls = operator.calls();
    assert!(
        !calls.contains("apply") && !calls.contains("delete"),
        "{calls}"
    );
}

#[test]
fn what_does_not_get_ready_is_shown() {
    let operator = Operator::new(FERRY, &[]);
    operator.set("unready", "100000");
    operator.serve(SINK, &["waiting for: a reason of the pod's own".into()]);
    operator.expect(
        &format!("{} --timeout 1", deploy("cluster-b")),
        3,
        "waiting for: a reason of the pod's own",
    );
    operator.expect(
        &format!("{} --timeout 1", deploy("cluster-b")),
        3,
        "is not ready after 1 s",
    );
    operator.set("unready", "0");
    operator.set("without-address", "100000");
    operator.expect(
        &format!("{} --timeout 1", deploy("cluster-b")),
        3,
        "has no address after 1 s",
    );
}

#[test]
fn five_messages_and_their_trails_are_shown() {
    let operator = Operator::new(FERRY, &[]);
    operator.expect(&deploy("cluster-b"), 0, "done");
    operator.expect(&deploy("cluster-a"), 0, "done");
    operator.serve(SINK, &five(&WAY));
    let text = operator.expect("./verify.sh --save saved", 0, "all messages have crossed");
    assert!(text.contains("5/5 messages sent."), "{text}");
    assert!(
        text.contains("gateway-5d9c-x3@cluster-a -> sink-5d9c-x3@cluster-b"),
        "{text}"
    );
    assert!(!text.contains("liar"), "{text}");
    let saved = fs::read_to_string(operator.bundle.join("saved")).unwrap();
    assert_eq!(saved, five(&WAY).join("\n") + "\n");
    assert!(
        !operator.calls().contains("token-of-"),
        "no argument may hold a token"
    );
}

#[test]
fn no_script_hands_a_proxy_anything() {
    let mut operator = Operator::new(FERRY, &[]);
    let proxy = operator.behind_proxy();
    operator.expect(&deploy("cluster-b"), 0, "done");
    operator.expect(&deploy("cluster-a"), 0, "done");
    operator.serve(SINK, &five(&WAY));
    operator.expect("./verify.sh", 0, "all messages have crossed");
    // The same way is open to a pod's account of what it waits for.
    operator.set("unready", "100000");
    operator.serve(SINK, &["waiting for: its peer".into()]);
    let line = format!("{} --timeout 1", deploy("cluster-b"));
    operator.expect(&line, 3, "waiting for: its peer");
    assert_eq!(proxy.heard(), "");
    // Those who obey the variables, or the file, are heard.
    let without = "unset http_proxy HTTP_PROXY all_proxy ALL_PROXY";
    for (line, path) in [
        ("curl -q -s http://127.0.0.1:9/variables", "/variables"),
        (
            &*format!("{without}; curl -s http://127.0.0.1:9/file"),
            "/file",
        ),
    ] {
        operator.sh(&format!("unset no_proxy; {line} || true"));
        let asked = format!("GET http://127.0.0.1:9{path} ");
        assert!(proxy.heard().contains(&asked), "{line}: {}", proxy.heard());
    }
}

#[test]
fn what_did_not_cross_is_an_error() {
    let operator = Operator::new(FERRY, &[]);
    operator.expect(&deploy("cluster-b"), 0, "done");
    operator.expect(&deploy("cluster-a"), 0, "done");
    operator.serve(SINK, &five(&WAY)[1..]);
    operator.expect("./verify.sh", 1, "4 messages came by the route");
    operator.serve(SINK, &five(&["cluster-a/gateway", "cluster-c/sink"]));
    operator.expect("./verify.sh", 1, "0 messages came by the route");
    operator.serve("another-ns", &five(&WAY));
    operator.expect("./verify.sh", 3, "does not give its messages");
    operator.set("log", "🔁 Auto-trigger complete — 3/5 messages sent.\n");
    operator.expect("./verify.sh", 1, "has not delivered all of its messages");
    operator.set("log", "nothing yet\n");
    operator.expect(
        "./verify.sh --timeout 1",
        1,
        "has not sent its messages after 1 s",
    );
    operator.set("log", "🔁 Auto-trigger complete — 5/5 messages sent.\n");
    operator.without("curl");
    operator.expect("./verify.sh", 0, "curl is not installed");
}

#[test]
fn teardown_removes_all_and_is_repeatable() {
    let operator = Operator::new(FERRY, &[]);
    operator.expect(&deploy("cluster-b"), 0, "done");
    operator.expect(&deploy("cluster-a"), 0, "done");
    operator.calls();
    operator.expect("./teardown.sh", 0, "removed");
    let calls = operator.calls();
    let place = |what: &str| calls.find(&format!("delete namespace {what}")).unwrap();
    assert!(place(GATEWAY) < place(SINK), "{calls}");
    for name in ["addresses", "contexts"] {
        assert!(!operator.bundle.join(name).exists(), "{name} must be gone");
    }
    let named =
        ["cluster-a", "cluster-b"].map(|name| format!("--cluster {name}={}", context(name)));
    operator.expect(
        &format!("./teardown.sh {}", named.join(" ")),
        0,
        "is not there",
    );
}

#[rstest]
#[case("international-ferry")]
#[case("fast-international-ferry")]
#[case("grand-tour-ferry")]
#[case("harbour-ferry")]
fn the_readme_of_a_bundle_leads_to_the_end(#[case] name: &str) {
    let operator = Operator::new(name, &[]);
    let page = fs::read_to_string(operator.bundle.join("README.md")).unwrap();
    let blocks: Vec<&str> = page
        .split("```sh\n")
        .skip(1)
        .map(|rest| rest.split_once("```").unwrap().0)
        .collect();
    let mut deployed = blocks[0].replace("./verify.sh\n", "");
    for cluster in &shipped(name).clusters {
        let stands_for = cluster.to_ascii_uppercase().replace('-', "_");
        deployed = deployed.replace(&stands_for, &context(cluster));
    }
    operator.expect(&deployed, 0, "next verify.sh");
    operator.expect(blocks[1], 0, "removed");
}

#[test]
fn cluster_on_both_sides_deploys_in_two_runs() {
    let text = "name: back\ntitle: Back\nprotocol: grpc\nclusters: [cluster-a, cluster-b]\npods:\n\
        - { name: gateway, role: gateway, cluster: cluster-a, port: 30100 }\n\
        - { name: relay, role: processor, cluster: cluster-b, port: 30200 }\n\
        - { name: sink, role: sink, cluster: cluster-a, port: 30300 }\n\
        connections:\n- { from: gateway, to: relay }\n- { from: relay, to: sink }\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("back.yaml");
    fs::write(&path, text).unwrap();
    let operator = Operator::with(manifests::load(&path).unwrap(), &[]);
    let page = fs::read_to_string(operator.bundle.join("README.md")).unwrap();
    assert!(page.contains("stops at `gateway`"), "{page}");
    operator.expect(
        &deploy("cluster-a"),
        2,
        "where cluster-b/relay is, is not known",
    );
    operator.expect(&deploy("cluster-b"), 0, "next deploy-cluster-a.sh");
    operator.expect(&deploy("cluster-a"), 0, "next verify.sh");
    // No pinhole, so no trail to read.
    let named =
        ["cluster-a", "cluster-b"].map(|name| format!("--cluster {name}={}", context(name)));
    operator.expect(&format!("./verify.sh {}", named.join(" ")), 0, "5/5");
}

#[test]
fn existing_load_balancer_is_not_awaited() {
    let text = fs::read_to_string(shipped(FERRY).path()).unwrap()
        + "targets:\n  eks:\n    - {pod: sink, address: ferry-1.elb.eu-west-1.amazonaws.com, target-group: \"arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/sink/0123456789abcdef\"}\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bound.yaml");
    fs::write(&path, text).unwrap();
    let blueprint = manifests::load(&path).unwrap();
    let operator = Operator::with_target(blueprint, Target::Eks, &[]);
    operator.expect(&deploy("cluster-b"), 0, "done");
    operator.expect(&deploy("cluster-a"), 0, "done");
    assert!(!operator.calls().contains("get service"));
    let peers = operator
        .get(&format!("{}/{GATEWAY}.peers", context("cluster-a")))
        .unwrap();
    assert!(
        peers.contains("ferry-1.elb.eu-west-1.amazonaws.com"),
        "{peers}"
    );
}
