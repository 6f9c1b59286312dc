//! Ferries whose pods have IPv6 addresses and no other.

use std::net::{Ipv6Addr, TcpListener};

use anyhow::Context as _;
use e2e::testing::{Setup, assert_delivered, or_untested, payloads};
use host::http::Request;
use rstest::rstest;

/// Whether this machine has `::1`.
fn ipv6() -> anyhow::Result<Option<TcpListener>> {
    let bound = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).context("no [::1] on this machine");
    or_untested(bound, "ferries by IPv6")
}

#[rstest]
#[case::websocket("fast-international-ferry")]
#[case::grpc("international-ferry")]
#[case::both_over_a_third("grand-tour-ferry")]
#[tokio::test]
async fn a_ferry_crosses_by_ipv6_alone(#[case] blueprint: &str) -> anyhow::Result<()> {
    if ipv6()?.is_none() {
        return Ok(());
    }
    let setup = Setup::of(blueprint).by_ipv6();
    setup
        .run(|ferry| async move {
            for pod in &ferry.environment()?.record.pods {
                let address = pod.local_address.clone().context("it has an address")?;
                assert_eq!(address.host, "::1", "{}", pod.name);
                let answer = Request::get(address, "/health").send().await?;
                assert_eq!(answer.status, 200, "{}", pod.name);
            }
            assert_delivered(&ferry.messages().prove().await?, 5);
            assert_delivered(&ferry.messages().deliver(payloads(20)).await?, 20);
            Ok(())
        })
        .await
}
