//! Defaults for `local-up`, and when it must recreate the environment.

use std::collections::BTreeSet;

use blueprint::{
    Blueprint,
    failure::Failure,
    plan::{Plan, Ports, Sockets},
};
use host::{
    environment::{Environment, PodRecord, Record, RuntimeKind},
    select,
};

use crate::{pinhole::Pinhole, runtime};

/// Name of the environment where none is given.
pub const NAME: &str = "local";

/// The blueprint where none is given: one pod a cluster, on the ports that the guide names.
pub const BLUEPRINT: &str = "fast-international-ferry";

/// Returns why an environment must be recreated to meet the request; `None` if it can be updated.
pub fn reason_to_replace(record: &Record, runtime: Option<RuntimeKind>) -> Option<String> {
    if runtime.is_some_and(|wanted| wanted != record.runtime) {
        return Some(
            match runtime::of(record.runtime).has_api_servers() {
                false => "it uses processes, but clusters are requested",
                true => "it uses clusters, but processes are requested",
            }
            .into(),
        );
    }
    // `e2e --keep` shares the machine with others of its kind, so its clusters and ports have other names and numbers.
    let other_names = record
        .clusters
        .iter()
        .any(|cluster| cluster.reference != cluster.name);
    (record.runtime == RuntimeKind::K3d && other_names)
        .then(|| "its clusters have different names and ports".into())
}

/// Fails if recreating the environment would lose stored messages.
///
/// # Errors
///
/// A [`Failure::usage`] with the number of messages and the option that recreates it anyway.
pub async fn may_be_replaced(environment: &Environment, reason: &str) -> anyhow::Result<()> {
    let count = stored(&environment.record).await;
    if count == Some(0) {
        return Ok(());
    }
    let (what, name) = (messages(count), environment.name());
    Err(Failure::usage(format!(
        "`{name}` must be recreated, because {reason}: its sinks have stored {what}, which would \
         be lost"
    ))
    .hint("add `--fresh` if these messages are no longer needed, or pass another `--name`")
    .into())
}

/// Returns how many messages the sinks of an environment keep; `None` where one cannot be asked.
pub async fn stored(record: &Record) -> Option<u64> {
    let mut count = 0;
    for blueprint in record.blueprints.keys() {
        for sink in select::sinks(record, blueprint) {
            count += stored_at(sink).await?;
        }
    }
    Some(count)
}

/// The same of one sink.
pub(crate) async fn stored_at(sink: &PodRecord) -> Option<u64> {
    Pinhole::of(sink).ok()?.stored().await.ok()
}

/// Returns a count as people read it.
pub fn messages(count: Option<u64>) -> String {
    match count {
        Some(1) => "1 message".into(),
        Some(count) => format!("{count} messages"),
        None => "an unknown number of messages".into(),
    }
}

/// The host ports of `blueprints` as they are written, on this machine.
pub fn public_ports(blueprints: &[Blueprint]) -> anyhow::Result<BTreeSet<u16>> {
    let plan = Plan::of(blueprints, Ports::AsWritten, &|_| Sockets::in_pod())?;
    let clusters = plan.clusters.into_iter();
    Ok(clusters.flat_map(|cluster| cluster.public_ports).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(runtime: &str, reference: &str) -> Record {
        let record = serde_json::json!({
            "schema_version": host::environment::SCHEMA_VERSION, "name": "local", "runtime": runtime,
            "created_at": "2026-01-01T00:00:00Z", "owner": null, "blueprints": {}, "pods": [],
            "clusters": [{ "name": "cluster-a", "reference": reference }],
        });
        serde_json::from_value(record).unwrap()
    }

    #[test]
    fn only_runtime_or_cluster_change_recreates() {
        let embedded = record("embedded", "127.64.1.0/24");
        let k3d = record("k3d", "cluster-a");
        let wanted = [Some(RuntimeKind::Embedded), Some(RuntimeKind::K3d), None];
        let reasons = |record| wanted.map(|runtime| reason_to_replace(record, runtime).is_some());
        assert_eq!(reasons(&embedded), [false, true, false]);
        assert_eq!(reasons(&k3d), [true, false, false]);
        let kept = record("k3d", "e2e-1-cluster-a");
        assert_eq!(reasons(&kept), [true, true, true]);
    }
}
