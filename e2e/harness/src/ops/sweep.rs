//! Finds and removes environments that were left behind by killed commands.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use blueprint::failure::Failure;
use host::{
    environment::{Damage, Found, Layout, Name, Record, Store},
    process::{self, ProcessId},
    timeline::Timeline,
};
use serde::Serialize;

use crate::runtime::{self, embedded, k3d, request::State};

/// Why something is a leftover that has no folder any more.
const FOLDER_GONE: &str = "its state folder is gone";

/// Time for processes whose folder is gone to end by themselves.
const ORPHAN_LIMIT: Duration = Duration::from_secs(3);

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
    /// Its processes cannot be seen from here, so nothing is known of them; the text names the
    /// machine.
    Elsewhere(String),
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
    /// Where its folder is now, with keys and stored messages; `None` where it is deleted.
    pub kept: Option<PathBuf>,
}

impl Swept {
    fn nothing(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            why: why.into(),
            processes: 0,
            clusters: 0,
            namespaces: 0,
            kept: None,
        }
    }
}

/// Removes every environment that a killed command left, and ends processes whose folder was deleted. Leaves alone what a
/// running command owns or is changing, what is meant to stay, and what cannot be seen from here. A folder whose record
/// cannot be read is moved aside, since nothing tells what its keys are for.
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
        let clusters = k3d::remove_unrecorded(&owner.state, timeline).await?;
        swept.push(Swept {
            clusters,
            ..Swept::nothing(owner.environment, FOLDER_GONE)
        });
    }
    swept.extend(end_orphans(store, None, timeline).await?);
    store.finish_removals();
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
    match found {
        None => Ok(None),
        Some(Found::Broken {
            layout,
            problem,
            damage,
            ..
        }) => sweep_broken(name, &layout, problem, damage, timeline).await,
        Some(Found::Environment(environment)) => match condition(&environment.record)? {
            Condition::Abandoned => {
                let runtime = runtime::of(environment.record.runtime);
                let removed = runtime.down(&environment, State::Remove, timeline).await?;
                let swept = Swept {
                    processes: removed.processes,
                    clusters: removed.clusters,
                    namespaces: removed.namespaces,
                    ..Swept::nothing(name.as_str(), "its command was killed")
                };
                Ok(Some(swept))
            }
            Condition::Stopped => {
                timeline.note(format!(
                    "`{name}` is left alone: it was kept, and nothing of it runs; `cargo xtask {} --name {name}` deletes its files",
                    runtime::of(environment.record.runtime).removal_command()
                ));
                Ok(None)
            }
            Condition::Elsewhere(place) => {
                timeline.note(format!(
                    "`{name}` is left alone: it runs elsewhere, {place}; if that is gone for good, delete `{}`",
                    environment.layout().root().display()
                ));
                Ok(None)
            }
            Condition::Owned(_) | Condition::Stays => Ok(None),
        },
    }
}

async fn sweep_broken(
    name: &Name,
    layout: &Layout,
    problem: String,
    damage: Damage,
    timeline: &Timeline,
) -> anyhow::Result<Option<Swept>> {
    if damage == Damage::Newer {
        timeline.note(format!(
            "`{name}` is left alone: {problem}; {}",
            damage.remedy(name)
        ));
        return Ok(None);
    }
    refuse_clusters(layout).await?;
    let (processes, kept) = clear(layout, timeline).await?;
    Ok(Some(Swept {
        processes,
        kept,
        ..Swept::nothing(name.as_str(), problem)
    }))
}

/// Ends what runs of a folder without a readable record, and moves the folder aside; one that holds nothing which is worth
/// keeping is deleted. Returns how many processes there were, and where the folder is now.
async fn clear(layout: &Layout, timeline: &Timeline) -> anyhow::Result<(usize, Option<PathBuf>)> {
    let processes = embedded::end_unrecorded(layout, timeline).await?;
    if layout.holds_what_is_kept() {
        return Ok((processes, Some(layout.set_aside()?)));
    }
    layout.remove()?;
    Ok((processes, None))
}

/// Fails where there are clusters of a folder whose record cannot be read: what their sinks have stored is nowhere else.
async fn refuse_clusters(layout: &Layout) -> anyhow::Result<()> {
    let clusters = k3d::clusters_of(layout.root()).await;
    if clusters.is_empty() {
        return Ok(());
    }
    Err(Failure::infrastructure(format!(
        "environment `{}` has no readable record, but its clusters exist: {}",
        layout.root().display(),
        clusters.join(", ")
    ))
    .hint(format!(
        "if they are no longer needed, run `k3d cluster delete {}`, then run the command again",
        clusters.join(" ")
    ))
    .into())
}

/// Ends the processes that were started below the state root in folders that are gone; those of one environment, where a
/// name is given.
async fn end_orphans(
    store: &Store,
    only: Option<&Name>,
    timeline: &Timeline,
) -> anyhow::Result<Vec<Swept>> {
    let root = store.real_root();
    let mut orphans = BTreeMap::<String, Vec<ProcessId>>::new();
    for orphan in process::orphans_under(&root)? {
        let name = environment_of(&root, &orphan.started_in);
        if only.is_none_or(|only| name == only.as_str()) {
            orphans.entry(name).or_default().push(orphan.process);
        }
    }
    let mut swept = vec![];
    for (name, processes) in orphans {
        for stubborn in process::stop(&processes, ORPHAN_LIMIT).await? {
            timeline.warning(format!("{stubborn} of `{name}` had to be killed"));
        }
        swept.push(Swept {
            processes: processes.len(),
            ..Swept::nothing(name, FOLDER_GONE)
        });
    }
    Ok(swept)
}

/// The name of the environment that a folder below the state root is of.
fn environment_of(root: &Path, folder: &Path) -> String {
    let first = folder.strip_prefix(root).ok();
    let first = first.and_then(|below| below.components().next());
    first.map_or_else(String::new, |name| {
        name.as_os_str().to_string_lossy().into_owned()
    })
}

/// Whether the environment of this record is alive.
pub fn condition(record: &Record) -> anyhow::Result<Condition> {
    if let Some(place) = record.elsewhere() {
        return Ok(Condition::Elsewhere(place));
    }
    Ok(match record.owner {
        Some(owner) if owner.is_running() => Condition::Owned(owner),
        Some(_) => Condition::Abandoned,
        // Clusters that are stopped are started by the next `local-up`, so only their absence ends the environment.
        None if runtime::of(record.runtime).stays(record) => Condition::Stays,
        None => Condition::Stopped,
    })
}

/// Fails if an environment of this name is alive, or may be; removes one that is not, and ends what is left of one whose
/// folder is gone. The lock must be held.
pub(crate) async fn make_room(
    store: &Store,
    name: &Name,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    for orphans in end_orphans(store, Some(name), timeline).await? {
        timeline.note(format!(
            "ended what was left of an earlier `{name}`, whose folder is gone: {} processes",
            orphans.processes
        ));
    }
    let found = store.list()?.into_iter().find(|found| found.name() == name);
    let environment = match found {
        None => return Ok(()),
        Some(Found::Environment(environment)) => environment,
        Some(Found::Broken {
            layout,
            problem,
            damage,
            ..
        }) => {
            if damage == Damage::Newer {
                let cause = format!("environment `{name}`: {problem}");
                return Err(Failure::usage(cause).hint(damage.remedy(name)).into());
            }
            refuse_clusters(&layout).await?;
            match clear(&layout, timeline).await? {
                (_, Some(aside)) => timeline.warning(format!(
                    "an earlier `{name}` cannot be read ({problem}); it is kept as `{}`, with its keys and what its sinks have stored: delete that once nothing needs it",
                    aside.display()
                )),
                (_, None) => timeline.note(format!("removed what was left: {problem}")),
            }
            return Ok(());
        }
    };
    let by = match condition(&environment.record)? {
        Condition::Owned(owner) => format!("of {owner} ({})", owner.name()),
        Condition::Stays => format!("since {:.0}", environment.record.created_at),
        Condition::Elsewhere(_) => return environment.is_here(),
        Condition::Stopped | Condition::Abandoned => {
            timeline.note(format!("removing what is left of an earlier `{name}`"));
            let runtime = runtime::of(environment.record.runtime);
            runtime.down(&environment, State::Remove, timeline).await?;
            return Ok(());
        }
    };
    Err(
        Failure::usage(format!("environment `{name}` is already up, {by}"))
            .hint(format!(
                "remove it with `cargo xtask {} --name {name}`, or pass another `--name`",
                runtime::of(environment.record.runtime).removal_command()
            ))
            .into(),
    )
}
