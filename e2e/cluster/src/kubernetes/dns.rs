//! Makes cluster DNS serve its current ConfigMap, which has the name of this machine.

use std::time::Duration;

use anyhow::Context as _;
use host::{
    timeline::Step,
    wait::{Seen, Wait},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::ListParams;
use messages::limits::MAX_CLOCK_SKEW;

use super::{Cluster, diagnose};

const NAMESPACE: &str = "kube-system";
const CONFIG_MAP: &str = "coredns";
const PODS: &str = "k8s-app=kube-dns";
const LIMIT: Duration = Duration::from_secs(60);
/// A kubelet brings a changed ConfigMap to its volume within its sync period and cache, about 90 s; after this it has.
const SYNCED_AFTER: Duration = Duration::from_secs(120);

impl Cluster {
    /// Makes the cluster's DNS serve its current ConfigMap, and waits until it does.
    ///
    /// k3d adds `host.k3d.internal` to it when CoreDNS may run already. Until the kubelet brings that over, the name is
    /// unknown, and CoreDNS remembers for 30 s that it was. A new pod starts with the new file.
    pub async fn settle_dns(&self, step: &Step) -> anyhow::Result<()> {
        let config = self
            .namespaced::<ConfigMap>(NAMESPACE)
            .get_opt(CONFIG_MAP)
            .await;
        let Some(config) = config.with_context(|| {
            format!(
                "{}: cannot read ConfigMap {NAMESPACE}/{CONFIG_MAP}",
                self.name
            )
        })?
        else {
            // A cluster with another DNS: the dial from inside tells whether the name is known there.
            return Ok(());
        };
        let changes = config.metadata.managed_fields.iter().flatten();
        let changed = changes
            .filter_map(|change| change.time.as_ref())
            .map(|time| time.0)
            .max();
        let changed = changed.or(config
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0));
        let recently = |changed: &Timestamp| {
            // The API server's clock may be another.
            Timestamp::now().duration_since(*changed).unsigned_abs() < SYNCED_AFTER + MAX_CLOCK_SKEW
        };
        let Some(changed) = changed.filter(recently) else {
            return Ok(());
        };
        // Times have whole seconds here: what was made in the same one may have the old file.
        let mut stale = self.dns_pods().await?;
        stale.retain(|pod| {
            pod.metadata
                .creation_timestamp
                .as_ref()
                .is_none_or(|created| created.0 <= changed)
        });
        for pod in &stale {
            step.progress("starting CoreDNS anew");
            self.delete_pod(NAMESPACE, pod.metadata.name.as_deref().unwrap_or_default())
                .await?;
        }
        let is_stale = |pod: &Pod| {
            stale
                .iter()
                .any(|stale| stale.metadata.uid == pod.metadata.uid)
        };
        Wait::until(format!("CoreDNS of {}", self.name))
            .within(LIMIT)
            .showing(step)
            .poll(|| async {
                let pods = self.dns_pods().await?;
                Ok(
                    match pods.iter().find(|pod| !is_stale(pod)).map(diagnose::pod) {
                        Some(diagnose::State::Ready) => Seen::Ready(()),
                        Some(other) => Seen::Waiting(format!("{other:?}")),
                        None => Seen::Waiting("no new pod yet".into()),
                    },
                )
            })
            .await
    }

    async fn dns_pods(&self) -> anyhow::Result<Vec<Pod>> {
        let pods = self
            .namespaced::<Pod>(NAMESPACE)
            .list(&ListParams::default().labels(PODS))
            .await;
        Ok(pods
            .with_context(|| format!("{}: cannot list the pods of CoreDNS", self.name))?
            .items)
    }
}
