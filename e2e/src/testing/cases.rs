//! The tests that every blueprint has.

use super::{assert_delivered, assert_routes, payloads, with_environment};

/// Clusters and pods of a route in travel order, the pods by their names in the blueprint.
pub type Route = [(&'static str, &'static str)];

/// How many messages are sent at once: one, a few, and more than a window, which has 1,024.
const COUNTS: [usize; 3] = [1, 5, 1100];

/// Defines the tests of a blueprint whose messages come once over each of these routes.
#[macro_export]
macro_rules! blueprint_tests {
    ($blueprint:expr, $($route:expr),+) => {
        #[tokio::test]
        async fn own_messages_cross() -> anyhow::Result<()> {
            $crate::testing::own_messages_cross($blueprint, &[$(&$route),+]).await
        }

        #[tokio::test]
        async fn triggered_messages_cross() -> anyhow::Result<()> {
            $crate::testing::triggered_messages_cross($blueprint, &[$(&$route),+]).await
        }
    };
}

/// Proves the five messages that a blueprint sends by itself.
///
/// # Errors
///
/// What kept the environment from coming up, or a message from arriving.
pub async fn own_messages_cross(blueprint: &str, routes: &[&Route]) -> anyhow::Result<()> {
    with_environment(blueprint, |ferry| async move {
        let verdict = ferry.messages().prove().await?;

        assert_delivered(&verdict, 5);
        assert_routes(&verdict, routes);
        Ok(())
    })
    .await
}

/// Proves messages that are asked for through the pinhole of the gateway.
///
/// # Errors
///
/// As [`own_messages_cross`].
pub async fn triggered_messages_cross(blueprint: &str, routes: &[&Route]) -> anyhow::Result<()> {
    with_environment(blueprint, |ferry| async move {
        for count in COUNTS {
            let verdict = ferry.messages().deliver(payloads(count)).await?;

            assert_delivered(&verdict, u64::try_from(count)?);
            assert_routes(&verdict, routes);
        }
        Ok(())
    })
    .await
}
