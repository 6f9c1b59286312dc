//! Authorities and server certificates of pods on clusters: replaces the Secret, notifies
//! kubelet, queries the pods.

use blueprint::{
    failure::Failure,
    plan::{ENVOY_STATS_PORT, SERVER_CERTIFICATE, SERVER_KEY, WOSP_PORT},
};
use cluster::kubernetes::Cluster;
use identity::{AUTHORITY_CERTIFICATE, AUTHORITY_KEY, Authority, ROOTS, Server};
use messages::{IDENTITY_REPORT_PATH, WorkloadName};
use render::{AUTHORITY_SECRET, PINHOLE_SECRET, TOKEN_KEY};

use super::Live;

/// Replaces the Secret with a pod's authority.
pub(super) async fn apply_authority(
    cluster: &Cluster,
    name: &WorkloadName,
    authority: &Authority,
) -> anyhow::Result<()> {
    let files = [
        (
            AUTHORITY_CERTIFICATE,
            authority.certificate_pem().to_owned(),
        ),
        (AUTHORITY_KEY, authority.key_pem()),
        (ROOTS, authority.roots_pem().to_owned()),
    ];
    let data = files.map(|(name, text)| (name.to_owned(), text)).into();
    cluster
        .replace_secret(&name.namespace(), AUTHORITY_SECRET, data)
        .await
}

/// Replaces the Secret of a pod's pinhole; `token` is the one that it has.
pub(super) async fn apply_server(
    cluster: &Cluster,
    name: &WorkloadName,
    server: &Server,
    token: String,
) -> anyhow::Result<()> {
    // What is left out of an apply is taken away, so the token is said again.
    let files = [
        (TOKEN_KEY, token),
        (SERVER_CERTIFICATE, server.certificate_pem().to_owned()),
        (SERVER_KEY, server.key_pem().to_owned()),
    ];
    let data = files.map(|(name, text)| (name.to_owned(), text)).into();
    cluster
        .replace_secret(&name.namespace(), PINHOLE_SECRET, data)
        .await
}

/// Has the kubelets of the pod look at its Secret now.
pub(super) async fn nudge(cluster: &Cluster, name: &WorkloadName) -> anyhow::Result<()> {
    cluster
        .nudge(name, &jiff::Timestamp::now().to_string())
        .await
}

/// Asks every pod of the workload that runs; one that does not answer is an error.
pub(super) async fn look(cluster: &Cluster, name: &WorkloadName) -> anyhow::Result<Vec<Live>> {
    let namespace = name.namespace();
    let mut all = vec![];
    for pod in cluster.live_pods(name).await? {
        let report = cluster
            .ask(&namespace, &pod.name, WOSP_PORT, IDENTITY_REPORT_PATH)
            .await?;
        let statistics = cluster
            .ask(&namespace, &pod.name, ENVOY_STATS_PORT, "/stats/prometheus")
            .await?;
        all.push(Live::read(pod.name, &report, &statistics)?);
    }
    if all.is_empty() {
        return Err(Failure::infrastructure(format!(
            "{} in {} has no running pod",
            name.pod(),
            name.cluster()
        ))
        .hint("run `cargo xtask status` to see the reason")
        .into());
    }
    Ok(all)
}
