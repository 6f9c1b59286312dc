//! Selects blueprints and pods by the names given on the command line.

use blueprint::{Blueprint, failure::Failure};
use messages::Role;

use crate::environment::{PodRecord, Record, RuntimeKind};

/// Most clusters of a blueprint that is proven on clusters without being named: each more costs half a minute and 1 GB.
pub const MOST_CLUSTERS_UNNAMED: usize = 2;

/// Of all `blueprints`, those to prove where none is named, and those to leave out: processes cost little, so there all
/// are proven.
///
/// # Errors
///
/// A usage failure where none is left to prove.
pub fn unnamed(
    blueprints: Vec<Blueprint>,
    runtime: RuntimeKind,
) -> anyhow::Result<(Vec<Blueprint>, Vec<Blueprint>)> {
    let (taken, left): (Vec<_>, _) = blueprints.into_iter().partition(|blueprint| {
        runtime == RuntimeKind::Embedded || blueprint.clusters.len() <= MOST_CLUSTERS_UNNAMED
    });
    if taken.is_empty() {
        return Err(Failure::usage(format!(
            "every blueprint needs more than {MOST_CLUSTERS_UNNAMED} clusters"
        ))
        .hint("pass the name of the one to prove")
        .into());
    }
    Ok((taken, left))
}

/// The pods that `wanted` means, as `POD` or `BLUEPRINT/POD`; all where it is absent.
///
/// # Errors
///
/// A usage failure that lists the pods, where there is none of that name.
pub fn pods<'a>(record: &'a Record, wanted: Option<&str>) -> anyhow::Result<Vec<&'a PodRecord>> {
    let found: Vec<_> = record
        .pods
        .iter()
        .filter(|pod| wanted.is_none_or(|wanted| is_named(pod, wanted)))
        .collect();
    match wanted {
        Some(wanted) if found.is_empty() => Err(Failure::usage(format!(
            "environment `{}` has no pod `{wanted}`",
            record.name
        ))
        .hint(format!("pass one of {}", list(&record.pods)))
        .into()),
        _ => Ok(found),
    }
}

/// The one gateway that `wanted` means; the only one where it is absent.
///
/// # Errors
///
/// A usage failure that lists the gateways, where none or several are meant.
pub fn gateway<'a>(record: &'a Record, wanted: Option<&str>) -> anyhow::Result<&'a PodRecord> {
    let all = record.pods.iter().filter(|pod| pod.role == Role::Gateway);
    let found: Vec<_> = all
        .clone()
        .filter(|pod| wanted.is_none_or(|wanted| is_named(pod, wanted)))
        .collect();
    let cause = match found[..] {
        [gateway] => return Ok(gateway),
        [] => match wanted {
            Some(wanted) => format!("environment `{}` has no gateway `{wanted}`", record.name),
            None => format!("environment `{}` has no gateway", record.name),
        },
        _ => format!("environment `{}` has several gateways", record.name),
    };
    Err(Failure::usage(cause)
        .hint(format!("pass one of these with `--gateway`: {}", list(all)))
        .into())
}

/// The pods that messages of a blueprint come from.
pub fn gateways<'a>(record: &'a Record, blueprint: &'a str) -> impl Iterator<Item = &'a PodRecord> {
    record
        .pods_of(blueprint)
        .filter(|pod| pod.role == Role::Gateway)
}

/// The pods that messages of a blueprint end at.
pub fn sinks<'a>(record: &'a Record, blueprint: &'a str) -> impl Iterator<Item = &'a PodRecord> {
    record
        .pods_of(blueprint)
        .filter(|pod| pod.role == Role::Sink)
}

fn is_named(pod: &PodRecord, wanted: &str) -> bool {
    match wanted.split_once('/') {
        Some((blueprint, name)) => pod.name.blueprint() == blueprint && pod.name.pod() == name,
        None => pod.name.pod() == wanted || pod.pod_name == wanted,
    }
}

fn list<'a>(pods: impl IntoIterator<Item = &'a PodRecord>) -> String {
    let names: Vec<_> = pods
        .into_iter()
        .map(|pod| format!("`{}/{}`", pod.name.blueprint(), pod.name.pod()))
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use messages::WorkloadName;

    use super::*;
    use crate::{environment::SCHEMA_VERSION, manifests};

    fn record() -> Record {
        let pod = |blueprint: &str, name: &str, role| PodRecord {
            name: WorkloadName::new(blueprint, "cluster-a", name).unwrap(),
            role,
            namespace: String::new(),
            stage: 0,
            pod_name: format!("{name}-x2k4p"),
            node: "here".into(),
            load_balancer: None,
            peer_address: None,
            local_address: None,
            token_file: None,
            roots_file: None,
            auto_trigger: 0,
            downstreams: vec![],
            started_at: None,
            ready_at: None,
            dialled_at: None,
            processes: vec![],
        };
        Record {
            schema_version: SCHEMA_VERSION,
            name: "local".into(),
            runtime: RuntimeKind::Embedded,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            seat: None,
            owner: None,
            blueprints: BTreeMap::new(),
            settings: BTreeMap::new(),
            clusters: vec![],
            images: None,
            existing: None,
            pods: vec![
                pod("one", "gateway", Role::Gateway),
                pod("one", "sink", Role::Sink),
                pod("two", "gateway", Role::Gateway),
            ],
        }
    }

    #[test]
    fn default_selection_depends_on_runtime() {
        let folder = crate::environment::workspace_root()
            .unwrap()
            .join("manifests");
        let all = manifests::all(&folder).unwrap();
        let names = |blueprints: &[Blueprint]| -> Vec<String> {
            let names = blueprints.iter().map(|blueprint| blueprint.name.clone());
            names.collect()
        };
        let (taken, left) = unnamed(all.clone(), RuntimeKind::Embedded).unwrap();
        assert_eq!((names(&taken), left), (names(&all), vec![]));
        let (taken, left) = unnamed(all, RuntimeKind::K3d).unwrap();
        assert_eq!(
            names(&taken),
            ["fast-international-ferry", "international-ferry"]
        );
        assert_eq!(names(&left), ["grand-tour-ferry", "harbour-ferry"]);
        let error = unnamed(left, RuntimeKind::K3d).unwrap_err();
        assert_eq!(Failure::exit_code(&error), 2);
    }

    #[test]
    fn pod_is_found_by_each_of_its_names() {
        let record = record();
        let count = |wanted| pods(&record, wanted).unwrap().len();
        assert_eq!(count(None), 3);
        assert_eq!(count(Some("gateway")), 2);
        assert_eq!(count(Some("two/gateway")), 1);
        assert_eq!(count(Some("sink-x2k4p")), 1);
    }

    #[test]
    fn unknown_pod_lists_known_ones() {
        let error = pods(&record(), Some("snik")).unwrap_err();
        assert_eq!(error.to_string(), "environment `local` has no pod `snik`");
        assert_eq!(Failure::exit_code(&error), 2);
        let hint = Failure::of(&error).unwrap().next_step().unwrap().to_owned();
        assert_eq!(hint, "pass one of `one/gateway`, `one/sink`, `two/gateway`");
    }

    #[test]
    fn one_of_several_gateways_must_be_chosen() {
        let record = record();
        let error = gateway(&record, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "environment `local` has several gateways"
        );
        assert!(gateway(&record, Some("one/sink")).is_err());
        assert_eq!(
            gateway(&record, Some("two/gateway"))
                .unwrap()
                .name
                .blueprint(),
            "two"
        );
    }
}
