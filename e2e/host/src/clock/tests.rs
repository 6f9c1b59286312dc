use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A clock so many milliseconds ahead, looked at for so long.
fn offset(ahead: i64, looked: i64) -> Offset {
    let said = at(0) + SignedDuration::from_millis(ahead);
    let until = at(0) + SignedDuration::from_millis(looked);
    Offset::new(said, Duration::ZERO, at(0), until)
}

fn clocks(all: &[(&str, i64)]) -> Clocks {
    let mut clocks = Clocks::default();
    for (cluster, ahead) in all {
        clocks.see(Seen {
            cluster: (*cluster).into(),
            pod: Some("pod".into()),
            offset: offset(*ahead, 2),
        });
    }
    clocks
}

const FERRY: [(&str, &str); 1] = [("cluster-a", "cluster-b")];
const TOUR: [(&str, &str); 2] = [("cluster-a", "cluster-b"), ("cluster-b", "cluster-c")];

fn check(all: &[(&str, i64)], connections: &[(&str, &str)]) -> Option<String> {
    let tolerance = tolerance(&BTreeMap::new());
    let checked = clocks(all).check(connections.iter().copied(), tolerance);
    checked.err().map(|far| far.to_string())
}

#[test]
fn clocks_may_differ_by_45_seconds_either_way() {
    for ahead in [-45_000, -9_000, -5, 0, 5, 9_000, 45_000] {
        let seen = check(&[("cluster-a", ahead), ("cluster-b", 0)], &FERRY);
        assert_eq!(seen, None, "{ahead}");
    }
}

#[test]
fn distant_clocks_are_named_with_difference() {
    let words = |ahead, behind| {
        format!("the clock of {ahead} is 120.0 s ahead of {behind}'s; Ferry works up to 45 s")
    };
    for (ahead, expected) in [
        (120_000, words("cluster-a", "cluster-b")),
        (-120_000, words("cluster-b", "cluster-a")),
    ] {
        let seen = check(&[("cluster-a", ahead), ("cluster-b", 0)], &FERRY);
        assert_eq!(seen, Some(expected));
    }
}

#[test]
fn unconnected_clusters_are_not_compared() {
    let ends = [("cluster-a", 44_000), ("cluster-c", -44_000)];
    let all = |middle| [ends[0], ("cluster-b", middle), ends[1]];
    assert_eq!(check(&all(0), &TOUR), None);
    let seen = check(&all(40_000), &TOUR).unwrap();
    assert!(
        seen.starts_with("the clock of cluster-b is 84.0 s ahead of cluster-c's"),
        "{seen}"
    );
    assert_eq!(check(&ends, &TOUR), None, "what is not known passes");
}

#[test]
fn clock_behind_certificates_is_named() {
    let seen = check(&[("cluster-b", -86_400_000)], &FERRY).unwrap();
    assert!(
        seen.starts_with("the clock of this machine is 86400.0 s ahead of cluster-b's"),
        "{seen}"
    );
    assert_eq!(check(&[("cluster-b", 86_400_000)], &FERRY), None);
}

#[test]
fn a_slow_answer_accuses_no_clock() {
    let mut clocks = clocks(&[("cluster-a", 0)]);
    clocks.see(Seen {
        cluster: "cluster-b".into(),
        pod: None,
        offset: offset(50_000, 20_000),
    });
    let tolerance = tolerance(&BTreeMap::new());
    assert_eq!(clocks.check(FERRY, tolerance), Ok(()));
}

#[test]
fn clocks_are_shown_beside_this_machines() {
    let clocks = clocks(&[("cluster-a", 12_340), ("cluster-b", -9_000)]);
    assert_eq!(
        clocks.to_string(),
        "cluster-a +12.3 s, cluster-b -9.0 s against this machine's"
    );
    assert_eq!(Clocks::default().to_string(), "not known");
    let json = serde_json::to_value(&clocks).unwrap();
    assert_eq!(json[0]["cluster"], "cluster-a");
    assert_eq!(json[0]["ahead_seconds"], 12.339);
}

#[test]
fn agreeing_clocks_show_the_best_known() {
    let mut clocks = clocks(&[("cluster-a", 0)]);
    clocks.see(Seen {
        cluster: "cluster-a".into(),
        pod: None,
        offset: Offset::new(at(0), HTTP_RESOLUTION, at(0), at(0)),
    });
    assert_eq!(
        clocks.to_string(),
        "cluster-a +0.0 s against this machine's"
    );
}

#[test]
fn a_clock_that_is_seen_again_is_replaced() {
    let mut clocks = clocks(&[("cluster-a", 0), ("cluster-b", 5_000)]);
    for ahead in [1_000, -2_000] {
        clocks.see(Seen {
            cluster: "cluster-a".into(),
            pod: Some("pod".into()),
            offset: offset(ahead, 0),
        });
    }
    assert_eq!(clocks.all().len(), 2);
    assert!((clocks.clusters()["cluster-a"].seconds() + 2.0).abs() < 1e-9);
}

#[test]
fn the_header_date_is_exact_to_a_second() {
    let offset = Offset::of_date("Fri, 15 Jan 2027 08:00:45 GMT", at(0), at(0)).unwrap();
    assert!((offset.seconds() - 45.5).abs() < 1e-9, "{offset:?}");
    assert!((offset.uncertainty() - 0.5).abs() < 1e-9, "{offset:?}");
    assert!(Offset::of_date("yesterday", at(0), at(0)).is_err());
}

#[test]
fn a_pod_says_its_time_with_what_it_waits_for() {
    let body = br#"{"ready":false,"waiting_for":["x"],"clock":"2027-01-15T08:00:02.000000Z"}"#;
    let offset = Offset::of_ready(body, at(0), at(0)).unwrap();
    assert!((offset.seconds() - 2.0).abs() < 1e-3, "{offset:?}");
    let earlier = br#"{"ready":true,"waiting_for":[]}"#;
    assert_eq!(Offset::of_ready(earlier, at(0), at(0)), None);
}

#[test]
fn identities_that_live_shorter_bear_less() {
    let bears = |all: &[(&str, &str)]| {
        let all = all
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        tolerance(&all.collect()).as_secs()
    };
    assert_eq!(bears(&[]), 45);
    assert_eq!(
        bears(&[
            (env::IDENTITY_LIFETIME, "24s"),
            (env::ROTATION_INTERVAL, "2s")
        ]),
        21
    );
    assert_eq!(bears(&[(env::IDENTITY_LIFETIME, "1h")]), 45);
    assert_eq!(bears(&[(env::IDENTITY_LIFETIME, "soon")]), 45);
}
