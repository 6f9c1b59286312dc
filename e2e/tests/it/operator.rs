//! What an operator does by hand, as docs/operations.md says, and what they see of it.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use blueprint::pinhole_name;
use e2e::testing::Ferry;
use harness::runtime::clusters;
use host::{
    environment::{PodRecord, RuntimeKind},
    http::{Request, Tls},
    wait::{Seen, Wait},
};
use identity::Root;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};

/// A kubelet that is told too early has the Secret of before, and is told again.
const LIMIT: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_secs(1);
const LOOKS_BEFORE_NUDGE: u32 = 5;

/// Replaces the certificate of a pod's pinhole by one of `root`: in the pod's Secret where there is one, and in its folder,
/// for the commands. Returns when the pod shows it to a client that trusts `root` alone.
pub(crate) async fn give_certificate(
    ferry: &Ferry,
    pod: &PodRecord,
    root: &Root,
) -> anyhow::Result<()> {
    let environment = ferry.environment()?;
    let server = root.server(&pod.name)?;
    let cluster = match environment.record.runtime {
        RuntimeKind::Embedded => None,
        RuntimeKind::K3d | RuntimeKind::Existing => {
            let cluster = clusters::connect(&environment, pod.name.cluster()).await?;
            let secrets = Api::<Secret>::namespaced(cluster.client(), &pod.name.namespace());
            let patch = serde_json::json!({
                "stringData": { "tls.crt": server.certificate_pem(), "tls.key": server.key_pem() },
            });
            secrets
                .patch("pinhole", &PatchParams::default(), &Patch::Merge(&patch))
                .await?;
            Some(cluster)
        }
    };
    server.save(&environment.layout().pinhole(&pod.name))?;

    let address = pod.local_address.clone().context("it has no address")?;
    let tls = Tls::of(root.certificate_pem().as_bytes(), &pinhole_name(&pod.name))?;
    let looks = AtomicU32::new(0);
    Wait::until(format!("{} to show the new certificate", pod.name))
        .within(LIMIT)
        .looking_every(PAUSE)
        .poll(|| async {
            let look = looks.fetch_add(1, Ordering::Relaxed);
            if let Some(cluster) = &cluster
                && look.is_multiple_of(LOOKS_BEFORE_NUDGE)
            {
                cluster.nudge(&pod.name, &format!("look {look}")).await?;
            }
            let request = Request::get(address.clone(), "/health").secured(tls.clone());
            Ok(match request.send().await {
                Ok(answer) => {
                    assert_eq!(answer.status, 200);
                    Seen::Ready(())
                }
                Err(error) => Seen::Waiting(format!("{error:#}")),
            })
        })
        .await
}

/// What runs of a pod: another list after any start, of processes or of containers.
pub(crate) async fn running(ferry: &Ferry, pod: &PodRecord) -> anyhow::Result<Vec<String>> {
    let environment = ferry.environment()?;
    if environment.record.runtime == RuntimeKind::Embedded {
        let processes = ferry.pod(pod.name.pod()).record()?.processes;
        return Ok(processes
            .iter()
            .filter(|process| process.id.is_running())
            .map(|process| format!("{:?}", process.id))
            .collect());
    }
    let cluster = clusters::connect(&environment, pod.name.cluster()).await?;
    let pods = Api::<Pod>::namespaced(cluster.client(), &pod.name.namespace());
    let listed = pods.list(&ListParams::default()).await?;
    let statuses = listed.items.into_iter().filter_map(|pod| pod.status);
    let containers = statuses.flat_map(|status| {
        let sidecars = status.init_container_statuses.unwrap_or_default();
        sidecars
            .into_iter()
            .chain(status.container_statuses.unwrap_or_default())
    });
    Ok(containers
        .filter_map(|status| status.container_id)
        .collect())
}
