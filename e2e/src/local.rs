//! The environment that stays: what `local-up` takes where nothing is said, and when it must be made anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::SystemTime,
};

use crate::{
    blueprint::Blueprint,
    environment::{Environment, Record, RuntimeKind},
    plan::{Plan, Ports, Sockets},
    runtime::{self, Readiness},
    services,
    timeline::Timeline,
};

/// Name of the environment where none is given.
pub const NAME: &str = "local";

/// The blueprint where none is given: one pod a cluster, on the ports that the guide names.
pub const BLUEPRINT: &str = "fast-international-ferry";

/// What becomes of an environment that is up already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is as wanted.
    AsItIs,
    /// Its clusters are brought to what is wanted: started, healed, what has changed rolled out.
    Refreshed,
    /// It is taken down and made anew, for this reason.
    Replaced(String),
}

/// What becomes of an environment that stays, where `blueprints` are wanted, and `runtime` if one was asked for.
///
/// It must have these blueprints as their files are now. Processes must be of the programs as their sources are now, and
/// every pod ready; clusters are brought to that.
pub async fn fate(
    environment: &Environment,
    blueprints: &[Blueprint],
    runtime: Option<RuntimeKind>,
    timeline: &Timeline,
) -> anyhow::Result<Fate> {
    let record = &environment.record;
    if let Some(reason) = other_demand(record, blueprints, runtime) {
        return Ok(Fate::Replaced(reason));
    }
    if record.runtime == RuntimeKind::K3d {
        return Ok(Fate::Refreshed);
    }
    Ok(match outdated(environment, timeline).await? {
        Some(reason) => Fate::Replaced(reason),
        None => Fate::AsItIs,
    })
}

/// Why an environment is not what is asked for now.
fn other_demand(
    record: &Record,
    blueprints: &[Blueprint],
    runtime: Option<RuntimeKind>,
) -> Option<String> {
    if runtime.is_some_and(|wanted| wanted != record.runtime) {
        return Some(
            match record.runtime {
                RuntimeKind::Embedded => "it runs as processes, and clusters are asked for",
                RuntimeKind::K3d | RuntimeKind::Existing => {
                    "it runs on clusters, and processes are asked for"
                }
            }
            .into(),
        );
    }
    let wanted: BTreeMap<_, _> = blueprints
        .iter()
        .map(|blueprint| (blueprint.name.clone(), blueprint.path().to_path_buf()))
        .collect();
    if record.blueprints != wanted {
        let has: Vec<_> = record.blueprints.keys().map(String::as_str).collect();
        return Some(if record.blueprints.keys().eq(wanted.keys()) {
            format!("it carries {} of other files", has.join(", "))
        } else {
            format!("it carries {}", has.join(", "))
        });
    }
    let made = SystemTime::from(record.created_at);
    if let Some(changed) = wanted.values().find(|path| changed_since(path, made)) {
        return Some(format!("`{}` has changed", changed.display()));
    }
    // `e2e --keep` shares the machine with others of its kind, so its clusters and ports have other names and numbers.
    let other_names = record
        .clusters
        .iter()
        .any(|cluster| cluster.reference != cluster.name);
    (record.runtime == RuntimeKind::K3d && other_names)
        .then(|| "its clusters have other names and ports".into())
}

/// Why processes that run do not do any more.
async fn outdated(
    environment: &Environment,
    timeline: &Timeline,
) -> anyhow::Result<Option<String>> {
    let record = &environment.record;
    let made = SystemTime::from(record.created_at);
    let binaries = services::binaries(timeline).await?;
    for pod in &record.pods {
        let programs = [binaries.app(pod.role), binaries.wosp()];
        if programs
            .into_iter()
            .any(|program| changed_since(program, made))
        {
            return Ok(Some(format!(
                "the program of {} has changed",
                pod.name.pod()
            )));
        }
    }
    for pod in runtime::status(environment).await? {
        if let Readiness::Waiting(missing) = pod.readiness {
            return Ok(Some(format!(
                "{} in {} is not ready, it waits for {}",
                pod.name.pod(),
                pod.name.cluster(),
                missing.join(", ")
            )));
        }
    }
    Ok(None)
}

/// The command that removes an environment which stays: `local-down` is for what was made on this machine.
pub fn removal(runtime: RuntimeKind) -> &'static str {
    match runtime {
        RuntimeKind::Embedded | RuntimeKind::K3d => "local-down",
        RuntimeKind::Existing => "undeploy",
    }
}

/// The host ports of `blueprints` as they are written, on this machine.
pub fn public_ports(blueprints: &[Blueprint]) -> anyhow::Result<BTreeSet<u16>> {
    let plan = Plan::of(blueprints, Ports::AsWritten, &|_| Sockets::in_pod())?;
    let clusters = plan.clusters.into_iter();
    Ok(clusters.flat_map(|cluster| cluster.public_ports).collect())
}

/// A file whose time cannot be read counts as unchanged: whatever needs it says so better.
fn changed_since(path: &Path, moment: SystemTime) -> bool {
    path.metadata()
        .and_then(|data| data.modified())
        .is_ok_and(|modified| modified > moment)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_that_is_written_later_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blueprint.yaml");
        std::fs::write(&path, "").unwrap();
        let now = SystemTime::now();
        assert!(changed_since(&path, now - Duration::from_secs(60)));
        assert!(!changed_since(&path, now + Duration::from_secs(60)));
        assert!(!changed_since(&folder.path().join("none"), now));
    }
}
