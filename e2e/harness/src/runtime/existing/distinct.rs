//! Rejects two contexts of the same cluster, since a trail across them would prove nothing.

use std::collections::BTreeMap;

use blueprint::failure::Failure;
use cluster::kubernetes::Cluster;
use futures_util::future::join_all;
use host::timeline::Timeline;

/// Refuses contexts that lead to one cluster. `contexts` and `clusters` have the same keys: names of the blueprint. Where a
/// user may not read what tells clusters apart, that is said, and it goes on.
pub(super) async fn check(
    contexts: &BTreeMap<String, String>,
    clusters: &BTreeMap<String, Cluster>,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    if clusters.len() < 2 {
        return Ok(());
    }
    let asked = clusters
        .iter()
        .map(|(name, cluster)| async move { (name, cluster.uid().await) });
    let context = |name: &str| {
        let context = contexts.get(name).map(String::as_str);
        format!("`{}` ({name})", context.unwrap_or_default())
    };
    let mut seen = BTreeMap::<String, &str>::new();
    for (name, uid) in join_all(asked).await {
        match uid {
            Ok(uid) => {
                if let Some(other) = seen.insert(uid, name) {
                    return Err(Failure::usage(format!(
                        "contexts {} and {} lead to the same cluster: their namespaces \
                         kube-system have the same UID",
                        context(other),
                        context(name)
                    ))
                    .hint(
                        "pass a context of a different cluster for each; run `kubectl config \
                         view` to see their clusters",
                    )
                    .into());
                }
            }
            Err(error) => timeline.warning(format!(
                "whether context {} is the same cluster as another is not known: {error:#}",
                context(name)
            )),
        }
    }
    Ok(())
}
