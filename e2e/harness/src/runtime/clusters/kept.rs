//! Refuses to move a sink to a claim while its messages lie on a volume that ends with its pod: Kubernetes cannot copy them.

use std::collections::BTreeMap;

use anyhow::Context as _;
use blueprint::{
    failure::Failure,
    plan::{Plan, PodPlan},
};
use cluster::kubernetes::Cluster;
use host::environment::Environment;
use render::Controller;

use crate::ops::local;

/// Removes what makes sinks whose messages end with their pods, where the plan has them on claims and nothing is stored.
///
/// # Errors
///
/// A [`Failure::usage`] where one has stored messages, or cannot be asked; nothing of any sink is changed then.
pub(crate) async fn must_not_lose(
    environment: &Environment,
    plan: &Plan,
    clusters: &BTreeMap<String, Cluster>,
) -> anyhow::Result<()> {
    let mut empty = vec![];
    for pod in &plan.pods {
        let Some(storage) = &pod.storage else {
            continue;
        };
        let cluster = clusters
            .get(pod.name.cluster())
            .with_context(|| format!("{} is not connected", pod.name.cluster()))?;
        match cluster.ends_with_pod(&pod.name).await? {
            None => {}
            // It is asked for, and stays so.
            Some(Controller::StatefulSet) if storage.ephemeral => {}
            Some(controller) => {
                must_be_empty(environment, cluster, pod, controller).await?;
                empty.push((cluster, pod, controller));
            }
        }
    }
    for (cluster, pod, controller) in empty {
        cluster.remove_controller(&pod.name, controller).await?;
    }
    Ok(())
}

async fn must_be_empty(
    environment: &Environment,
    cluster: &Cluster,
    pod: &PodPlan,
    controller: Controller,
) -> anyhow::Result<()> {
    let count = if cluster.pods(&pod.name).await?.is_empty() {
        Some(0)
    } else {
        let record = environment.record.pod(&pod.name);
        let record = record.with_context(|| format!("{} is not recorded", pod.name))?;
        local::stored_at(record).await
    };
    if count == Some(0) {
        return Ok(());
    }
    let why = match controller {
        Controller::Deployment => "an earlier Ferry deployed it so",
        Controller::StatefulSet => "its blueprint had `ephemeral: true`",
    };
    let name = environment.name();
    let again = match &environment.record.existing {
        Some(_) => format!("`cargo xtask undeploy --name {name}` and `deploy` again"),
        None => format!("`cargo xtask local-up --name {name} --fresh`"),
    };
    Err(Failure::usage(format!(
        "{}: the {} of {} end with its pod, since {why}: no claim can take them over",
        cluster.name(),
        local::messages(count),
        pod.name.pod()
    ))
    .hint(format!(
        "read them first (`cargo xtask trail --name {name} --json`), then {again} makes a sink with a claim"
    ))
    .into())
}
