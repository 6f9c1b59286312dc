//! Plans built by hand.

use std::{collections::BTreeMap, net::IpAddr};

use blueprint::plan::{Egress, FIRST_EGRESS_PORT, PeerAddress, PodPlan, Sockets};
use messages::{Protocol, Role, WorkloadName};
use render::envoy::EnvoyPaths;

pub(super) fn name(blueprint: &str, cluster: &str, pod: &str) -> WorkloadName {
    WorkloadName::new(blueprint, cluster, pod).unwrap()
}

pub(super) fn paths() -> EnvoyPaths {
    EnvoyPaths::in_working_directory()
}

pub(super) fn pod(
    name: WorkloadName,
    role: Role,
    sockets: Sockets,
    upstreams: &[WorkloadName],
    downstreams: &[WorkloadName],
) -> PodPlan {
    PodPlan {
        name,
        role,
        stage: usize::from(role != Role::Sink),
        public_port: 30100,
        pinhole: true,
        storage: None,
        reserved: blueprint::Reserved::default(),
        auto_trigger: 0,
        upstreams: upstreams.to_vec(),
        connections: vec![],
        egress: downstreams
            .iter()
            .zip(FIRST_EGRESS_PORT..)
            .map(|(target, port)| Egress {
                target: target.clone(),
                protocol: Protocol::Grpc,
                public_port: 30200,
                listen: (sockets.egress_host, port).into(),
            })
            .collect(),
        sockets,
    }
}

pub(super) struct Pods {
    pub(super) gateway: PodPlan,
    pub(super) sink: PodPlan,
    pub(super) addresses: BTreeMap<WorkloadName, PeerAddress>,
}

fn at(host: &str, port: u16) -> PeerAddress {
    PeerAddress {
        host: host.into(),
        port,
    }
}

impl Pods {
    /// The two pods of the design, as in Kubernetes.
    pub(super) fn ferry() -> Self {
        let gateway = name("international-ferry", "cluster-a", "gateway");
        let sink = name("international-ferry", "cluster-b", "sink");
        let address = at("host.k3d.internal", 30200);
        Self {
            gateway: pod(
                gateway.clone(),
                Role::Gateway,
                Sockets::in_pod(),
                &[],
                std::slice::from_ref(&sink),
            ),
            sink: pod(
                sink.clone(),
                Role::Sink,
                Sockets::in_pod(),
                std::slice::from_ref(&gateway),
                &[],
            ),
            addresses: BTreeMap::from([(sink, address), (gateway, at("host.k3d.internal", 30100))]),
        }
    }

    /// One gateway with two targets, the later name first, on one machine.
    pub(super) fn fan_out() -> Self {
        let mut pods = Self::fan_in();
        let alpha = name("fan", "cluster-a", "alpha");
        let zulu = name("fan", "cluster-b", "zulu");
        pods.gateway = pod(
            name("fan", "cluster-a", "gateway"),
            Role::Gateway,
            Sockets::at(IpAddr::from([127, 81, 0, 10])),
            &[],
            &[zulu.clone(), alpha.clone()],
        );
        pods.addresses = BTreeMap::from([
            (alpha, at("127.81.0.1", 30101)),
            (zulu, at("127.81.1.1", 30201)),
        ]);
        pods
    }

    /// One sink with two sources, on one machine.
    pub(super) fn fan_in() -> Self {
        let left = name("fan", "cluster-a", "left");
        let right = name("fan", "cluster-b", "right");
        let sink = name("fan", "cluster-b", "sink");
        Self {
            gateway: pod(
                left.clone(),
                Role::Gateway,
                Sockets::at(IpAddr::from([127, 81, 0, 10])),
                &[],
                std::slice::from_ref(&sink),
            ),
            sink: pod(
                sink.clone(),
                Role::Sink,
                Sockets::at(IpAddr::from([127, 81, 1, 10])),
                &[left, right],
                &[],
            ),
            addresses: BTreeMap::from([(sink, at("127.81.1.1", 30200))]),
        }
    }
}
