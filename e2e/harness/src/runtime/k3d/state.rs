//! Reads the state of an environment's clusters from Docker.

use std::collections::BTreeMap;

use cluster::k3d::Clusters;
use host::{docker, environment::Environment};

fn clusters(environment: &Environment) -> Clusters {
    Clusters::new(environment.name().as_str(), environment.layout().root())
}

/// The clusters whose API servers cannot answer, and what they are.
pub(super) async fn clusters_down(
    environment: &Environment,
) -> anyhow::Result<BTreeMap<&str, &'static str>> {
    // Says what to do where the engine itself is down.
    docker::info().await?;
    let clusters = clusters(environment);
    let mut down = BTreeMap::new();
    for cluster in &environment.record.clusters {
        let nodes = clusters.look(&cluster.reference).await?;
        if nodes.is_empty() {
            down.insert(cluster.name.as_str(), "gone");
        } else if !nodes.iter().all(docker::Container::is_running) {
            down.insert(cluster.name.as_str(), "stopped");
        }
    }
    Ok(down)
}
