use std::{collections::HashSet, fmt::Write as _, path::Path};

use proptest::prelude::*;

use super::*;

fn shipped(name: &str) -> Blueprint {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests");
    let path = manifests.join(name).join("blueprint.yaml");
    Blueprint::parse_bytes(&std::fs::read(&path).unwrap(), &path).unwrap()
}

fn in_pod(_: &WorkloadName) -> Sockets {
    Sockets::in_pod()
}

fn names<'a>(pods: impl IntoIterator<Item = &'a PodPlan>) -> Vec<&'a str> {
    pods.into_iter().map(|pod| pod.name.pod()).collect()
}

#[test]
fn a_sink_is_deployed_before_its_gateway() {
    let plan = Plan::of(&[shipped("international-ferry")], Ports::AsWritten, &in_pod).unwrap();
    assert_eq!(names(&plan.pods), ["sink", "gateway"]);
    assert_eq!(
        plan.stages().map(names).collect::<Vec<_>>(),
        [["sink"], ["gateway"]]
    );
    let (sink, gateway) = (&plan.pods[0], &plan.pods[1]);
    assert_eq!(sink.upstreams, std::slice::from_ref(&gateway.name));
    assert_eq!(
        gateway.egress,
        [Egress {
            target: sink.name.clone(),
            protocol: Protocol::Grpc,
            public_port: 30200,
            listen: "127.0.0.1:18001".parse().unwrap(),
        }]
    );
    assert_eq!((gateway.auto_trigger, sink.auto_trigger), (5, 0));
    assert_eq!((gateway.public_port, sink.public_port), (30100, 30200));
    assert_eq!(
        plan.paths(&gateway.name),
        [[gateway.name.clone(), sink.name.clone()]]
    );
}

fn parse(text: &str) -> Blueprint {
    Blueprint::parse(text, Path::new("drawn.yaml")).unwrap()
}

/// gate → left, right → end, and gate → end, over four clusters and both protocols.
const HARBOUR: &str = "
name: harbour
title: Harbour
protocol: grpc
messages: 7
clusters: [a, b, c, d]
pods:
  - {name: end, role: sink, cluster: d, port: 30100, pinhole: true}
  - {name: gate, role: gateway, cluster: a, port: 30100}
  - {name: left, role: processor, cluster: b, port: 30100}
  - {name: right, role: processor, cluster: c, port: 30100}
connections:
  - {from: gate, to: [right, left], protocol: websocket}
  - {from: left, to: end}
  - {from: gate, to: end}
  - {from: right, to: end}
";

#[test]
fn fan_out_and_fan_in_are_one_graph() {
    let plan = Plan::of(&[parse(HARBOUR)], Ports::AsWritten, &in_pod).unwrap();
    assert_eq!(
        plan.stages().map(names).collect::<Vec<_>>(),
        [vec!["end"], vec!["left", "right"], vec!["gate"]]
    );
    let gate = plan.gateways().next().unwrap();
    let egress: Vec<_> = gate
        .egress
        .iter()
        .map(|egress| (egress.target.pod(), egress.protocol, egress.listen.port()))
        .collect();
    assert_eq!(
        egress,
        [
            ("right", Protocol::Websocket, 18001),
            ("left", Protocol::Websocket, 18002),
            ("end", Protocol::Grpc, 18003)
        ]
    );
    let end = plan.sinks().next().unwrap();
    let upstreams: Vec<_> = end.upstreams.iter().map(WorkloadName::pod).collect();
    assert_eq!(upstreams, ["left", "gate", "right"]);
    let paths: Vec<Vec<_>> = plan
        .paths(&gate.name)
        .iter()
        .map(|path| path.iter().map(|name| name.pod().to_owned()).collect())
        .collect();
    assert_eq!(
        paths,
        [
            vec!["gate", "right", "end"],
            vec!["gate", "left", "end"],
            vec!["gate", "end"]
        ]
    );
    let auto: Vec<_> = plan.pods.iter().map(|pod| pod.auto_trigger).collect();
    assert_eq!(auto, [0, 0, 0, 7]);
    assert!(
        plan.paths(&"no.a.harbour.ferry.internal".parse().unwrap())
            .is_empty()
    );
}

#[test]
fn egress_listens_on_pod_sockets() {
    let address = |name: &WorkloadName| -> IpAddr {
        if name.pod() == "gate" {
            [127, 81, 7, 2]
        } else {
            [127, 81, 7, 3]
        }
        .into()
    };
    let plan = Plan::of(&[parse(HARBOUR)], Ports::AsWritten, &|name| {
        Sockets::at(address(name))
    })
    .unwrap();
    let gate = plan.gateways().next().unwrap();
    assert_eq!(gate.egress[0].listen, "127.81.7.2:18001".parse().unwrap());
    assert_eq!(gate.sockets.ingress, "127.81.7.2:18000".parse().unwrap());
}

#[test]
fn shared_ports_are_refused_or_spread() {
    let both = [
        shipped("fast-international-ferry"),
        shipped("international-ferry"),
    ];
    let error = Plan::of(&both, Ports::AsWritten, &in_pod).unwrap_err();
    assert_eq!(Failure::exit_code(&error), 2);
    let text = error.to_string();
    assert!(
        text.starts_with(
            "port 30100 of cluster `cluster-a` is used by both pod `initiator` of \
             `fast-international-ferry` (",
        ) && text.contains("and pod `gateway` of `international-ferry` ("),
        "{text}"
    );
    let plan = Plan::of(&both, Ports::Spread, &in_pod).unwrap();
    let cluster = |name: &str, public_ports: &[u16]| ClusterPlan {
        name: name.into(),
        public_ports: public_ports.into(),
    };
    assert_eq!(
        plan.clusters,
        [
            cluster("cluster-a", &[30100, 30101]),
            cluster("cluster-b", &[30200, 30201])
        ]
    );
    assert_eq!(
        names(&plan.pods),
        ["terminator", "sink", "initiator", "gateway"]
    );
    let ports: Vec<_> = plan.pods.iter().map(|pod| pod.public_port).collect();
    assert_eq!(ports, [30200, 30201, 30100, 30101]);
}

/// A blueprint of one gateway and one sink in cluster `c`.
fn pair(name: &str, gate: (&str, u16), sink: (&str, u16)) -> Blueprint {
    parse(&format!(
        "name: {name}\ntitle: Pair\nprotocol: grpc\nclusters: [c]\npods:\n\
         \x20 - {{name: {}, role: gateway, cluster: c, port: {}}}\n\
         \x20 - {{name: {}, role: sink, cluster: c, port: {}}}\n\
         connections: [{{from: {}, to: {}}}]\n",
        gate.0, gate.1, sink.0, sink.1, gate.0, sink.0
    ))
}

#[test]
fn spread_moves_later_pod_to_free_port() {
    let plan = Plan::of(
        &[
            pair("one", ("gate", 65535), ("sink", 1024)),
            pair("two", ("gate", 65535), ("sink", 1025)),
        ],
        Ports::Spread,
        &in_pod,
    )
    .unwrap();
    let port = |name: &str| plan.pod(&name.parse().unwrap()).unwrap().public_port;
    assert_eq!(port("gate.c.one.ferry.internal"), 65535);
    assert_eq!(
        port("gate.c.two.ferry.internal"),
        1026,
        "past the end, it begins at the first port again"
    );
    assert_eq!(port("sink.c.two.ferry.internal"), 1025);
}

#[test]
fn name_and_namespace_belong_to_one_blueprint() {
    let refused = |blueprints: &[Blueprint]| {
        let error = Plan::of(blueprints, Ports::Spread, &in_pod).unwrap_err();
        assert_eq!(Failure::exit_code(&error), 2);
        error.to_string()
    };
    let one = pair("one", ("gate", 2000), ("sink", 2001));
    assert_eq!(
        refused(&[one.clone(), one.clone()]),
        "two blueprints are named `one`: `drawn.yaml` and `drawn.yaml`"
    );
    assert_eq!(
        refused(&[
            pair("one-two", ("gate", 2000), ("sink", 2001)),
            pair("one", ("two-gate", 2000), ("sink", 2001))
        ]),
        "namespace `one-two-gate-ns` is used by both pod `gate` of `one-two` (drawn.yaml:6) \
         and pod `two-gate` of `one` (drawn.yaml:6)"
    );
}

/// What a random blueprint is drawn from: processors only send to later ones, so there is no cycle.
#[derive(Clone, Debug)]
struct Drawn {
    gateways: usize,
    processors: usize,
    sinks: usize,
    clusters: usize,
    /// Order in which the pods are written, by rank.
    order: Vec<u32>,
    /// Chosen once per connection that must be, and for extra ones.
    choices: Vec<usize>,
    extra: usize,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    (
        (1_usize..4, 0_usize..6, 1_usize..4, 1_usize..4),
        prop::collection::vec(any::<u32>(), 16),
        prop::collection::vec(any::<usize>(), 64),
        0_usize..8,
    )
        .prop_map(
            |((gateways, processors, sinks, clusters), order, choices, extra)| Drawn {
                gateways,
                processors,
                sinks,
                clusters,
                order,
                choices,
                extra,
            },
        )
}

impl Drawn {
    fn blueprint(&self, name: &str) -> Blueprint {
        let count = self.gateways + self.processors + self.sinks;
        let first_sink = count - self.sinks;
        let mut choices = self.choices.iter().copied().cycle();
        let mut choose = move |range: std::ops::Range<usize>| {
            range.start + choices.next().unwrap_or(0) % range.len()
        };
        let mut edges: Vec<(usize, usize)> = Vec::new();
        let mut connect = |from, to| {
            if !edges.contains(&(from, to)) {
                edges.push((from, to));
            }
        };
        for pod in 0..first_sink {
            connect(pod, choose(self.gateways.max(pod + 1)..count));
        }
        for pod in self.gateways..count {
            connect(choose(0..pod.min(first_sink)), pod);
        }
        for _ in 0..self.extra {
            let from = choose(0..first_sink);
            connect(from, choose(self.gateways.max(from + 1)..count));
        }
        let mut pods: Vec<usize> = (0..count).collect();
        pods.sort_by_key(|pod| self.order[*pod]);
        let clusters: Vec<_> = (0..self.clusters.min(count))
            .map(|cluster| format!("c{cluster}"))
            .collect();
        let mut text = format!(
            "name: {name}\ntitle: Drawn\nprotocol: grpc\nclusters: [{}]\npods:\n",
            clusters.join(", ")
        );
        for pod in pods {
            let role = match pod {
                pod if pod < self.gateways => Role::Gateway,
                pod if pod < first_sink => Role::Processor,
                _ => Role::Sink,
            };
            let cluster = &clusters[pod % clusters.len()];
            writeln!(
                text,
                "  - {{name: p{pod}, role: {role}, cluster: {cluster}, port: {}}}",
                30_000 + pod
            )
            .unwrap();
        }
        text += "connections:\n";
        for (from, to) in edges {
            writeln!(text, "  - {{from: p{from}, to: [p{to}]}}").unwrap();
        }
        parse(&text)
    }
}

proptest! {
    #[test]
    fn every_plan_keeps_its_promises(drawn in prop::collection::vec(drawn(), 1..4)) {
        let blueprints: Vec<_> = drawn.iter().enumerate().map(|(index, drawn)| drawn.blueprint(&format!("drawn-{index}"))).collect();
        let plan = Plan::of(&blueprints, Ports::Spread, &in_pod).unwrap();

        let names: HashSet<_> = plan.pods.iter().map(|pod| &pod.name).collect();
        prop_assert_eq!(names.len(), plan.pods.len(), "every pod appears once");
        prop_assert_eq!(plan.pods.len(), blueprints.iter().map(|blueprint| blueprint.pods.len()).sum::<usize>());

        let mut ports = HashSet::new();
        let position = |name: &WorkloadName| plan.pods.iter().position(|pod| pod.name == *name).unwrap();
        for (index, pod) in plan.pods.iter().enumerate() {
            prop_assert!(ports.insert((pod.name.cluster(), pod.public_port)), "ports of a cluster never collide");
            let cluster = plan.clusters.iter().find(|cluster| cluster.name == pod.name.cluster()).unwrap();
            prop_assert!(cluster.public_ports.contains(&pod.public_port));
            let mut listeners = HashSet::new();
            for egress in &pod.egress {
                prop_assert!(listeners.insert(egress.listen), "egress ports of a pod never collide");
                let target = plan.pod(&egress.target).unwrap();
                prop_assert!(target.stage < pod.stage && position(&target.name) < index, "a pod comes after all its downstreams");
                prop_assert!(target.upstreams.contains(&pod.name), "both ends know a connection");
            }
            let farthest = pod.egress.iter().map(|egress| plan.pod(&egress.target).unwrap().stage + 1).max();
            prop_assert_eq!(pod.stage, farthest.unwrap_or(0), "a pod waits for no more than its downstreams");
            prop_assert_eq!(pod.egress.is_empty(), pod.role == Role::Sink);
            prop_assert_eq!(pod.upstreams.is_empty(), pod.role == Role::Gateway);
        }
        for cluster in &plan.clusters {
            prop_assert!(cluster.public_ports.is_sorted());
        }

        let staged: Vec<_> = plan.stages().flatten().map(|pod| &pod.name).collect();
        prop_assert_eq!(staged, plan.pods.iter().map(|pod| &pod.name).collect::<Vec<_>>());

        for gateway in plan.gateways() {
            let paths = plan.paths(&gateway.name);
            prop_assert!(!paths.is_empty(), "a gateway has a route");
            prop_assert_eq!(paths.iter().collect::<HashSet<_>>().len(), paths.len(), "each route is given once");
            for path in &paths {
                prop_assert_eq!(&path[0], &gateway.name);
                prop_assert_eq!(plan.pod(&path[path.len() - 1]).unwrap().role, Role::Sink);
                for step in path.windows(2) {
                    prop_assert!(plan.pod(&step[0]).unwrap().egress.iter().any(|egress| egress.target == step[1]));
                }
            }
        }
    }

    #[test]
    fn a_blueprint_alone_keeps_its_ports(drawn in drawn()) {
        let blueprint = drawn.blueprint("alone");
        let blueprints = [blueprint];
        for ports in [Ports::AsWritten, Ports::Spread] {
            let plan = Plan::of(&blueprints, ports, &in_pod).unwrap();
            for pod in &plan.pods {
                prop_assert_eq!(Some(pod.public_port), blueprints[0].pod(pod.name.pod()).map(|pod| pod.port));
            }
        }
    }
}
