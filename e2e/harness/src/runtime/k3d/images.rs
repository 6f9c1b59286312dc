//! Chooses each pod's image: the newest, or the running one if its programs are the same. The
//! pod then keeps running, and its peers are not interrupted.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use blueprint::plan::{Plan, PodPlan};
use cluster::{
    image,
    kubernetes::{Cluster, Programs},
};
use futures_util::future::try_join_all;
use host::{binaries::Binaries, docker};
use messages::{Role, WorkloadName};
use render::{Controller, Images};

/// What each pod runs.
pub(super) struct Chosen {
    /// The images of each pod.
    pub(super) of_pods: BTreeMap<WorkloadName, Images>,
    /// Those among them that are not the newest and that this machine has: a node that is new must get them, too.
    pub(super) earlier: Vec<String>,
}

/// Chooses the images of each pod. `newest` is what was built last, of `binaries`.
pub(super) async fn choose(
    plan: &Plan,
    clusters: &BTreeMap<String, Cluster>,
    newest: &Images,
    binaries: &Binaries,
) -> anyhow::Result<Chosen> {
    let roles: BTreeSet<Role> = plan.pods.iter().map(|pod| pod.role).collect();
    let contents = roles
        .into_iter()
        .map(|role| async move { anyhow::Ok((role, image::content(binaries, role).await?)) });
    let contents: BTreeMap<_, _> = try_join_all(contents).await?.into_iter().collect();
    let running = plan.pods.iter().map(|pod| running(clusters, pod));
    let running = try_join_all(running).await?;
    let images: BTreeSet<_> = running
        .iter()
        .flatten()
        .map(|pod| pod.programs.image.clone())
        .filter(|image| *image != newest.services)
        .collect();
    let here = images.into_iter().map(|image| async {
        let found = docker::image(&image).await?;
        anyhow::Ok(found.map(|_| image))
    });
    let here: BTreeSet<_> = try_join_all(here).await?.into_iter().flatten().collect();
    let mut of_pods = BTreeMap::new();
    for (pod, runs) in plan.pods.iter().zip(running) {
        let wanted = contents
            .get(&pod.role)
            .with_context(|| format!("the programs of {} were not read", pod.name))?
            .clone();
        let images = Images {
            services: settle(&newest.services, &wanted, runs, &here),
            programs: Some(wanted),
            ..newest.clone()
        };
        of_pods.insert(pod.name.clone(), images);
    }
    let chosen: BTreeSet<_> = of_pods.values().map(|images| &images.services).collect();
    let earlier = here.iter().filter(|image| chosen.contains(image));
    Ok(Chosen {
        earlier: earlier.cloned().collect(),
        of_pods,
    })
}

/// What is there of a pod.
struct Running {
    programs: Programs,
    /// Whether a pod of it runs.
    live: bool,
}

async fn running(
    clusters: &BTreeMap<String, Cluster>,
    pod: &PodPlan,
) -> anyhow::Result<Option<Running>> {
    let Some(cluster) = clusters.get(pod.name.cluster()) else {
        return Ok(None);
    };
    let programs = cluster.programs(&pod.name, Controller::of(pod.role));
    let Some(programs) = programs.await? else {
        return Ok(None);
    };
    let live = !cluster.live_pods(&pod.name).await?.is_empty();
    Ok(Some(Running { programs, live }))
}

/// The image of a pod that wants the programs `wanted`. `here` are the earlier images that this machine has: without one of
/// them no new pod could be made of it.
fn settle(newest: &str, wanted: &str, runs: Option<Running>, here: &BTreeSet<String>) -> String {
    match runs {
        Some(Running { programs, live })
            if programs.content == wanted && (live || here.contains(&programs.image)) =>
        {
            programs.image
        }
        _ => newest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unchanged_programs_keep_their_image() {
        let runs = |content: &str, live| {
            let (content, image) = (content.into(), "old".into());
            let programs = Programs { content, image };
            Some(Running { programs, live })
        };
        let (gone, here) = (BTreeSet::new(), BTreeSet::from(["old".to_owned()]));
        for (runs, here, image) in [
            (runs("1f", true), &gone, "old"),
            (runs("1f", false), &here, "old"),
            // No new pod could be made of it.
            (runs("1f", false), &gone, "new"),
            (runs("2e", true), &here, "new"),
            (None, &here, "new"),
        ] {
            assert_eq!(settle("new", "1f", runs, here), image);
        }
    }
}
