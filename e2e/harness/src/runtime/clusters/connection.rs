//! Connects to the API servers of an environment's clusters.

use anyhow::Context as _;
use blueprint::failure::Failure;
use cluster::{k3d::Clusters, kubeconfig, kubernetes::Cluster};
use host::environment::Environment;
use messages::WorkloadName;

/// Connects to one of an environment's clusters, by its name in the blueprints: by the contexts that `deploy` recorded, or by
/// the kubeconfig in the environment's folder.
///
/// # Errors
///
/// A usage failure if the environment has no API servers; else what the API server or the kubeconfig refuses.
pub async fn connect(environment: &Environment, cluster: &str) -> anyhow::Result<Cluster> {
    let name = environment.name();
    let mut records = environment.record.clusters.iter();
    let record = records.find(|record| record.name == cluster);
    let record =
        record.with_context(|| format!("environment `{name}` has no cluster {cluster}"))?;
    if let Some(existing) = &environment.record.existing {
        let read = kubeconfig::read(&existing.kubeconfig)?;
        read.check_context(&record.reference)?;
        return Cluster::connect_by(&record.name, read.config, &record.reference).await;
    }
    let clusters = Clusters::new(name.as_str(), environment.layout().root());
    let file = clusters.kubeconfig_of(&record.reference);
    if !file.exists() {
        return Err(Failure::usage(format!(
            "environment `{name}` has no kubeconfig for {cluster}: `{}` is missing",
            file.display()
        ))
        .hint("an environment of processes has no API servers; run `cargo xtask local-up` if k3d made it")
        .into());
    }
    Cluster::connect(&record.name, &file).await
}

pub(super) async fn cluster_of(
    environment: &Environment,
    pod: &WorkloadName,
) -> anyhow::Result<Cluster> {
    connect(environment, pod.cluster()).await
}
