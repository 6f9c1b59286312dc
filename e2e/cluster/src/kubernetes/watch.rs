//! Waits for objects on a cluster: watches with a deadline, and an early end if waiting cannot
//! help.

use std::time::Duration;

use anyhow::Context as _;
use blueprint::failure::Failure;
use futures_util::{Stream, StreamExt as _, stream};
use host::{
    timeline::Step,
    wait::{Seen, Wait},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{
    Api,
    api::ListParams,
    runtime::{WatchStreamExt as _, watcher},
};
use messages::WorkloadName;
use tokio::time::Instant;

use super::{
    Cluster,
    diagnose::{self, State},
};

/// A pod that no node takes may be taken by one that is still joining; past this it is reported with the scheduler's words.
pub(super) const UNSCHEDULABLE_LIMIT: Duration = Duration::from_secs(15);

/// One running pod by the API server's account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LivePod {
    pub name: String,
    pub node: String,
    pub created_at: Option<Timestamp>,
    pub ready_at: Option<Timestamp>,
}

impl LivePod {
    pub fn of(pod: &Pod) -> Option<Self> {
        let status = pod.status.as_ref()?;
        let ready = status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == "Ready" && condition.status == "True");
        Some(Self {
            name: pod.metadata.name.clone()?,
            node: pod.spec.as_ref()?.node_name.clone()?,
            created_at: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            ready_at: ready
                .and_then(|ready| ready.last_transition_time.as_ref())
                .map(|time| time.0),
        })
    }
}

/// The label selector of a workload's pods.
pub(super) fn selector(workload: &WorkloadName) -> String {
    format!(
        "app.kubernetes.io/name={},app.kubernetes.io/instance={}",
        workload.pod(),
        workload.blueprint()
    )
}

/// One each second: states that are forgiven for a while are looked at again.
pub(super) fn ticks() -> impl Stream<Item = ()> + Unpin {
    tokio_stream::wrappers::IntervalStream::new(tokio::time::interval(Duration::from_secs(1)))
        .map(drop)
}

impl Cluster {
    /// Waits until the workload's Service has a LoadBalancer address: an IP, or the host name that some clouds give instead.
    pub async fn load_balancer_address(
        &self,
        workload: &WorkloadName,
        port: u16,
        limit: Duration,
        step: &Step,
    ) -> anyhow::Result<String> {
        let (namespace, name) = (workload.namespace(), workload.pod());
        let services = watcher(
            self.namespaced::<Service>(&namespace),
            watcher::Config::default().fields(&format!("metadata.name={name}")),
        );
        let services = services
            .default_backoff()
            .touched_objects()
            .map(|seen| Ok::<_, anyhow::Error>(Some(seen?)));
        // k3s places one pod a node for each such Service; a node whose port is taken leaves its pod pending.
        // https://docs.k3s.io/networking/networking-services#how-servicelb-works
        let placed = Api::<Pod>::namespaced(self.client(), "kube-system");
        let labels = format!(
            "svccontroller.k3s.cattle.io/svcname={name},svccontroller.k3s.cattle.io/svcnamespace={namespace}"
        );
        let looks = stream::select_all([services.boxed(), ticks().map(|()| Ok(None)).boxed()])
            .then(|event| {
                let (placed, labels) = (placed.clone(), labels.clone());
                async move {
                    // Only k3s has such pods, and not every user may list them; without them
                    // the error about a pending Service has less detail.
                    let placed = placed.list(&ListParams::default().labels(&labels)).await;
                    Ok::<_, anyhow::Error>((
                        event?,
                        placed.map(|list| list.items).unwrap_or_default(),
                    ))
                }
            });
        let mut unplaced_since = None;
        let mut address = None;
        let result = Wait::until(format!("LoadBalancer address of {name} in {}", self.name)).within(limit).showing(step).follow(Box::pin(looks), |look| {
            let Ok((event, pods)) = look else { return Ok(Seen::Waiting(format!("the API server of {} does not answer", self.name))) };
            if let Some(service) = event {
                address = ingress_address(&service);
            }
            if let Some(address) = &address {
                return Ok(Seen::Ready(address.clone()));
            }
            let words = pods.iter().find_map(|pod| match diagnose::pod(pod) {
                State::Unschedulable(words) => Some(words),
                _ => None,
            });
            match words {
                None => {
                    unplaced_since = None;
                    Ok(Seen::Waiting("none yet".into()))
                }
                Some(words) if unplaced_since.get_or_insert_with(Instant::now).elapsed() < UNSCHEDULABLE_LIMIT / 3 => Ok(Seen::Waiting(words)),
                Some(words) => Err(Failure::infrastructure(format!("{}: the load balancer of Service {namespace}/{name} cannot be placed on port {port}: {words}", self.name)).into()),
            }
        });
        match result.await {
            Err(error) if unplaced_since.is_some() => {
                Err(error.context(self.port_conflict(workload, port).await))
            }
            result => result,
        }
    }

    /// Who else asks for the port on this cluster's load balancer.
    async fn port_conflict(&self, workload: &WorkloadName, port: u16) -> Failure {
        let own = (workload.namespace(), workload.pod().to_owned());
        let services = Api::<Service>::all(self.client())
            .list(&ListParams::default())
            .await
            .map(|list| list.items)
            .unwrap_or_default();
        let holders: Vec<_> = services
            .iter()
            .filter(|service| {
                service.spec.as_ref().is_some_and(|spec| {
                    spec.type_.as_deref() == Some("LoadBalancer")
                        && spec
                            .ports
                            .iter()
                            .flatten()
                            .any(|each| each.port == i32::from(port))
                })
            })
            .map(|service| {
                (
                    service.metadata.namespace.clone().unwrap_or_default(),
                    service.metadata.name.clone().unwrap_or_default(),
                )
            })
            .filter(|holder| *holder != own)
            .map(|(namespace, name)| format!("Service {namespace}/{name}"))
            .collect();
        let who = if holders.is_empty() {
            "a host port of another pod".into()
        } else {
            holders.join(" and ")
        };
        Failure::infrastructure(format!(
            "{}: port {port} of the load balancer is in use by {who}",
            self.name
        ))
        .hint(format!(
            "delete {who}, or change `port` of {} in its blueprint",
            workload.pod()
        ))
    }

    /// Waits until a pod that runs once has ended, and returns its log; one that failed is an error with it.
    pub async fn ended(
        &self,
        namespace: &str,
        name: &str,
        what: &str,
        limit: Duration,
        step: &Step,
    ) -> anyhow::Result<String> {
        let pods = watcher(
            self.namespaced::<Pod>(namespace),
            watcher::Config::default().fields(&format!("metadata.name={name}")),
        );
        let events = stream::select_all([
            pods.default_backoff()
                .touched_objects()
                .map(|seen| seen.map(Some))
                .boxed(),
            ticks().map(|()| Ok(None)).boxed(),
        ]);
        let mut unschedulable_since = None;
        let phase =
            Wait::until(what)
                .within(limit)
                .showing(step)
                .follow(Box::pin(events), |event| {
                    let Ok(Some(pod)) = event else {
                        return Ok(Seen::Waiting("no news of its pod".into()));
                    };
                    match (
                        pod.status.as_ref().and_then(|status| status.phase.clone()),
                        diagnose::pod(&pod),
                    ) {
                        (Some(phase), _) if phase == "Succeeded" || phase == "Failed" => {
                            Ok(Seen::Ready(phase))
                        }
                        (_, State::Broken(trouble)) => Err(trouble
                            .failure(&format!("{}: pod {namespace}/{name}", self.name))
                            .into()),
                        (_, State::Unschedulable(words))
                            if unschedulable_since
                                .get_or_insert_with(Instant::now)
                                .elapsed()
                                >= UNSCHEDULABLE_LIMIT =>
                        {
                            Err(Failure::infrastructure(format!(
                                "{}: pod {namespace}/{name} cannot be scheduled: {words}",
                                self.name
                            ))
                            .into())
                        }
                        (_, State::Unschedulable(words) | State::Coming(words)) => {
                            Ok(Seen::Waiting(words))
                        }
                        (phase, State::Ready) => Ok(Seen::Waiting(phase.unwrap_or_default())),
                    }
                });
        let phase = phase.await?;
        let log = self.log(namespace, name, "probe").await?;
        if phase == "Succeeded" {
            Ok(log)
        } else {
            Err(
                Failure::infrastructure(format!("{what} failed in {}: {}", self.name, log.trim()))
                    .into(),
            )
        }
    }

    /// Waits until the API server answers and lists at least one ready node.
    pub async fn answers(&self, limit: Duration, step: &Step) -> anyhow::Result<()> {
        let nodes = Api::<k8s_openapi::api::core::v1::Node>::all(self.client());
        Wait::until(format!("the API server of {}", self.name))
            .within(limit)
            .showing(step)
            .poll(|| async {
                match nodes
                    .list(&ListParams::default())
                    .await
                    .context("no answer")
                {
                    Ok(list) if list.items.iter().any(is_ready_node) => Ok(Seen::Ready(())),
                    Ok(list) => Ok(Seen::Waiting(format!(
                        "{} nodes, none ready",
                        list.items.len()
                    ))),
                    Err(error) => Ok(Seen::Waiting(format!("{error:#}"))),
                }
            })
            .await
    }
}

fn is_ready_node(node: &k8s_openapi::api::core::v1::Node) -> bool {
    node.status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn ingress_address(service: &Service) -> Option<String> {
    let ingress = service
        .status
        .as_ref()?
        .load_balancer
        .as_ref()?
        .ingress
        .as_ref()?;
    ingress
        .iter()
        .find_map(|each| each.ip.clone().or_else(|| each.hostname.clone()))
}
