//! Shared by the runtimes on clusters: connections, pod states, secrets, records.

mod connection;
pub mod deploy;
mod kept;
mod pods;
mod records;
mod secrets;

use std::time::Duration;

use futures_util::future::try_join_all;
use host::{
    environment::PodRecord,
    http::Request,
    timeline::{Step, Timeline},
    wait::{Seen, Wait},
};

use connection::cluster_of;
pub use connection::connect;
pub(crate) use kept::must_not_lose;
pub(crate) use pods::{OnClusters, api_clocks, looks, replace, states};
pub(crate) use records::{left, record_deployed, record_pods};
pub(crate) use secrets::secrets;
pub(crate) use secrets::secrets_in;

/// Time for a ready pod to answer through the load balancer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Waits until every one of these pods answers on the address that this machine reaches it by. `hint` says what to do where
/// one does not.
pub(super) async fn answer_here(
    pods: impl IntoIterator<Item = &PodRecord>,
    hint: &str,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    timeline
        .run("reach every pod from this machine", |step| async move {
            let answers = pods.into_iter().map(|pod| answers_here(pod, hint, &step));
            try_join_all(answers).await?;
            Ok(())
        })
        .await
}

async fn answers_here(pod: &PodRecord, hint: &str, step: &Step) -> anyhow::Result<()> {
    let Some(address) = &pod.local_address else {
        return Ok(());
    };
    Wait::until(format!("{} at {address}", pod.name))
        .within(ANSWER_LIMIT)
        .hint(hint)
        .showing(step)
        .poll(|| async {
            Ok(match Request::get(address, "/health").send().await {
                Ok(answer) if answer.status == 200 => Seen::Ready(()),
                Ok(answer) => Seen::Waiting(format!("it answers {}", answer.status)),
                Err(error) => Seen::Waiting(format!("{error:#}")),
            })
        })
        .await
}
