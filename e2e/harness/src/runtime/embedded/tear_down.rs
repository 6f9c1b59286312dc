//! Removes an environment in any state.

use std::time::Duration;

use blueprint::container::Container;
use host::{
    environment::{Environment, Layout, PodRecord, ProcessRecord},
    process::{self, ProcessId},
    timeline::Timeline,
};

use super::DRAIN_LIMIT;
use crate::runtime::request::State;

/// Longest time for an environment without an owner to end: what a test leaves in flight is lost
/// anyway.
pub(super) const SHORT_LIMIT: Duration = Duration::from_secs(3);

/// Ends everything of an environment; returns how many processes that were.
///
/// Apps first, from the gateways down, so that what is in flight still finds its way; then what is around them.
pub(crate) async fn down(
    environment: &Environment,
    state: State,
    timeline: &Timeline,
) -> anyhow::Result<usize> {
    let record = &environment.record;
    let limit = match record.owner {
        None => DRAIN_LIMIT,
        Some(_) => SHORT_LIMIT,
    };
    let mut ended = end_pods(&record.pods, limit, timeline).await?;
    let others: Vec<_> = running(record.processes());
    ended += end(&others, SHORT_LIMIT, timeline).await?;
    ended += end_unrecorded(environment.layout(), timeline).await?;
    match state {
        State::Remove => environment.layout().remove()?,
        // As after a restart of the machine: `refresh` starts again what has ended, in its own folder.
        State::Messages => {}
        State::Keep => {
            let mut kept = environment.clone();
            kept.record.owner = None;
            for cluster in &mut kept.record.clusters {
                cluster.processes.clear();
            }
            for pod in &mut kept.record.pods {
                pod.processes.clear();
            }
            kept.save()?;
        }
    }
    Ok(ended)
}

/// Ends pods: their apps first, each within `limit`, from the gateways down; returns how many processes that were.
pub(super) async fn end_pods(
    pods: &[PodRecord],
    limit: Duration,
    timeline: &Timeline,
) -> anyhow::Result<usize> {
    let mut ended = 0;
    for apps in apps_from_the_gateways_down(pods) {
        ended += end(&apps, limit, timeline).await?;
    }
    let others = running(pods.iter().flat_map(|pod| &pod.processes));
    ended += end(&others, SHORT_LIMIT, timeline).await?;
    Ok(ended)
}

/// The running apps, those of the last stage first.
fn apps_from_the_gateways_down(pods: &[PodRecord]) -> Vec<Vec<ProcessId>> {
    let mut stages: Vec<_> = pods.iter().map(|pod| pod.stage).collect();
    stages.sort_unstable();
    stages.dedup();
    let apps_of = |stage| {
        let pods = pods.iter().filter(move |pod| pod.stage == stage);
        running(
            pods.flat_map(|pod| &pod.processes)
                .filter(|process| process.container == Container::App.as_str()),
        )
    };
    stages.into_iter().rev().map(apps_of).collect()
}

pub(super) fn running<'a>(processes: impl Iterator<Item = &'a ProcessRecord>) -> Vec<ProcessId> {
    processes
        .map(|process| process.id)
        .filter(|process| process.is_running())
        .collect()
}

/// Ends what was started below a state folder, recorded or not; returns how many processes that were.
pub(crate) async fn end_unrecorded(layout: &Layout, timeline: &Timeline) -> anyhow::Result<usize> {
    let mut found = process::processes_under(layout.root())?;
    let orphans = process::orphans_under(layout.root())?;
    found.extend(orphans.into_iter().map(|orphan| orphan.process));
    end(&found, SHORT_LIMIT, timeline).await
}

pub(super) async fn end(
    processes: &[ProcessId],
    limit: Duration,
    timeline: &Timeline,
) -> anyhow::Result<usize> {
    let described: Vec<_> = processes
        .iter()
        .map(|process| (*process, process.name()))
        .collect();
    for stubborn in process::stop(processes, limit).await? {
        let name = described.iter().find(|(process, _)| *process == stubborn);
        let name = name.map_or("", |(_, name)| name.as_str());
        timeline.warning(format!(
            "`{name}` ({stubborn}) did not end within {limit:.0?} and was killed"
        ));
    }
    Ok(processes.len())
}
