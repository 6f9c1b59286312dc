//! WebSocket from one pod in cluster A to one in cluster B.

use e2e::testing::{assert_delivered, assert_route, payloads, with_environment};
use rstest::rstest;

const BLUEPRINT: &str = "fast-international-ferry";
const PATH: [(&str, &str); 2] = [("cluster-a", "initiator"), ("cluster-b", "terminator")];

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
