//! Plans an environment from blueprints: addresses, ports, names, order. Does no I/O and reads
//! no clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use messages::{Protocol, Role, WorkloadName};
use serde::{Deserialize, Serialize};

use crate::{Blueprint, Pod, Reserved, Storage, failure::Failure, graph};

mod ports;

#[cfg(test)]
mod tests;

/// Names of the files with the pinhole's server certificate and its key, PEM: those of a Kubernetes Secret of type
/// `kubernetes.io/tls`.
pub const SERVER_CERTIFICATE: &str = "tls.crt";
pub const SERVER_KEY: &str = "tls.key";

/// Everything the runtimes, the Envoy bootstrap and the manifests are made from.
#[derive(Clone, Debug)]
pub struct Plan {
    pub clusters: Vec<ClusterPlan>,
    /// In the order they are deployed: by `stage`, then as written.
    pub pods: Vec<PodPlan>,
}

/// Which public port a pod gets when another pod of its cluster wants the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Its own and no other: two that want the same are refused.
    AsWritten,
    /// The first keeps it, the later gets the next unused port.
    Spread,
}

/// One cluster and the ports its load balancer needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPlan {
    pub name: String,
    /// Public ports of the cluster's pods, ascending.
    pub public_ports: Vec<u16>,
}

/// One workload.
#[derive(Clone, Debug)]
pub struct PodPlan {
    pub name: WorkloadName,
    pub role: Role,
    /// 0 is deployed first; a pod stands one stage after the last of its downstream pods.
    pub stage: usize,
    /// Port of the pod's Service on its cluster's load balancer.
    pub public_port: u16,
    /// Whether `/trigger` (gateway) or `/output` (sink) is reachable from outside, with the bearer token.
    pub pinhole: bool,
    /// Where a sink keeps its messages on Kubernetes; `None` for what stores nothing.
    pub storage: Option<Storage>,
    /// What was reserved for its load balancer.
    pub reserved: Reserved,
    /// Messages sent by itself at start; 0 on what is no gateway.
    pub auto_trigger: u32,
    /// The pods whose identity its ingress accepts, in the order of the blueprint.
    pub upstreams: Vec<WorkloadName>,
    /// The connections that lead to and from it, over any number of others, in the order of the blueprint.
    pub connections: Vec<(WorkloadName, WorkloadName)>,
    /// Its connections out, in the order of the blueprint.
    pub egress: Vec<Egress>,
    pub sockets: Sockets,
}

impl PodPlan {
    /// The value of [`messages::env::CONNECTIONS`]: `<name>><name>`, comma separated.
    pub fn connections(&self) -> String {
        let connections = self.connections.iter();
        let pairs = connections.map(|(from, to)| format!("{from}>{to}"));
        pairs.collect::<Vec<_>>().join(",")
    }

    /// The value of [`messages::env::DOWNSTREAM`]: `<pod>=<ws|grpc>://<IP>:<PORT>`, comma separated.
    pub fn downstream(&self) -> String {
        let connections = self.egress.iter().map(|out| {
            format!(
                "{}={}://{}",
                out.target.pod(),
                out.protocol.scheme(),
                out.listen
            )
        });
        connections.collect::<Vec<_>>().join(",")
    }
}

/// One connection out of a pod, through a port of the pod's Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    pub target: WorkloadName,
    pub protocol: Protocol,
    /// The target's [`PodPlan::public_port`].
    pub public_port: u16,
    /// Where Envoy takes the pod's plaintext: port 18001, 18002, …
    pub listen: SocketAddr,
}

/// Where the containers of a pod listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// `app`: HTTP.
    pub http: SocketAddr,
    /// `app`: relay protocol, for its own Envoy only.
    pub relay: SocketAddr,
    /// `envoy`: the tunnel, `/health` and the pinhole.
    pub ingress: SocketAddr,
    /// `envoy`: `/ready` and Prometheus statistics.
    pub envoy_stats: SocketAddr,
    /// `wosp`: `/ready`, `/metrics` and `/identity`.
    pub wosp: SocketAddr,
    /// Where Envoy's egress listeners bind.
    pub egress_host: IpAddr,
}

/// `app`: HTTP.
pub const HTTP_PORT: u16 = 8000;
/// `app`: relay protocol.
pub const RELAY_PORT: u16 = 8001;
/// `envoy`: ingress in every pod. TLS carries the tunnel, or HTTPS for the pinhole's name; plaintext answers `/health`.
pub const INGRESS_PORT: u16 = 18000;
/// `envoy`: the first egress port; one per connection, counting up.
pub const FIRST_EGRESS_PORT: u16 = 18001;
/// `envoy`: `/ready` and statistics.
pub const ENVOY_STATS_PORT: u16 = 9902;
/// `wosp`: `/ready`, `/metrics` and `/identity`.
pub const WOSP_PORT: u16 = 9903;

impl Sockets {
    /// In a Kubernetes pod: what the kubelet or a Service reaches is open to the pod network, by IPv4 and IPv6, the rest is
    /// loopback. `[::]` stands for every address of both families, or of IPv4 alone where the node has no other.
    pub const fn in_pod() -> Self {
        Self::new(
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            IpAddr::V4(Ipv4Addr::LOCALHOST),
        )
    }

    /// On one machine: each pod has a separate address.
    pub const fn at(address: IpAddr) -> Self {
        Self::new(address, address)
    }

    const fn new(open: IpAddr, local: IpAddr) -> Self {
        Self {
            http: SocketAddr::new(open, HTTP_PORT),
            relay: SocketAddr::new(local, RELAY_PORT),
            ingress: SocketAddr::new(open, INGRESS_PORT),
            envoy_stats: SocketAddr::new(open, ENVOY_STATS_PORT),
            wosp: SocketAddr::new(open, WOSP_PORT),
            egress_host: local,
        }
    }
}

impl Plan {
    /// The plan of `blueprints` in one environment; `sockets` gives the listen addresses of each
    /// pod's containers. A cluster named by
    /// several blueprints is one cluster.
    ///
    /// # Errors
    ///
    /// A [`Failure::usage`] that names both when two blueprints have one name, two pods one namespace, or (as `ports` says) one port.
    pub fn of(
        blueprints: &[Blueprint],
        ports: Ports,
        sockets: &dyn Fn(&WorkloadName) -> Sockets,
    ) -> anyhow::Result<Self> {
        apart(blueprints)?;
        let ports = ports::assign(blueprints, ports)?;
        let mut used: BTreeMap<&str, BTreeSet<u16>> = BTreeMap::new();
        let pods = blueprints.iter().flat_map(|blueprint| &blueprint.pods);
        for (pod, port) in pods.zip(&ports) {
            used.entry(&pod.cluster).or_default().insert(*port);
        }
        let mut clusters: Vec<ClusterPlan> = Vec::new();
        for name in blueprints.iter().flat_map(|blueprint| &blueprint.clusters) {
            if !clusters.iter().any(|known| known.name == *name) {
                let public_ports = used.remove(name.as_str()).unwrap_or_default();
                clusters.push(ClusterPlan {
                    name: name.clone(),
                    public_ports: public_ports.into_iter().collect(),
                });
            }
        }
        let mut pods = Vec::new();
        let mut ports = &ports[..];
        for blueprint in blueprints {
            let (own, others) = ports.split_at(blueprint.pods.len());
            pods.extend(plan_blueprint(blueprint, own, sockets)?);
            ports = others;
        }
        // Stable: within a stage, the order of the blueprints and of their pods stays.
        pods.sort_by_key(|pod: &PodPlan| pod.stage);
        Ok(Self { clusters, pods })
    }

    /// The clusters of each two pods of which the first sends to the second, by their names.
    pub fn connections(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pods.iter().flat_map(|pod| {
            let egress = pod.egress.iter();
            egress.map(|egress| (pod.name.cluster(), egress.target.cluster()))
        })
    }

    /// The pods stage by stage, in deploy order; those of one stage do not depend on each other.
    pub fn stages(&self) -> impl Iterator<Item = &[PodPlan]> {
        self.pods
            .chunk_by(|earlier, later| earlier.stage == later.stage)
    }

    pub fn pod(&self, name: &WorkloadName) -> Option<&PodPlan> {
        self.pods.iter().find(|pod| pod.name == *name)
    }

    pub fn gateways(&self) -> impl Iterator<Item = &PodPlan> {
        self.with_role(Role::Gateway)
    }

    pub fn sinks(&self) -> impl Iterator<Item = &PodPlan> {
        self.with_role(Role::Sink)
    }

    fn with_role(&self, role: Role) -> impl Iterator<Item = &PodPlan> {
        self.pods.iter().filter(move |pod| pod.role == role)
    }

    /// Every route that a message of `gateway` takes: from the gateway itself to a sink, in the order of the blueprint. A
    /// checked blueprint has at most [`crate::MAX_ROUTES`] of them; a name that is not in the plan has none.
    pub fn paths(&self, gateway: &WorkloadName) -> Vec<Vec<WorkloadName>> {
        let mut finished = Vec::new();
        let mut open: Vec<Vec<&PodPlan>> =
            self.pod(gateway).map(|pod| vec![pod]).into_iter().collect();
        while let Some(route) = open.pop() {
            let Some(last) = route.last() else { continue };
            if last.egress.is_empty() {
                finished.push(route.iter().map(|pod| pod.name.clone()).collect());
            }
            // Last first, since the last one in is the first one out.
            for target in last
                .egress
                .iter()
                .rev()
                .filter_map(|egress| self.pod(&egress.target))
            {
                let mut longer = route.clone();
                longer.push(target);
                open.push(longer);
            }
        }
        finished
    }
}

/// Refuses two blueprints of one name and two pods of one namespace.
pub fn apart(blueprints: &[Blueprint]) -> anyhow::Result<()> {
    let mut names = BTreeMap::new();
    let mut namespaces = BTreeMap::new();
    for blueprint in blueprints {
        if let Some(other) = names.insert(&blueprint.name, blueprint) {
            return Err(Failure::usage(format!(
                "two blueprints are named `{}`: `{}` and `{}`",
                blueprint.name,
                other.path().display(),
                blueprint.path().display()
            ))
            .hint("rename one of them, or run them in separate environments")
            .into());
        }
        for pod in &blueprint.pods {
            let name = workload(blueprint, pod)?;
            // `a-b` with pod `c`, and `a` with pod `b-c`.
            if let Some(other) = namespaces.insert(name.namespace(), at(blueprint, pod)) {
                return Err(Failure::usage(format!(
                    "namespace `{}` is used by both {other} and {}",
                    name.namespace(),
                    at(blueprint, pod)
                ))
                .hint("rename one of the pods, or run the blueprints in separate environments")
                .into());
            }
        }
    }
    Ok(())
}

/// The pods of one blueprint as they are written; `ports` has the public port of each.
fn plan_blueprint(
    blueprint: &Blueprint,
    ports: &[u16],
    sockets: &dyn Fn(&WorkloadName) -> Sockets,
) -> anyhow::Result<Vec<PodPlan>> {
    let names: Vec<WorkloadName> = blueprint
        .pods
        .iter()
        .map(|pod| workload(blueprint, pod))
        .collect::<anyhow::Result<_>>()?;
    let index: BTreeMap<&str, usize> = names
        .iter()
        .enumerate()
        .map(|(index, name)| (name.pod(), index))
        .collect();
    let mut edges = Vec::new();
    let mut successors = vec![Vec::new(); names.len()];
    let mut upstreams = vec![Vec::new(); names.len()];
    for edge in blueprint.edges() {
        let end = |pod| {
            index.get(pod).copied().ok_or_else(|| {
                Failure::usage(format!(
                    "blueprint `{}` connects unknown pod `{pod}`",
                    blueprint.name
                ))
            })
        };
        let (from, to) = (end(edge.from)?, end(edge.to)?);
        edges.push((from, to));
        successors[from].push((to, edge.protocol));
        upstreams[to].push(names[from].clone());
    }
    let graph = successors
        .iter()
        .map(|targets| targets.iter().map(|(to, _)| *to).collect())
        .collect();
    let stages = graph::stages(&graph);
    let reach: Vec<_> = (0..names.len())
        .map(|pod| graph::reachable(&graph, [pod]))
        .collect();
    let mut pods = Vec::new();
    let written = blueprint.pods.iter().zip(&names).zip(ports);
    let connected = successors.iter().zip(stages).zip(upstreams);
    for (own, (((pod, name), port), ((targets, stage), upstreams))) in
        written.zip(connected).enumerate()
    {
        let stage = stage
            .ok_or_else(|| Failure::usage(format!("{} sends into a cycle", at(blueprint, pod))))?;
        let sockets = sockets(name);
        let egress = targets
            .iter()
            .zip(FIRST_EGRESS_PORT..)
            .map(|((to, protocol), port)| Egress {
                target: names[*to].clone(),
                protocol: *protocol,
                public_port: ports[*to],
                listen: SocketAddr::new(sockets.egress_host, port),
            })
            .collect();
        pods.push(PodPlan {
            name: name.clone(),
            role: pod.role,
            stage,
            public_port: *port,
            pinhole: pod.pinhole,
            storage: match pod.role {
                Role::Sink => Some(pod.storage.clone().unwrap_or_default()),
                Role::Gateway | Role::Processor => None,
            },
            reserved: blueprint.targets.of(&pod.name),
            auto_trigger: match pod.role {
                Role::Gateway => blueprint.messages,
                Role::Processor | Role::Sink => 0,
            },
            upstreams,
            connections: edges
                .iter()
                .filter(|(from, to)| reach[own][*from] || reach[*to][own])
                .map(|(from, to)| (names[*from].clone(), names[*to].clone()))
                .collect(),
            egress,
            sockets,
        });
    }
    Ok(pods)
}

fn workload(blueprint: &Blueprint, pod: &Pod) -> anyhow::Result<WorkloadName> {
    blueprint
        .workload(pod)
        .map_err(|error| Failure::usage(error.to_string()).into())
}

/// ``pod `sink` of `international-ferry` (manifests/…/blueprint.yaml:13)``
pub fn at(blueprint: &Blueprint, pod: &Pod) -> String {
    format!(
        "pod `{}` of `{}` ({}:{})",
        pod.name,
        blueprint.name,
        blueprint.path().display(),
        pod.line
    )
}

/// Where a peer is dialled: an IP address or a host name, and the public port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAddress {
    pub host: String,
    pub port: u16,
}

impl std::fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
