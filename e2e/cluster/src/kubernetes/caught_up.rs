//! Waits until the API server's node status is fresh after a restart of the nodes.
//!
//! Until a node's kubelet has reported, its pods stand there as they were before it stopped: running and ready.

use std::{collections::BTreeMap, time::Duration};

use host::{
    timeline::Step,
    wait::{Seen, Wait},
};
use jiff::Timestamp;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{Api, api::ListParams};

use super::{Cluster, container_statuses};

/// Where each kubelet renews its lease, every 10 s and when it starts.
/// <https://kubernetes.io/docs/concepts/architecture/leases/#node-heart-beats>
const LEASES: &str = "kube-node-lease";
const LIMIT: Duration = Duration::from_secs(90);

impl Cluster {
    /// Waits until every node has reported since it was started, and no container of it is said to run from before.
    pub async fn caught_up(
        &self,
        started: &BTreeMap<String, Timestamp>,
        step: &Step,
    ) -> anyhow::Result<()> {
        Wait::until(format!("the nodes of {}", self.name))
            .within(LIMIT)
            .hint(
                "run `docker ps -a` to check that its nodes are running, and `docker logs` for \
                   their logs",
            )
            .showing(step)
            .poll(|| async {
                let all = ListParams::default();
                let leases = self.namespaced::<Lease>(LEASES);
                let pods = Api::<Pod>::all(self.client());
                let (leases, pods) = match tokio::try_join!(leases.list(&all), pods.list(&all)) {
                    Ok(seen) => seen,
                    Err(error) => return Ok(Seen::Waiting(error.to_string())),
                };
                let behind = silent(&leases.items, started).or_else(|| stale(&pods.items, started));
                Ok(behind.map_or(Seen::Ready(()), Seen::Waiting))
            })
            .await
    }
}

/// The first node that has not reported since it was started.
fn silent(leases: &[Lease], started: &BTreeMap<String, Timestamp>) -> Option<String> {
    started.iter().find_map(|(node, started)| {
        let lease = leases
            .iter()
            .find(|lease| lease.metadata.name.as_ref() == Some(node));
        let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref());
        match renewed {
            Some(renewed) if renewed.0 >= *started => None,
            _ => Some(format!("{node} has not reported since it was started")),
        }
    })
}

/// The first pod with a container that is said to run since before its node was started.
fn stale(pods: &[Pod], started: &BTreeMap<String, Timestamp>) -> Option<String> {
    pods.iter().find_map(|pod| {
        let node = pod.spec.as_ref()?.node_name.as_ref()?;
        // Kubernetes' times have whole seconds.
        let second = started.get(node)?.as_second();
        let is_stale = container_statuses(pod).any(|container| {
            let running = container
                .state
                .as_ref()
                .and_then(|state| state.running.as_ref());
            running
                .and_then(|running| running.started_at.as_ref())
                .is_some_and(|since| since.0.as_second() < second)
        });
        is_stale.then(|| {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            format!("{name} is not started again yet")
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn started() -> BTreeMap<String, Timestamp> {
        [("node".to_owned(), "2026-01-02T03:04:05.6Z".parse().unwrap())].into()
    }

    fn lease(renewed: &str) -> Lease {
        serde_json::from_value(
            json!({ "metadata": { "name": "node" }, "spec": { "renewTime": renewed } }),
        )
        .unwrap()
    }

    fn pod(state: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "sink-0" },
            "spec": { "nodeName": "node", "containers": [] },
            "status": { "containerStatuses": [{ "name": "app", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state }] },
        }))
        .unwrap()
    }

    #[test]
    fn node_counts_after_report_since_start() {
        assert!(silent(&[], &started()).is_some());
        assert!(silent(&[lease("2026-01-02T03:04:05.500000Z")], &started()).is_some());
        assert_eq!(
            silent(&[lease("2026-01-02T03:04:05.700000Z")], &started()),
            None
        );
    }

    #[test]
    fn container_older_than_node_start_is_stale() {
        let running = |since: &str| pod(json!({ "running": { "startedAt": since } }));
        assert!(
            stale(&[running("2026-01-02T03:04:04Z")], &started())
                .unwrap()
                .contains("sink-0")
        );
        // The same second: Kubernetes does not say more.
        assert_eq!(stale(&[running("2026-01-02T03:04:05Z")], &started()), None);
        assert_eq!(
            stale(&[pod(json!({ "waiting": { "reason": "x" } }))], &started()),
            None
        );
    }
}
