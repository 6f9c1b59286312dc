use std::collections::BTreeMap;

use blueprint::plan::PeerAddress;
use host::environment::RuntimeKind;
use messages::{Role, WorkloadName};

use super::*;

fn record() -> Record {
    let name = WorkloadName::new("international-ferry", "cluster-b", "sink").unwrap();
    Record {
        schema_version: host::environment::SCHEMA_VERSION,
        name: "e2e-1".into(),
        runtime: RuntimeKind::K3d,
        created_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        seat: None,
        owner: None,
        blueprints: BTreeMap::new(),
        clusters: vec![],
        images: None,
        existing: None,
        settings: BTreeMap::new(),
        pods: vec![PodRecord {
            namespace: name.namespace(),
            name,
            role: Role::Sink,
            stage: 0,
            pod_name: "sink-1".into(),
            node: "node-1".into(),
            load_balancer: Some("10.0.0.2".into()),
            peer_address: Some(PeerAddress {
                host: "host.k3d.internal".into(),
                port: 30200,
            }),
            local_address: None,
            token_file: None,
            roots_file: None,
            auto_trigger: 0,
            downstreams: vec![],
            started_at: None,
            ready_at: None,
            dialled_at: None,
            processes: vec![],
        }],
    }
}

fn step(name: &str, started_ms: u64, took_ms: Option<u64>, failed: bool) -> Entry {
    Entry {
        name: name.into(),
        started_ms,
        took_ms,
        failed,
        last: failed.then(|| "container app is CrashLoopBackOff".into()),
    }
}

#[test]
fn failure_shows_cause_hint_and_chain() {
    let error = anyhow::anyhow!("connection refused")
        .context(Failure::infrastructure("cluster-b is gone").hint("run `cargo xtask local-up`"));
    let record = record();
    let report = Report {
        failure: Some(&error),
        evidence: Some("the log said <b>no</b>"),
        ..Report::of(&record, &[], &[])
    };
    let page = report.html(Timestamp::UNIX_EPOCH).unwrap();
    for text in [
        r#"class="failed">failed</span>"#,
        "cluster-b is gone</p>",
        "Next: run `cargo xtask local-up`",
        "<pre>connection refused",
        "host.k3d.internal:30200",
        "on the k3d runtime",
    ] {
        assert!(
            page.to_lowercase().contains(&text.to_lowercase()),
            "no `{text}` in {page}"
        );
    }
    assert!(page.contains("the log said &lt;b&gt;no&lt;"), "{page}");
    assert!(!page.contains("<b>no"), "a log writes no HTML");
}

#[test]
fn bars_lie_where_their_steps_lay() {
    let steps = [
        step("create", 0, Some(500), false),
        step("deploy", 500, Some(500), true),
        step("take down", 900, None, false),
    ];
    let bars = bars(&steps);
    let places: Vec<_> = bars
        .iter()
        .map(|bar| (bar.left.as_str(), bar.width.as_str(), bar.took.as_str()))
        .collect();
    assert_eq!(
        places,
        [
            ("0.0", "50.0", "0.5s"),
            ("50.0", "50.0", "0.5s"),
            ("90.0", "10.0", "runs")
        ]
    );
    assert!(super::bars(&[]).is_empty());
    assert_eq!(
        super::bars(&[step("at once", 0, Some(0), false)])[0].width,
        "0.0"
    );
}
