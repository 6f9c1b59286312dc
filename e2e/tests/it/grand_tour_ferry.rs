//! WebSocket to a processor in cluster B, gRPC from there to cluster C.

use std::collections::BTreeSet;

use blueprint::container::Container;
use e2e::testing::{assert_all_delivered, assert_route, payloads, with_environment};
use harness::{pinhole::Trigger, runtime::request::Ending};
use rstest::rstest;

const BLUEPRINT: &str = "grand-tour-ferry";
const PATH: [(&str, &str); 3] = [
    ("cluster-a", "gateway"),
    ("cluster-b", "processor"),
    ("cluster-c", "sink"),
];

e2e::blueprint_tests!(BLUEPRINT, PATH);

#[tokio::test]
async fn the_far_end_is_deployed_first() -> anyhow::Result<()> {
    with_environment(BLUEPRINT, |ferry| async move {
        let record = ferry.environment()?.record;
        let mut pods: Vec<_> = record.pods_of(BLUEPRINT).collect();
        pods.sort_by_key(|pod| pod.started_at);
        let clusters: Vec<_> = pods.iter().map(|pod| pod.name.cluster()).collect();
        assert_eq!(clusters, ["cluster-c", "cluster-b", "cluster-a"]);
        for pair in pods.windows(2) {
            assert!(
                pair[0].ready_at <= pair[1].started_at,
                "what a pod sends to must be ready before it starts: {pair:#?}"
            );
        }
        Ok(())
    })
    .await
}

/// So many that their acknowledgements do not fit into the buffers between the gateway and a client that does not read:
/// the gateway is still at it when the processor ends.
const TRAFFIC: usize = 6000;

#[rstest]
#[case::drained(Ending::Graceful)]
#[case::killed(Ending::Abrupt)]
#[tokio::test]
async fn processor_restart_loses_and_repeats_nothing(#[case] ending: Ending) -> anyhow::Result<()> {
    with_environment(BLUEPRINT, |ferry| async move {
        let mark = ferry.messages().last_index().await?;
        let sending = Trigger::Each(payloads(TRAFFIC));
        let inside = ferry.inside().await?;
        let mut acks = inside.messages().begin(&sending).await?;
        let mut all = Vec::from_iter(acks.next().await?);
        ferry
            .faults()
            .stop("processor", Container::App, ending)
            .await?;
        let before = ferry.messages().output(mark).await?.len();
        assert!(
            (1..TRAFFIC).contains(&before),
            "the processor must have ended in the middle, not after {before} messages"
        );
        ferry.faults().start("processor", Container::App).await?;
        while let Some(ack) = acks.next().await? {
            all.push(ack);
        }
        assert_all_delivered(&all, TRAFFIC);

        let stored = ferry.messages().output(mark).await?;
        let sent: Vec<_> = all.iter().map(|ack| ack.id).collect();
        let arrived: Vec<_> = stored.iter().map(|stored| stored.message.id).collect();
        let distinct: BTreeSet<_> = arrived.iter().collect();
        assert_eq!(distinct.len(), TRAFFIC, "each message must be there");
        assert!(
            arrived == sent,
            "{TRAFFIC} messages must be stored once each, in the order they were sent; {} are",
            arrived.len()
        );
        assert_route(&ferry.messages().deliver(payloads(5)).await?, &PATH);
        Ok(())
    })
    .await
}
