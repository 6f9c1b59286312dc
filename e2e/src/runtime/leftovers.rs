//! Environments that nobody needs any more: which they are, and their end.

use anyhow::Context as _;
use serde::Serialize;

use super::{State, embedded, k3d, remove_environment};
use crate::{
    environment::{Found, Layout, Name, Record, RuntimeKind, Store},
    failure::Failure,
    local,
    process::ProcessId,
    timeline::Timeline,
};

/// Whether an environment is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The command that owns it runs.
    Owned(ProcessId),
    /// It is meant to stay, and something of it runs.
    Stays,
    /// It is meant to stay, and nothing of it runs: the machine was restarted, or its state was kept.
    Stopped,
    /// The command that owns it was killed.
    Abandoned,
}

/// An environment that [`sweep`] has removed.
#[derive(Clone, Debug, Serialize)]
pub struct Swept {
    pub name: String,
    /// Why it was a leftover.
    pub why: String,
    /// How many processes were ended.
    pub processes: usize,
    /// How many clusters were deleted.
    pub clusters: usize,
    /// How many namespaces were deleted on clusters that stay.
    pub namespaces: usize,
}

/// Removes every environment that a killed command left. Leaves alone what a running command owns or is changing, and
/// what is meant to stay.
pub async fn sweep(store: &Store, timeline: &Timeline) -> anyhow::Result<Vec<Swept>> {
    let mut swept = vec![];
    let mut failed = None;
    for found in store.list()? {
        match sweep_one(store, found.name(), timeline).await {
            Ok(one) => swept.extend(one),
            Err(error) => {
                timeline.warning(format!("`{}` is left behind: {error:#}", found.name()));
                failed = Some(error);
            }
        }
    }
    for owner in k3d::orphans(store.root()).await {
        let count = k3d::remove_unrecorded(&owner.state, timeline).await?;
        swept.push(Swept {
            name: owner.environment,
            why: "its state folder is gone".into(),
            processes: 0,
            clusters: count,
            namespaces: 0,
        });
    }
    // Taking the lock of a killed command and giving it back deletes its file.
    for name in store.locked_names() {
        drop(store.try_lock(&name)?);
    }
    failed.map_or(Ok(swept), Err)
}

async fn sweep_one(
    store: &Store,
    name: &Name,
    timeline: &Timeline,
) -> anyhow::Result<Option<Swept>> {
    let _lock = match store.try_lock(name)? {
        Ok(lock) => lock,
        Err(holder) => {
            timeline.note(format!("`{name}` is left alone: in use by {holder}"));
            return Ok(None);
        }
    };
    // Read again under the lock.
    let found = store.list()?.into_iter().find(|found| found.name() == name);
    let (why, processes, clusters, namespaces) = match found {
        None => return Ok(None),
        Some(Found::Broken {
            layout, problem, ..
        }) => {
            let (processes, clusters) = remove_unrecorded(&layout, timeline).await?;
            (problem, processes, clusters, 0)
        }
        Some(Found::Environment(environment)) => match condition(&environment.record)? {
            Condition::Abandoned => {
                let count = remove_environment(&environment, State::Remove, timeline).await?;
                let why = "its command was killed".to_owned();
                match environment.record.runtime {
                    RuntimeKind::Embedded => (why, count, 0, 0),
                    RuntimeKind::K3d => (why, 0, count, 0),
                    RuntimeKind::Existing => (why, 0, 0, count),
                }
            }
            Condition::Stopped => {
                timeline.note(format!(
                    "`{name}` is left alone: it was kept, and nothing of it runs; `cargo xtask {} --name {name}` deletes its files",
                    local::removal(environment.record.runtime)
                ));
                return Ok(None);
            }
            Condition::Owned(_) | Condition::Stays => return Ok(None),
        },
    };
    Ok(Some(Swept {
        name: name.to_string(),
        why,
        processes,
        clusters,
        namespaces,
    }))
}

/// Ends everything whose folder or label names the state folder of an environment that has no readable record; returns how
/// many processes and how many clusters there were.
async fn remove_unrecorded(layout: &Layout, timeline: &Timeline) -> anyhow::Result<(usize, usize)> {
    let clusters = k3d::remove_unrecorded(layout.root(), timeline).await?;
    let processes = embedded::remove_unrecorded(layout, timeline).await?;
    Ok((processes, clusters))
}

/// Whether the environment of this record is alive.
pub fn condition(record: &Record) -> anyhow::Result<Condition> {
    Ok(match record.owner {
        Some(owner) if owner.is_running() => Condition::Owned(owner),
        Some(_) => Condition::Abandoned,
        None => match record.runtime {
            RuntimeKind::Embedded if record.processes().any(|process| process.id.is_running()) => {
                Condition::Stays
            }
            RuntimeKind::Embedded => Condition::Stopped,
            // Clusters that are stopped are started by the next `local-up`, so only their absence ends the environment.
            RuntimeKind::K3d | RuntimeKind::Existing if record.clusters.is_empty() => {
                Condition::Stopped
            }
            RuntimeKind::K3d | RuntimeKind::Existing => Condition::Stays,
        },
    })
}

/// Fails if an environment of this name is alive; removes one that is not. The lock must be held.
pub(super) async fn make_room(
    store: &Store,
    name: &Name,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    if !store.has(name) {
        return Ok(());
    }
    let environment = match store.load(name) {
        Ok(environment) => environment,
        Err(problem) => {
            timeline.note(format!("removing what is left: {problem:#}"));
            let found = store.list()?.into_iter().find(|found| found.name() == name);
            let found = found.context("the environment vanished under its lock")?;
            remove_unrecorded(found.layout(), timeline).await?;
            return Ok(());
        }
    };
    let by = match condition(&environment.record)? {
        Condition::Owned(owner) => format!("of {owner} ({})", owner.name()),
        Condition::Stays => format!("since {:.0}", environment.record.created_at),
        Condition::Stopped | Condition::Abandoned => {
            timeline.note(format!("removing what is left of an earlier `{name}`"));
            remove_environment(&environment, State::Remove, timeline).await?;
            return Ok(());
        }
    };
    Err(
        Failure::usage(format!("environment `{name}` is up already, {by}"))
            .hint(format!(
                "take it down with `cargo xtask {} --name {name}`, or choose another `--name`",
                local::removal(environment.record.runtime)
            ))
            .into(),
    )
}
