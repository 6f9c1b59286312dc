//! From cluster A over two branches, in B and C, into one sink in D.

use std::path::Path;

use blueprint::{Blueprint, container::Container};
use e2e::testing::{
    Setup, assert_all_delivered, assert_delivered, assert_routes, payloads, with_environment,
};
use harness::{pinhole::Trigger, runtime::request::Ending, trail::StoredMessage};
use host::wait::{Seen, Wait};
use rstest::rstest;

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
