//! Which image each pod runs: the newest, unless the pod that is there runs the same programs out of an earlier one. A pod is
//! then left alone, with what it has stored.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use futures_util::future::try_join_all;
use messages::{Role, WorkloadName};

use crate::{
    docker, image,
    kubernetes::{Cluster, Programs},
    plan::{Plan, PodPlan},
    render::Images,
    services::Binaries,
};

/// The images of each pod. `newest` is what was built last, of `binaries`.
pub(super) async fn of_pods(
    plan: &Plan,
    clusters: &BTreeMap<String, Cluster>,
    newest: &Images,
    binaries: &Binaries,
) -> anyhow::Result<BTreeMap<WorkloadName, Images>> {
    let roles: BTreeSet<Role> = plan.pods.iter().map(|pod| pod.role).collect();
    let contents = roles
        .into_iter()
        .map(|role| async move { anyhow::Ok((role, image::content(binaries, role).await?)) });
    let contents: &BTreeMap<_, _> = &try_join_all(contents).await?.into_iter().collect();
    let pods = plan.pods.iter().map(|pod| async move {
        let wanted = contents
            .get(&pod.role)
            .with_context(|| format!("the programs of {} were not read", pod.name))?
            .clone();
        let runs = match clusters.get(pod.name.cluster()) {
            Some(cluster) => running(cluster, pod).await?,
            None => None,
        };
        let images = Images {
            services: settle(&newest.services, &wanted, runs),
            programs: Some(wanted),
            ..newest.clone()
        };
        anyhow::Ok((pod.name.clone(), images))
    });
    Ok(try_join_all(pods).await?.into_iter().collect())
}

/// What the pod that is there runs. `None` where a new one could not be made of the same image: where neither a pod of it
/// runs nor this machine has it any more.
async fn running(cluster: &Cluster, pod: &PodPlan) -> anyhow::Result<Option<Programs>> {
    let Some(programs) = cluster.programs(&pod.name).await? else {
        return Ok(None);
    };
    let there = !cluster.live_pods(&pod.name).await?.is_empty()
        || docker::image(&programs.image).await?.is_some();
    Ok(there.then_some(programs))
}

fn settle(newest: &str, wanted: &str, runs: Option<Programs>) -> String {
    match runs {
        Some(runs) if runs.content == wanted => runs.image,
        _ => newest.to_owned(),
    }
}

/// Those that are not `newest` and that this machine has: a node that is new must get them, too.
pub(super) async fn earlier(
    of_pods: &BTreeMap<WorkloadName, Images>,
    newest: &Images,
) -> anyhow::Result<Vec<String>> {
    let mut earlier: Vec<_> = of_pods
        .values()
        .map(|images| images.services.clone())
        .filter(|image| *image != newest.services)
        .collect();
    earlier.sort();
    earlier.dedup();
    let mut here = vec![];
    for image in earlier {
        if docker::image(&image).await?.is_some() {
            here.push(image);
        }
    }
    Ok(here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_programs_stay_in_the_image_they_run_from() {
        let runs = |content: &str| {
            Some(Programs {
                content: content.into(),
                image: "ferry/services:old".into(),
            })
        };
        assert_eq!(settle("new", "1f", runs("1f")), "ferry/services:old");
        assert_eq!(settle("new", "1f", runs("2e")), "new");
        assert_eq!(settle("new", "1f", None), "new");
    }
}
