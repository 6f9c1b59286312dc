//! The environment that stays: what `local-up` takes where nothing is said, and when it must be made anew.

use std::{path::Path, time::SystemTime};

use crate::{
    blueprint::Blueprint,
    environment::Environment,
    runtime::{self, Readiness},
    services,
    timeline::Timeline,
};

/// Name of the environment where none is given.
pub const NAME: &str = "local";

/// The blueprint where none is given: one pod a cluster, on the ports that the guide names.
pub const BLUEPRINT: &str = "fast-international-ferry";

/// Why an environment that runs does not do for `blueprints`; `None` where it does.
///
/// It must have these blueprints as their files are now, the programs as their sources are now, and every pod ready.
pub async fn reason_to_replace(
    environment: &Environment,
    blueprints: &[Blueprint],
    timeline: &Timeline,
) -> anyhow::Result<Option<String>> {
    let record = &environment.record;
    let same = record.blueprints.len() == blueprints.len()
        && blueprints
            .iter()
            .all(|blueprint| record.blueprints.contains_key(&blueprint.name));
    if !same {
        let has: Vec<_> = record.blueprints.keys().map(String::as_str).collect();
        return Ok(Some(format!("it carries {}", has.join(", "))));
    }
    let made = SystemTime::from(record.created_at);
    for blueprint in blueprints {
        if changed_since(blueprint.path(), made) {
            return Ok(Some(format!(
                "`{}` has changed",
                blueprint.path().display()
            )));
        }
    }
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
