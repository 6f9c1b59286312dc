//! Removes a deployment: its namespaces with their contents, then its files.

use std::{collections::BTreeMap, time::Duration};

use blueprint::failure::Failure;
use cluster::kubernetes::Owned;
use futures_util::future::{join_all, try_join_all};
use host::{environment::Environment, timeline::Timeline};

use crate::runtime::{clusters, request::State};

/// A cloud takes its load balancers back before a namespace is gone.
const GONE_LIMIT: Duration = Duration::from_secs(300);

/// Deletes the namespaces of an environment and waits until they are gone; returns how many there were.
pub(crate) async fn down(
    environment: &Environment,
    state: State,
    timeline: &Timeline,
) -> anyhow::Result<usize> {
    let end = match state {
        State::Remove | State::Keep => End::Gone,
        State::Messages => End::Withdrawn,
    };
    let count = delete(environment, end, timeline).await?;
    clusters::left(environment, state)?;
    Ok(count)
}

/// Asks for the end of the namespaces, and does not wait for it.
pub(crate) async fn kill(environment: &Environment, timeline: &Timeline) -> anyhow::Result<usize> {
    let count = delete(environment, End::Asked, timeline).await?;
    environment.layout().remove()?;
    Ok(count)
}

/// What becomes of the namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// They are deleted, and gone.
    Gone,
    /// Their end is asked for.
    Asked,
    /// They stay with the claims of the sinks; all else that was deployed goes.
    Withdrawn,
}

async fn delete(environment: &Environment, end: End, timeline: &Timeline) -> anyhow::Result<usize> {
    // After an end that kept the files, no cluster is recorded any more, and nothing of it is there.
    let mut namespaces = BTreeMap::<&str, Vec<&str>>::new();
    for cluster in &environment.record.clusters {
        namespaces.entry(&cluster.name).or_default();
    }
    for pod in &environment.record.pods {
        if let Some(of_cluster) = namespaces.get_mut(pod.name.cluster()) {
            of_cluster.push(&pod.namespace);
        }
    }
    let clusters = namespaces
        .into_iter()
        .map(|(cluster, namespaces)| async move {
            delete_in(environment, cluster, &namespaces, end, timeline)
                .await
                .map_err(|error| {
                    error.context(Failure::infrastructure(format!(
                    "not all namespaces of `{}` in {cluster} were deleted",
                    environment.name()
                ))
                .hint(format!(
                    "run the command again when {cluster} responds; if that cluster no longer \
                     exists, delete the folder `{}`",
                    environment.layout().root().display()
                )))
                })
        });
    // To the end in each cluster, whatever becomes of the others.
    let counts: anyhow::Result<Vec<_>> = join_all(clusters).await.into_iter().collect();
    Ok(counts?.into_iter().sum())
}

async fn delete_in(
    environment: &Environment,
    cluster: &str,
    namespaces: &[&str],
    end: End,
    timeline: &Timeline,
) -> anyhow::Result<usize> {
    let connected = &clusters::connect(environment, cluster).await?;
    let label = environment.record.label();
    let mut ours = vec![];
    for namespace in namespaces {
        match connected.owner_of(namespace, label).await? {
            Owned::Ours => {
                match end {
                    End::Gone | End::Asked => connected.delete_namespace(namespace).await?,
                    End::Withdrawn => {
                        let title =
                            format!("{cluster}: withdraw all but the claims of {namespace}");
                        timeline
                            .run(title, |step| async move {
                                let namespace = *namespace;
                                connected
                                    .withdraw(namespace, label, GONE_LIMIT, &step)
                                    .await
                            })
                            .await?;
                    }
                }
                ours.push(*namespace);
            }
            Owned::Absent => {}
            Owned::Foreign(whose) => timeline.note(format!(
                "{cluster}: namespace {namespace} is left alone: it is {whose}"
            )),
        }
    }
    if end == End::Gone && !ours.is_empty() {
        timeline
            .run(
                format!("{cluster}: delete {}", ours.join(", ")),
                |step| async move {
                    let step = &step;
                    try_join_all(ours.iter().map(|namespace| async move {
                        connected.namespace_gone(namespace, GONE_LIMIT, step).await
                    }))
                    .await
                    .map(|gone| gone.len())
                },
            )
            .await
    } else {
        Ok(ours.len())
    }
}
