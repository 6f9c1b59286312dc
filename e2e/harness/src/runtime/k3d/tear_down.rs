//! Removes an environment on k3d: its clusters, then its files.

use std::path::Path;

use cluster::k3d::{Clusters, Owner, owners};
use host::{environment::Environment, timeline::Timeline};

use crate::runtime::{clusters, request::State};

/// Deletes the clusters of an environment, or stops them; returns how many there were.
pub(crate) async fn down(
    environment: &Environment,
    state: State,
    timeline: &Timeline,
) -> anyhow::Result<usize> {
    let clusters = Clusters::new(environment.name().as_str(), environment.layout().root());
    if state == State::Messages {
        // Their volumes are on their nodes.
        let names = environment.record.clusters.iter();
        let names: Vec<_> = names.map(|cluster| cluster.reference.clone()).collect();
        return clusters.stop(&names, timeline).await;
    }
    let count = clusters.down(timeline).await?;
    clusters::left(environment, state)?;
    Ok(count)
}

/// Deletes the clusters whose label names this state folder, whatever is left of the folder itself.
pub(crate) async fn remove_unrecorded(state: &Path, timeline: &Timeline) -> anyhow::Result<usize> {
    let mut count = 0;
    for owner in left_in(state).await {
        count += Clusters::of(owner).down(timeline).await?;
    }
    Ok(count)
}

/// Names of the clusters whose label names this state folder. Empty where no engine answers.
pub(crate) async fn clusters_of(state: &Path) -> Vec<String> {
    let owners = owners().await.unwrap_or_default().into_iter();
    owners
        .filter(|(owner, _)| owner.state == state)
        .flat_map(|(_, clusters)| clusters)
        .collect()
}

/// Owners of clusters whose state folder is `folder` or lies in it. Empty where no engine answers: what runs nowhere cannot
/// be left behind.
async fn left_in(folder: &Path) -> Vec<Owner> {
    let owners = owners().await.unwrap_or_default();
    owners
        .into_keys()
        .filter(|owner| owner.state.starts_with(folder))
        .collect()
}

/// State folders below `root` that are gone while clusters of theirs are not.
pub(crate) async fn orphans(root: &Path) -> Vec<Owner> {
    left_in(root)
        .await
        .into_iter()
        .filter(|owner| !owner.state.exists())
        .collect()
}
