//! WebSocket to a processor in cluster B, gRPC from there to cluster C.

use std::collections::BTreeSet;

use blueprint::container::Container;
use e2e::testing::{
    assert_all_delivered, assert_delivered, assert_route, payloads, with_environment,
};
use harness::{pinhole::Trigger, runtime::Ending};
use rstest::rstest;

const BLUEPRINT: &str = "grand-tour-ferry";
const PATH: [(&str, &str); 3] = [
    ("cluster-a", "gateway"),
    ("cluster-b", "processor"),
    ("cluster-c", "sink"),
];

#[tokio::test]
async fn five_messages_cross_by_themselves() -> anyhow::Result<()> {
    with_environment(BLUEPRINT, |ferry| async move {
        let verdict = ferry.prove().await?;
        assert_delivered(&verdict, 5);
        assert_route(&verdict, &PATH);
        Ok(())
    })
    .await
}

#[rstest]
#[case::one(1)]
#[case::a_few(5)]
#[case::more_than_a_window(1500)]
#[tokio::test]
async fn triggered_messages_cross(#[case] count: usize) -> anyhow::Result<()> {
    with_environment(BLUEPRINT, |ferry| async move {
        let verdict = ferry.deliver(payloads(count)).await?;
        assert_delivered(&verdict, u64::try_from(count)?);
        assert_route(&verdict, &PATH);
        Ok(())
    })
    .await
}

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
async fn a_processor_that_restarts_in_the_middle_loses_and_repeats_nothing(
    #[case] ending: Ending,
) -> anyhow::Result<()> {
    with_environment(BLUEPRINT, |ferry| async move {
        let mark = ferry.last_index().await?;
        let sending = Trigger::Each(payloads(TRAFFIC));
        let inside = ferry.inside().await?;
        let mut acks = inside.begin(&sending).await?;
        let mut all = Vec::from_iter(acks.next().await?);
        ferry.stop("processor", Container::App, ending).await?;
        let before = ferry.output(mark).await?.len();
        assert!(
            (1..TRAFFIC).contains(&before),
            "the processor must have ended in the middle, not after {before} messages"
        );
        ferry.start("processor", Container::App).await?;
        while let Some(ack) = acks.next().await? {
            all.push(ack);
        }
        assert_all_delivered(&all, TRAFFIC);

        let stored = ferry.output(mark).await?;
        let sent: Vec<_> = all.iter().map(|ack| ack.id).collect();
        let arrived: Vec<_> = stored.iter().map(|stored| stored.message.id).collect();
        let distinct: BTreeSet<_> = arrived.iter().collect();
        assert_eq!(distinct.len(), TRAFFIC, "each message must be there");
        assert!(
            arrived == sent,
            "{TRAFFIC} messages must be stored once each, in the order they were sent; {} are",
            arrived.len()
        );
        assert_route(&ferry.deliver(payloads(5)).await?, &PATH);
        Ok(())
    })
    .await
}
