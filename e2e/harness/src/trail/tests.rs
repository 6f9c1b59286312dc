use blueprint::failure::Kind;
use identity::{LeafRequest, Root};
use messages::{Hop, signature::Signer};
use rustls_pki_types::CertificateDer;

use super::{proof::short, *};

mod audit;
mod clocks;

const BLUEPRINT: &str = "international-ferry";

/// A root, the pods `gateway`, `relay` and `sink` with their signers, and what they would send and store.
struct World {
    root: Root,
    stations: Vec<(Station, Signer)>,
}

impl World {
    fn new() -> Self {
        let root = Root::create("test").unwrap();
        let station = |pod: &str, cluster: &str, role| {
            let name = WorkloadName::new(BLUEPRINT, cluster, pod).unwrap();
            let leaf = root
                .authority(&name)
                .unwrap()
                .leaf(&LeafRequest::of(&name))
                .unwrap();
            let signer = Signer::from_pem(&leaf.certificate_chain_pem, &leaf.key_pem).unwrap();
            let station = Station {
                pods: BTreeSet::from([format!("{pod}-1")]),
                name,
                role,
            };
            (station, signer)
        };
        let stations = vec![
            station("gateway", "cluster-a", Role::Gateway),
            station("relay", "cluster-b", Role::Processor),
            station("sink", "cluster-c", Role::Sink),
        ];
        Self { root, stations }
    }

    /// Over all three pods, or past the relay.
    fn route(&self, over: &[usize]) -> Route {
        Route(over.iter().map(|at| self.stations[*at].0.clone()).collect())
    }

    fn roots(&self) -> Vec<CertificateDer<'_>> {
        vec![self.root.certificate_der().clone()]
    }

    fn hop(&self, at: usize, when: Timestamp) -> Hop {
        let station = &self.stations[at].0;
        Hop {
            pod: station.pods.first().unwrap().clone(),
            role: station.role,
            cluster: station.name.cluster().into(),
            namespace: station.name.namespace(),
            node: "machine".into(),
            at: when,
            signature: String::new(),
        }
    }

    /// As the pods make it; `change` sees each hop before it is signed.
    fn message(&self, seq: u64, over: &[usize], change: impl Fn(usize, &mut Hop)) -> Message {
        let mut message = Message {
            id: Uuid::now_v7(),
            blueprint: BLUEPRINT.into(),
            seq,
            payload: Payload::from_text(format!("{{ \"seq\": {seq} }}")).unwrap(),
            trail: vec![],
        };
        for (number, at) in over.iter().enumerate() {
            let mut hop = self.hop(*at, Timestamp::now());
            change(number, &mut hop);
            let signer = &self.stations[*at].1;
            let hop = signer.sign(message.id, &message.trail, hop).unwrap();
            message.trail.push(hop);
        }
        message
    }

    fn output(&self, count: u64) -> Vec<StoredMessage> {
        store((1..=count).map(|seq| self.message(seq, &[0, 1, 2], |_, _| {})))
    }

    fn numbered(&self, count: u64) -> Expectation {
        Expectation {
            blueprint: BLUEPRINT.into(),
            flows: vec![Flow {
                sent: Sent::Numbered {
                    first: 1,
                    count,
                    took: (1..=count).map(Duration::from_millis).collect(),
                },
                routes: vec![self.route(&[0, 1, 2])],
            }],
        }
    }

    fn listed(&self, output: &[StoredMessage]) -> Expectation {
        let sent = |stored: &StoredMessage| SentMessage {
            id: stored.message.id,
            payload: Some(stored.message.payload.clone()),
            took: None,
        };
        let mut expected = self.numbered(0);
        expected.flows[0].sent = Sent::Listed(output.iter().map(sent).collect());
        expected
    }

    /// The problems of `output`, one a line; empty if there are none.
    fn problems(&self, expected: &Expectation, output: &[StoredMessage]) -> String {
        match check(expected, output, &self.roots()) {
            Ok(proof) => {
                assert_eq!(proof.messages.len(), output.len());
                String::new()
            }
            Err(error) => {
                assert_eq!(Failure::of(&error).unwrap().kind(), Kind::Product);
                error.to_string()
            }
        }
    }
}

fn store(messages: impl IntoIterator<Item = Message>) -> Vec<StoredMessage> {
    (1..)
        .zip(messages)
        .map(|(index, message)| StoredMessage {
            index,
            stored_at: Timestamp::now(),
            message,
        })
        .collect()
}

/// Exactly one problem, which says all of `parts`.
#[track_caller]
fn assert_one(problems: &str, parts: &[&str]) {
    assert!(
        problems.contains(": 1 problem in"),
        "there must be one problem: {problems}"
    );
    for part in parts {
        assert!(problems.contains(part), "`{part}` must be in: {problems}");
    }
}

#[test]
fn what_crossed_as_it_must_is_proven() {
    let world = World::new();
    let output = world.output(5);
    assert_eq!(world.problems(&world.listed(&output), &output), "");
    let proof = check(&world.numbered(5), &output, &world.roots()).unwrap();
    let row = &proof.rows()[4];
    let id = output[4].message.id.simple().to_string();
    assert_eq!(row[0], "5");
    assert_eq!(row[1], format!("…{}", &id[24..]));
    assert_eq!(row[2], "delivered");
    assert_eq!(
        row[3],
        "gateway-1@cluster-a -> relay-1@cluster-b -> sink-1@cluster-c"
    );
    assert!(row[4].ends_with(" ms"), "{}", row[4]);
}

#[test]
fn output_lines_are_read_and_bad_ones_named() {
    let world = World::new();
    let output = world.output(2);
    let lines: Vec<_> = output
        .iter()
        .map(|stored| serde_json::to_string(stored).unwrap())
        .collect();
    let read = StoredMessage::parse_all(&(lines.join("\n") + "\n")).unwrap();
    assert_eq!(read, output);
    let error = StoredMessage::parse_all(&format!("{}\n{{\"index\":2", lines[0])).unwrap_err();
    assert!(
        error.to_string().starts_with("line 2 of the sink's output"),
        "{error}"
    );
    assert_eq!(Failure::exit_code(&error), 1);
}

#[test]
fn missing_messages_are_named() {
    let world = World::new();
    let mut output = world.output(5);
    let listed = world.listed(&output);
    output.remove(2);
    output.remove(2);
    assert_one(
        &world.problems(&world.numbered(5), &output),
        &["2 of 5 messages are missing", "seq 3, seq 4"],
    );
    assert_one(
        &world.problems(&listed, &output),
        &["2 of 5 messages are missing", "number 3 (…", "number 4 (…"],
    );
    assert_one(
        &world.problems(&world.numbered(10_000), &[]),
        &["10000 of 10000", "seq 5 and 9995 more"],
    );
}

#[test]
fn a_message_that_is_stored_twice_is_named() {
    let world = World::new();
    let mut output = world.output(3);
    let mut again = output[1].clone();
    again.index = 4;
    again.stored_at = Timestamp::now();
    output.push(again);
    for expected in [world.numbered(3), world.listed(&output[..3])] {
        assert_one(
            &world.problems(&expected, &output),
            &["seq 2", "is stored more than once"],
        );
    }
}

#[test]
fn a_message_that_nobody_sent_is_named() {
    let world = World::new();
    let output = world.output(3);
    assert_one(
        &world.problems(&world.listed(&output[..2]), &output),
        &[
            "seq 3",
            "was not expected",
            "gateway-1@cluster-a -> relay-1",
        ],
    );
    assert_one(
        &world.problems(&world.numbered(2), &output),
        &["seq 3", "was not expected"],
    );
}

#[test]
fn the_wrong_order_is_named() {
    let world = World::new();
    let mut messages: Vec<_> = (1..=4)
        .map(|seq| world.message(seq, &[0, 1, 2], |_, _| {}))
        .collect();
    let listed = world.listed(&store(messages.clone()));
    messages.swap(1, 2);
    let output = store(messages);
    for expected in [world.numbered(4), listed] {
        assert_one(
            &world.problems(&expected, &output),
            &["seq 2", "is stored after seq 3"],
        );
    }
    let mut output = world.output(2);
    output[1].index = 1;
    assert_one(
        &world.problems(&world.numbered(2), &output),
        &["seq 2", "index 1 follows index 1"],
    );
}

#[test]
fn an_altered_payload_is_named() {
    let world = World::new();
    let mut output = world.output(2);
    let listed = world.listed(&output);
    // The same JSON value, yet not the same bytes.
    output[0].message.payload = Payload::from_text(r#"{"seq":1}"#.into()).unwrap();
    assert_one(
        &world.problems(&listed, &output),
        &["seq 1", "its payload was altered"],
    );
}

#[test]
fn a_pod_that_is_not_alive_is_named() {
    let world = World::new();
    let dead = world.message(1, &[0, 1, 2], |number, hop| {
        if number == 1 {
            hop.pod = "relay-0".into();
        }
    });
    let output = store([dead]);
    assert_one(
        &world.problems(&world.numbered(1), &output),
        &["hop 2 (`relay-0`): is no live pod", "alive: `relay-1`"],
    );
    let mut replaced = world.numbered(1);
    replaced.flows[0].routes[0].0[1]
        .pods
        .insert("relay-0".into());
    assert_eq!(world.problems(&replaced, &output), "");
}

#[test]
fn a_wrong_route_is_named() {
    let world = World::new();
    let past_the_relay = store([world.message(1, &[0, 2], |_, _| {})]);
    let problems = world.problems(&world.numbered(1), &past_the_relay);
    for part in [
        "came over gateway-1@cluster-a -> sink-1@cluster-c, expected gateway@cluster-a -> relay@cluster-b -> sink@cluster-c",
        "1 of 1 messages are missing",
    ] {
        assert!(problems.contains(part), "`{part}` must be in: {problems}");
    }
    let role = world.message(1, &[0, 1, 2], |number, hop| {
        if number == 1 {
            hop.role = Role::Sink;
        }
    });
    assert_one(
        &world.problems(&world.numbered(1), &store([role])),
        &["hop 2", "says it is a sink, expected processor"],
    );
}

#[test]
fn over_two_routes_each_message_arrives_twice() {
    let world = World::new();
    let over = |way: &[usize]| [1, 2].map(|seq| world.message(seq, way, |_, _| {}));
    let (long, short) = (over(&[0, 1, 2]), over(&[0, 2]));
    // Two branches carry the same message: same id, another trail.
    let mut messages = long.to_vec();
    messages.extend(short);
    let mut expected = world.numbered(2);
    expected.flows[0].routes.push(world.route(&[0, 2]));
    assert_eq!(world.problems(&expected, &store(messages.clone())), "");
    messages.pop();
    assert_one(
        &world.problems(&expected, &store(messages)),
        &["1 of 2 messages are missing over gateway@cluster-a -> sink@cluster-c: seq 2"],
    );
}

#[test]
fn what_was_changed_after_signing_is_named() {
    let world = World::new();
    let mut output = world.output(1);
    output[0].message.trail[0].node = "elsewhere".into();
    assert_one(
        &world.problems(&world.numbered(1), &output),
        &["hop 1 (`gateway-1`): altered"],
    );
    let mut output = world.output(2);
    output[1].message.trail = output[0].message.trail.clone();
    let problems = world.problems(&world.numbered(2), &output);
    assert_eq!(problems.matches(": replayed").count(), 3, "{problems}");
    let mut output = world.output(1);
    output[0].message.trail[2].signature.clear();
    assert_one(
        &world.problems(&world.numbered(1), &output),
        &["hop 3 (`sink-1`): it is not signed"],
    );
}

#[test]
fn a_trail_of_another_root_is_named() {
    let (world, stranger) = (World::new(), World::new());
    let problems = world.problems(&world.numbered(1), &stranger.output(1));
    assert_eq!(
        problems.matches("not of this root").count(),
        3,
        "{problems}"
    );
    let error = check(&world.numbered(1), &world.output(1), &[]).unwrap_err();
    assert!(error.to_string().contains("no root certificate"), "{error}");
}

#[test]
fn many_problems_are_counted_first_ones_listed() {
    let world = World::new();
    let mut output = world.output(30);
    for stored in &mut output {
        stored.message.trail[0].node = "elsewhere".into();
    }
    let problems = world.problems(&world.numbered(30), &output);
    assert!(problems.contains(": 30 problems in"), "{problems}");
    assert_eq!(problems.lines().count(), 22, "{problems}");
    assert!(problems.ends_with("and 10 more"), "{problems}");
}

#[test]
fn all_routes_of_a_graph_are_found() {
    let pod = |name: &str, downstreams: &[&str]| PodRecord {
        name: WorkloadName::new(BLUEPRINT, "cluster-a", name).unwrap(),
        role: Role::Processor,
        namespace: String::new(),
        stage: 0,
        pod_name: format!("{name}-1"),
        node: String::new(),
        load_balancer: None,
        peer_address: None,
        local_address: None,
        token_file: None,
        roots_file: None,
        auto_trigger: 0,
        downstreams: downstreams
            .iter()
            .map(|name| WorkloadName::new(BLUEPRINT, "cluster-a", name).unwrap())
            .collect(),
        started_at: None,
        ready_at: None,
        dialled_at: None,
        processes: vec![],
    };
    // A cycle, which no blueprint has, must not hang.
    let pods = [
        pod("a", &["b", "c"]),
        pod("b", &["d", "a"]),
        pod("c", &["d"]),
        pod("d", &[]),
    ];
    let routes: Vec<_> = Route::all(&pods, &pods[0].name, &pods[3].name)
        .iter()
        .map(|route| route.to_string().replace("@cluster-a", ""))
        .collect();
    assert_eq!(routes, ["a -> b -> d", "a -> c -> d"]);
    assert_eq!(Route::all(&pods, &pods[3].name, &pods[0].name), []);
}
