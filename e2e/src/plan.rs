//! What a set of blueprints means for one environment: addresses, ports, names, order. Pure: no I/O, no clock.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use messages::{Protocol, Role, WorkloadName};
use serde::{Deserialize, Serialize};

/// Everything the runtimes, the Envoy bootstrap and the manifests are made from.
#[derive(Clone, Debug)]
pub struct Plan {
    pub clusters: Vec<ClusterPlan>,
    /// In the order they are deployed: by `stage`, then as written.
    pub pods: Vec<PodPlan>,
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
    /// Messages sent by itself at start; 0 on what is no gateway.
    pub auto_trigger: u32,
    /// The pods whose identity its ingress accepts, in the order of the blueprint.
    pub upstreams: Vec<WorkloadName>,
    /// Its connections out, in the order of the blueprint.
    pub egress: Vec<Egress>,
    pub sockets: Sockets,
}

/// One connection out of a pod, through a port of its own Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    pub target: WorkloadName,
    pub protocol: Protocol,
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
    /// `wosp`: `/ready` and `/metrics`.
    pub wosp: SocketAddr,
    /// Where Envoy's egress listeners bind.
    pub egress_host: IpAddr,
}

/// `app`: HTTP.
pub const HTTP_PORT: u16 = 8000;
/// `app`: relay protocol.
pub const RELAY_PORT: u16 = 8001;
/// `envoy`: ingress in every pod. TLS carries the tunnel, plaintext answers `/health`.
pub const INGRESS_PORT: u16 = 18000;
/// `envoy`: the first egress port; one per connection, counting up.
pub const FIRST_EGRESS_PORT: u16 = 18001;
/// `envoy`: `/ready` and statistics.
pub const ENVOY_STATS_PORT: u16 = 9902;
/// `wosp`: `/ready` and `/metrics`.
pub const WOSP_PORT: u16 = 9903;

impl Sockets {
    /// In a Kubernetes pod: what the kubelet or a Service reaches is open to the pod network, the rest is loopback.
    pub const fn in_pod() -> Self {
        Self::new(
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V4(Ipv4Addr::LOCALHOST),
        )
    }

    /// On one machine: a pod is an address of its own.
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

impl PodPlan {
    pub fn downstream(&self) -> String {
        String::new()
    }
}
impl Plan {
    pub fn stages(&self) -> Vec<Vec<&PodPlan>> {
        vec![]
    }
}
