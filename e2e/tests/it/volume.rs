//! Many messages, and the largest ones.

use e2e::testing::{
    Setup, assert_delivered, assert_rejected, payload, payload_of, payloads, soak, with_environment,
};
use harness::pinhole::Trigger;
use messages::{Payload, limits::MAX_PAYLOAD_BYTES};
use rstest::rstest;

const MANY: u64 = 2_000;
/// As many in a soak.
const SOAK: u64 = 10_000;

/// A payload of so many bytes that is like no other.
fn numbered(number: u64, bytes: usize) -> Payload {
    let start = format!(r#"{{"number":{number},"filling":""#);
    let filling = "x".repeat(bytes - start.len() - 2);
    payload(&format!("{start}{filling}\"}}"))
}

#[rstest]
#[case::websocket("fast-international-ferry")]
#[case::grpc("international-ferry")]
#[tokio::test]
async fn many_messages_arrive_once_each(#[case] blueprint: &str) -> anyhow::Result<()> {
    with_environment(blueprint, |ferry| async move {
        let many = soak(SOAK, MANY);
        let all = (1..=many).map(|number| numbered(number, 1024)).collect();
        let verdict = ferry.messages().deliver(all).await?;
        assert_delivered(&verdict, many);
        Ok(())
    })
    .await
}

#[rstest]
#[case::websocket("fast-international-ferry")]
#[case::grpc("international-ferry")]
#[tokio::test]
async fn largest_payload_passes_one_byte_more_not(#[case] blueprint: &str) -> anyhow::Result<()> {
    Setup::of(blueprint)
        .no_other_settings()
        .run(|ferry| async move {
            let sink = ferry.sink()?.name.pod().to_owned();
            assert_delivered(
                &ferry
                    .messages()
                    .deliver(vec![payload_of(MAX_PAYLOAD_BYTES)])
                    .await?,
                1,
            );

            let mark = ferry.messages().last_index().await?;
            let sessions = ferry.pod(&sink).envoy_counters().await?.tunnel_handshakes();
            let too_large = Trigger::Each(vec![payload_of(MAX_PAYLOAD_BYTES + 1)]);
            assert_rejected(&ferry.messages().trigger(&too_large).await?, "1048576");
            assert_eq!(
                ferry.messages().last_index().await?,
                mark,
                "what is refused must not be stored"
            );

            assert_delivered(&ferry.messages().deliver(payloads(3)).await?, 3);
            let after = ferry.pod(&sink).envoy_counters().await?.tunnel_handshakes();
            assert_eq!(after, sessions, "the connection must live on");
            Ok(())
        })
        .await
}
