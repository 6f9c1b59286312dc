//! From cluster A over two branches, in B and C, into one sink in D.

use std::path::Path;

use blueprint::{Blueprint, container::Container};
use e2e::testing::{
    Setup, assert_all_delivered, assert_delivered, assert_routes, payload, payloads,
    with_environment,
};
use harness::{pinhole::Trigger, runtime::request::Ending, trail::StoredMessage};
use host::wait::{Seen, Wait};
use identity::{Leaf, LeafRequest, Root};
use messages::{Hop, Message, Role, Timestamp, WorkloadName, json, signature::Signer};
use rstest::rstest;
use uuid::Uuid;

use crate::attackers::{
    door::{self, Door},
    speech::{Socket, TEXT, frame},
};

const BLUEPRINT: &str = "harbour-ferry";
const NORTH: [(&str, &str); 3] = [
    ("cluster-a", "gateway"),
    ("cluster-b", "north"),
    ("cluster-d", "sink"),
];
const SOUTH: [(&str, &str); 3] = [
    ("cluster-a", "gateway"),
    ("cluster-c", "south"),
    ("cluster-d", "sink"),
];

e2e::blueprint_tests!(BLUEPRINT, NORTH, SOUTH);

/// Returns the message as `pod` passes it on: with its hop, signed by an identity of that name.
fn carried(
    root: &Root,
    mut message: Message,
    pod: &WorkloadName,
    role: Role,
) -> anyhow::Result<(Message, Leaf)> {
    let leaf = root.authority(pod)?.leaf(&LeafRequest::of(pod))?;
    let hop = Hop {
        pod: format!("{}-of-a-test", pod.pod()),
        role,
        cluster: pod.cluster().into(),
        namespace: pod.namespace(),
        node: "a-node".into(),
        at: Timestamp::now(),
        signature: String::new(),
    };
    let signer = Signer::from_pem(&leaf.certificate_chain_pem, &leaf.key_pem)?;
    let hop = signer.sign(message.id, &message.trail, hop)?;
    message.trail.push(hop);
    Ok((message, leaf))
}

/// North sends what south has, as if it had come over south, before south does.
#[tokio::test]
async fn no_branch_silences_the_other() -> anyhow::Result<()> {
    with_environment(BLUEPRINT, |ferry| async move {
        ferry.messages().prove().await?;
        let mark = ferry.messages().last_index().await?;
        let root = door::root(&ferry)?;
        let name = |cluster, pod| WorkloadName::new(BLUEPRINT, cluster, pod);
        let [gateway, north, south] =
            [NORTH[0], NORTH[1], SOUTH[1]].map(|(cluster, pod)| name(cluster, pod));
        let message = Message {
            id: Uuid::now_v7(),
            blueprint: BLUEPRINT.into(),
            seq: 1,
            payload: payload("\"true\""),
            trail: vec![],
        };
        let (made, _) = carried(&root, message, &gateway?, Role::Gateway)?;
        let (honest, souths) = carried(&root, made.clone(), &south?, Role::Processor)?;
        let (_, norths) = carried(&root, made, &north?, Role::Processor)?;
        let mut false_one = honest.clone();
        false_one.payload = payload("\"false\"");
        false_one.trail[1].signature = "junk".into();

        let sink = Door::of_sink(&ferry)?;
        // Also with south's own signature, from a session that is not south's.
        for forged in [&false_one, &honest] {
            let bytes = frame(TEXT, json::encode_message(forged).as_bytes());
            let told = Socket::open(&sink, &norths).await?.say(bytes).await?;
            anyhow::ensure!(told.contains("closed with 1008: trail refused"), "{told}");
        }
        let bytes = frame(TEXT, json::encode_message(&honest).as_bytes());
        let told = Socket::open(&sink, &souths).await?.say(bytes).await?;
        anyhow::ensure!(told.contains("delivered"), "{told}");
        let stored = ferry.messages().output(mark).await?;
        let ours = stored.iter().filter(|one| one.message.id == honest.id);
        let payloads: Vec<_> = ours.map(|one| one.message.payload.as_str()).collect();
        assert_eq!(payloads, ["\"true\""]);
        Ok(())
    })
    .await
}

/// Less than a window: past that a branch that is down holds up the other.
const MISSED: usize = 200;

/// The numbers of the messages that came through a cluster, in the order of the sink.
fn through(stored: &[StoredMessage], cluster: &str) -> Vec<u64> {
    let messages = stored.iter().map(|stored| &stored.message);
    messages
        .filter(|message| message.trail.iter().any(|hop| hop.cluster == cluster))
        .map(|message| message.seq)
        .collect()
}

#[rstest]
#[case::north("north", "cluster-b", "cluster-c")]
#[case::south("south", "cluster-c", "cluster-b")]
#[tokio::test]
async fn broken_branch_catches_up_beside_other(
    #[case] broken: &str,
    #[case] its_cluster: &str,
    #[case] other_cluster: &str,
) -> anyhow::Result<()> {
    with_environment(BLUEPRINT, |ferry| async move {
        let mark = ferry.messages().last_index().await?;
        ferry
            .faults()
            .stop(broken, Container::App, Ending::Abrupt)
            .await?;
        let missing = ferry.pod("gateway").not_ready().await?;
        assert!(
            missing.len() == 1 && missing[0].contains(broken),
            "the gateway must miss {broken} only: {missing:?}"
        );

        let sending = Trigger::Each(payloads(MISSED));
        let inside = ferry.inside().await?;
        let mut acks = inside.messages().begin(&sending).await?;
        let meanwhile = Wait::until(format!("{MISSED} messages through {other_cluster}"))
            .poll(|| async {
                let stored = ferry.messages().output(mark).await?;
                Ok(if stored.len() < MISSED {
                    Seen::Waiting(format!("{} are there", stored.len()))
                } else {
                    Seen::Ready(stored)
                })
            })
            .await?;
        let numbers = through(&meanwhile, other_cluster);
        assert_eq!(numbers.len(), MISSED, "the other branch must go on");
        let early = through(&meanwhile, its_cluster);
        assert!(early.is_empty(), "{broken} is down: {early:?}");

        ferry.faults().start(broken, Container::App).await?;
        let mut all = vec![];
        while let Some(ack) = acks.next().await? {
            all.push(ack);
        }
        assert_all_delivered(&all, 2 * MISSED);
        let stored = ferry.messages().output(mark).await?;
        assert_eq!(stored.len(), 2 * MISSED, "once over each branch");
        assert_eq!(
            through(&stored, its_cluster),
            numbers,
            "once each, in order"
        );
        assert_eq!(through(&stored, other_cluster), numbers);
        assert_routes(
            &ferry.messages().deliver(payloads(5)).await?,
            &[&NORTH, &SOUTH],
        );
        Ok(())
    })
    .await
}

const FORK: &str = "
name: fork-ferry
title: Fork Ferry
protocol: websocket
clusters: [cluster-a, cluster-b, cluster-c, cluster-d]
pods:
  - {name: gateway, role: gateway, cluster: cluster-a, port: 30100, pinhole: true}
  - {name: fork, role: processor, cluster: cluster-b, port: 30200}
  - {name: left, role: sink, cluster: cluster-c, port: 30300, pinhole: true}
  - {name: right, role: sink, cluster: cluster-d, port: 30400, pinhole: true}
connections:
  - {from: gateway, to: fork}
  - {from: fork, to: [left, right]}
";

#[tokio::test]
async fn a_processor_fans_out_like_a_gateway() -> anyhow::Result<()> {
    let blueprint = Blueprint::parse(FORK, Path::new("fork-ferry.yaml"))?;
    Setup::with(blueprint)
        .run(|ferry| async move {
            let start = [("cluster-a", "gateway"), ("cluster-b", "fork")];
            let left = [start[0], start[1], ("cluster-c", "left")];
            let right = [start[0], start[1], ("cluster-d", "right")];
            let verdict = ferry.messages().deliver(payloads(5)).await?;
            assert_delivered(&verdict, 5);
            assert_routes(&verdict, &[&left, &right]);
            Ok(())
        })
        .await
}
