//! Waits until what was applied of a workload runs and is ready; ends early on what will not heal.

use std::time::Duration;

use blueprint::failure::Failure;
use futures_util::{Stream, StreamExt as _, stream, stream::BoxStream};
use host::{
    timeline::Step,
    wait::{Seen, Wait},
};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::Pod,
    },
};
use kube::{
    Api, Resource,
    api::ListParams,
    runtime::{WatchStreamExt as _, watcher},
};
use messages::WorkloadName;
use render::Controller;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{
    Cluster, LivePod,
    claims::Unbound,
    diagnose::{self, State, Trouble},
    watch::{UNSCHEDULABLE_LIMIT, selector, ticks},
};

/// How a workload is at one moment.
struct Look {
    /// Whether its controller has rolled out; `None` where that is as it was.
    rolled_out: Option<bool>,
    pods: Vec<Pod>,
    misfit: Option<(String, Trouble)>,
    unbound: Option<Unbound>,
}

/// What a look ended the wait with, where more is to be said of it.
#[derive(Default)]
struct Trail {
    rolled_out: bool,
    unschedulable_since: Option<Instant>,
    unbound_since: Option<Instant>,
    unbound: Option<Unbound>,
    broken: Option<(String, Trouble)>,
}

impl Cluster {
    /// Waits until the newest pod of a workload is rolled out and ready.
    pub async fn rolled_out(
        &self,
        workload: &WorkloadName,
        controller: Controller,
        limit: Duration,
        step: &Step,
    ) -> anyhow::Result<LivePod> {
        let what = format!("pod {} in {} to be ready", workload.pod(), self.name);
        let namespace = workload.namespace();
        let looks = Box::pin(self.looks(workload, controller));
        let mut trail = Trail::default();
        let result = Wait::until(what)
            .within(limit)
            .showing(step)
            .follow(looks, |look| match look {
                Ok(look) => self.judge(&namespace, look, &mut trail),
                // A broken watch heals by itself (back-off) or the deadline ends it.
                Err(_) => Ok(Seen::Waiting(format!(
                    "the API server of {} does not answer",
                    self.name
                ))),
            })
            .await;
        match (result, trail) {
            (
                Err(error),
                Trail {
                    broken:
                        Some((
                            pod,
                            Trouble {
                                container: Some(container),
                                ..
                            },
                        )),
                    ..
                },
            ) => {
                let log = self
                    .log_tail(&namespace, &pod, &container, 15)
                    .await
                    .unwrap_or_else(|error| format!("{error:#}"));
                Err(error.context(format!(
                    "the end of the log of {container} in {namespace}/{pod}:\n{}",
                    log.trim_end()
                )))
            }
            // The deadline has passed over a claim that no volume came for.
            (
                Err(error),
                Trail {
                    unbound: Some(unbound),
                    broken: None,
                    ..
                },
            ) if Failure::of(&error).and_then(Failure::next_step).is_none() => {
                Err(error.context(unbound.failure(&self.name, &namespace)))
            }
            (result, _) => result,
        }
    }

    /// A watch says that something changed; the list that follows says how things are, with nothing missed between.
    fn looks<'a>(
        &'a self,
        workload: &'a WorkloadName,
        controller: Controller,
    ) -> impl Stream<Item = anyhow::Result<Look>> + 'a {
        let namespace = workload.namespace();
        let controllers = match controller {
            Controller::Deployment => rollouts(
                self.namespaced::<Deployment>(&namespace),
                workload.pod(),
                deployment_is_rolled_out,
            ),
            Controller::StatefulSet => rollouts(
                self.namespaced::<StatefulSet>(&namespace),
                workload.pod(),
                stateful_set_is_rolled_out,
            ),
        };
        let pods = self.namespaced::<Pod>(&namespace);
        let changes = watcher(
            pods.clone(),
            watcher::Config::default().labels(&selector(workload)),
        );
        let changes = changes
            .default_backoff()
            .touched_objects()
            .map(|seen| seen.map(|_| None).map_err(anyhow::Error::from));
        let ticks = ticks().map(|()| Ok(None));
        stream::select_all([controllers, changes.boxed(), ticks.boxed()]).then(move |event| {
            let pods = pods.clone();
            async move {
                let rolled_out = event?;
                let selected = ListParams::default().labels(&selector(workload));
                let pods = pods.list(&selected).await?.items;
                let unbound = match controller {
                    Controller::Deployment => None,
                    Controller::StatefulSet => self.unbound_claim(workload).await,
                };
                Ok(Look {
                    rolled_out,
                    misfit: self.misfit(&pods).await,
                    pods,
                    unbound,
                })
            }
        })
    }

    fn judge(
        &self,
        namespace: &str,
        look: Look,
        trail: &mut Trail,
    ) -> anyhow::Result<Seen<LivePod>> {
        let of = |pod: &str| format!("{}: pod {namespace}/{pod}", self.name);
        if let Some((pod, trouble)) = look.misfit {
            return Err(trouble.failure(&of(&pod)).into());
        }
        trail.rolled_out = look.rolled_out.unwrap_or(trail.rolled_out);
        trail.unbound = look.unbound;
        let Some(newest) = super::live(&look.pods)
            .max_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
        else {
            return Ok(Seen::Waiting("no pod yet".into()));
        };
        let name = newest.metadata.name.clone().unwrap_or_default();
        let state = diagnose::pod(newest);
        if !matches!(state, State::Unschedulable(_)) {
            trail.unschedulable_since = None;
        }
        if let (Some(unbound), false) = (&trail.unbound, matches!(state, State::Ready)) {
            if !unbound.is_final {
                trail.unbound_since = None;
            } else if since(&mut trail.unbound_since) >= UNSCHEDULABLE_LIMIT {
                return Err(unbound.failure(&self.name, namespace).into());
            }
            return Ok(Seen::Waiting(format!("{name}: {}", unbound.words)));
        }
        match state {
            State::Ready if trail.rolled_out => Ok(match LivePod::of(newest) {
                Some(live) => Seen::Ready(live),
                None => Seen::Waiting(format!("{name} has no node")),
            }),
            State::Ready => Ok(Seen::Waiting(format!(
                "{name} is ready, the rollout is not complete"
            ))),
            State::Coming(text) => Ok(Seen::Waiting(format!("{name}: {text}"))),
            State::Unschedulable(words) => {
                if since(&mut trail.unschedulable_since) < UNSCHEDULABLE_LIMIT {
                    return Ok(Seen::Waiting(format!("{name}: {words}")));
                }
                Err(Failure::infrastructure(format!(
                    "{}: pod {namespace}/{name} cannot be scheduled: {words}",
                    self.name
                ))
                .hint(unschedulable_hint(&words))
                .into())
            }
            State::Broken(trouble) => {
                let failure = trouble.failure(&of(&name));
                trail.broken = Some((name, trouble));
                Err(failure.into())
            }
        }
    }

    /// A pod whose image is for another processor than its node, by the log of a container that has ended: its status does not
    /// say so.
    async fn misfit(&self, pods: &[Pod]) -> Option<(String, Trouble)> {
        for pod in super::live(pods) {
            let (name, namespace) = (
                pod.metadata.name.as_deref()?,
                pod.metadata.namespace.as_deref()?,
            );
            for container in diagnose::ended(pod) {
                let log = self.log_tail(namespace, name, &container.name, 3).await;
                let found = diagnose::misfit(container, &log.unwrap_or_default());
                if let Some(trouble) = found {
                    return Some((name.to_owned(), trouble));
                }
            }
        }
        None
    }
}

fn since(first: &mut Option<Instant>) -> Duration {
    first.get_or_insert_with(Instant::now).elapsed()
}

/// What the scheduler says where a volume is on a node that is not there, or full.
const VOLUME_ELSEWHERE: [&str; 3] = [
    "volume node affinity",
    "PersistentVolume's node affinity",
    "no available volume zone",
];

fn unschedulable_hint(words: &str) -> &'static str {
    if VOLUME_ELSEWHERE.iter().any(|part| words.contains(part)) {
        "the messages lie on a volume of one node or zone: bring that back (`kubectl get nodes`), \
         or give the sink a `storage: {class: …}` whose volumes every node reaches"
    } else {
        "free the resources that the scheduler names, or remove other environments with `cargo xtask local-down --all`"
    }
}

/// Whether the controller of this name has rolled out, each time it changes.
fn rollouts<K>(
    api: Api<K>,
    name: &str,
    is_rolled_out: fn(&K) -> bool,
) -> BoxStream<'static, anyhow::Result<Option<bool>>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    watcher(api, config)
        .default_backoff()
        .touched_objects()
        .map(move |seen| Ok(Some(is_rolled_out(&seen?))))
        .boxed()
}

/// The conditions of `kubectl rollout status`.
fn deployment_is_rolled_out(deployment: &Deployment) -> bool {
    let (Some(spec), Some(status)) = (&deployment.spec, &deployment.status) else {
        return false;
    };
    let wanted = spec.replicas.unwrap_or(1);
    status.observed_generation >= deployment.metadata.generation
        && status.updated_replicas.unwrap_or(0) >= wanted
        && status.available_replicas.unwrap_or(0) >= wanted
        && status.replicas.unwrap_or(0) <= status.updated_replicas.unwrap_or(0)
}

/// The same of a StatefulSet, whose status counts the pods of two revisions.
fn stateful_set_is_rolled_out(set: &StatefulSet) -> bool {
    let (Some(spec), Some(status)) = (&set.spec, &set.status) else {
        return false;
    };
    let wanted = spec.replicas.unwrap_or(1);
    status.observed_generation >= set.metadata.generation
        && status.ready_replicas.unwrap_or(0) >= wanted
        && status.update_revision.is_some()
        && status.update_revision == status.current_revision
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(status: serde_json::Value) -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": { "generation": 2 },
            "spec": { "replicas": 1, "selector": {}, "serviceName": "sink", "template": {} },
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_stateful_set_is_rolled_out_at_its_newest() {
        let status = |observed: i64, ready: i32, current: &str| {
            set(
                json!({ "replicas": 1, "observedGeneration": observed, "readyReplicas": ready,
                "currentRevision": current, "updateRevision": "sink-2" }),
            )
        };
        assert!(stateful_set_is_rolled_out(&status(2, 1, "sink-2")));
        assert!(
            !stateful_set_is_rolled_out(&status(1, 1, "sink-2")),
            "not seen yet"
        );
        assert!(
            !stateful_set_is_rolled_out(&status(2, 0, "sink-2")),
            "not ready"
        );
        assert!(
            !stateful_set_is_rolled_out(&status(2, 1, "sink-1")),
            "the pod of before"
        );
        assert!(!stateful_set_is_rolled_out(&set(json!(null))));
    }

    #[test]
    fn a_volume_of_another_node_has_its_own_hint() {
        let words = "0/2 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity, \
            1 node(s) were unschedulable";
        // As Kubernetes 1.29 to 1.34 say it.
        let older = "0/2 nodes are available: 2 node(s) had volume node affinity conflict.";
        for words in [words, older] {
            assert!(unschedulable_hint(words).contains("on a volume"), "{words}");
        }
        assert!(unschedulable_hint("2 Insufficient memory").contains("local-down"));
    }
}
