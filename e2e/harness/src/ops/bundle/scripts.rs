//! Builds the scripts from templates. Every value is quoted for the shell.

use std::collections::{BTreeMap, BTreeSet};

use blueprint::{
    DATA_VOLUME, Target,
    plan::{HTTP_PORT, PodPlan},
};
use messages::WorkloadName;
use render::{self, Controller, PINHOLE_SECRET, TOKEN_KEY};
use serde::Serialize;

use super::{
    Bundle, PEERS_FILE, PEERS_TEMPLATE,
    steps::{Step, steps},
    template::{fill, key},
};

const COMMON: &str = include_str!("common.sh");
const CONTEXTS: &str = include_str!("contexts.sh");
const NAMESPACES: &str = include_str!("namespaces.sh");
const DEPLOY: &str = include_str!("deploy.sh");
const VERIFY: &str = include_str!("verify.sh");
const TEARDOWN: &str = include_str!("teardown.sh");

/// What all scripts know.
#[derive(Serialize)]
pub(super) struct Scripts {
    blueprint: String,
    target: &'static str,
    /// Value of the environment's label.
    environment: String,
    clusters: Vec<String>,
    clusters_shown: String,
    peers_file: &'static str,
    peers_template: &'static str,
    http_port: u16,
    data_volume: &'static str,
    pinhole_secret: &'static str,
    /// For `kubectl get secret`: the header with the token.
    token_template: String,
    /// In the order they are deployed.
    #[serde(skip)]
    pods: Vec<Pod>,
    #[serde(skip)]
    gateways: Vec<Gateway>,
    #[serde(skip)]
    sinks: Vec<Sink>,
    #[serde(skip)]
    steps: Vec<Step>,
}

#[derive(Clone, Serialize)]
struct Pod {
    name: String,
    cluster: String,
    namespace: String,
    /// What makes it, as `kubectl` calls it.
    controller: &'static str,
    /// Whether messages lie on a disk of it.
    stores: bool,
    /// Whether another pod waits for the address of its load balancer.
    awaited: bool,
    /// The address that its Service asks for; empty where it takes any, or where what comes cannot be compared.
    asked: String,
    /// Where others dial it whatever comes; empty where that is its load balancer's address.
    known: String,
    peers: Vec<Peer>,
}

/// A pod that another sends to.
#[derive(Clone, Serialize)]
struct Peer {
    key: String,
    pod: String,
    cluster: String,
    known: String,
    /// Whether the script's cluster sends to no other pod there, so that the cluster's name is enough.
    alone_there: bool,
    /// How it is given.
    option: String,
}

#[derive(Serialize)]
struct Gateway {
    name: String,
    cluster: String,
    namespace: String,
    count: u32,
}

#[derive(Serialize)]
struct Sink {
    name: String,
    cluster: String,
    namespace: String,
    heading: String,
    routes: Vec<Route>,
}

#[derive(Serialize)]
struct Route {
    /// `cluster/namespace` of each pod, in travel order.
    text: String,
    /// How many messages must have come by it at least.
    count: u32,
}

impl Scripts {
    pub(super) fn of(bundle: &Bundle<'_>, label: &str) -> Self {
        let plan = &bundle.plan;
        let known = |pod: &WorkloadName| {
            let peer = bundle.peers.get(pod);
            peer.map(|peer| peer.host.clone()).unwrap_or_default()
        };
        let clusters: Vec<String> = plan.clusters.iter().map(|one| one.name.clone()).collect();
        Self {
            blueprint: bundle.blueprint.name.clone(),
            target: bundle.target.as_str(),
            environment: label.into(),
            clusters_shown: clusters.join(", "),
            clusters,
            peers_file: PEERS_FILE,
            peers_template: PEERS_TEMPLATE,
            http_port: HTTP_PORT,
            data_volume: DATA_VOLUME,
            pinhole_secret: PINHOLE_SECRET,
            token_template: format!(
                "go-template={{{{printf \"Authorization: Bearer %s\\n\" (base64decode .data.{TOKEN_KEY})}}}}"
            ),
            pods: plan
                .pods
                .iter()
                .map(|pod| Pod {
                    name: pod.name.pod().into(),
                    cluster: pod.name.cluster().into(),
                    namespace: pod.name.namespace(),
                    controller: Controller::of(pod.role).as_str(),
                    stores: pod.storage.is_some(),
                    awaited: !pod.upstreams.is_empty()
                        && render::bound_to(pod, bundle.target).is_none(),
                    asked: asked(pod, bundle.target),
                    known: known(&pod.name),
                    peers: peers(pod, &known),
                })
                .collect(),
            gateways: plan
                .gateways()
                .filter(|pod| pod.auto_trigger > 0)
                .map(|pod| Gateway {
                    name: pod.name.pod().into(),
                    cluster: pod.name.cluster().into(),
                    namespace: pod.name.namespace(),
                    count: pod.auto_trigger,
                })
                .collect(),
            sinks: plan
                .sinks()
                .filter(|pod| pod.pinhole)
                .map(|pod| sink(bundle, pod))
                .collect(),
            steps: steps(plan),
        }
    }

    /// File name → text.
    pub(super) fn all(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut all = BTreeMap::new();
        let clusters: BTreeSet<&str> = self.pods.iter().map(|pod| &pod.cluster[..]).collect();
        for cluster in clusters {
            all.insert(format!("deploy-{cluster}.sh"), self.deploy(cluster)?);
        }
        all.insert("verify.sh".into(), self.verify()?);
        all.insert("teardown.sh".into(), self.teardown()?);
        Ok(all)
    }

    fn deploy(&self, cluster: &str) -> anyhow::Result<String> {
        #[derive(Serialize)]
        struct Deploy<'a> {
            #[serde(flatten)]
            common: &'a Scripts,
            cluster: &'a str,
            pods: Vec<Pod>,
            pods_shown: String,
            /// All that its pods send to, each once.
            peers: Vec<Peer>,
            only_peer: Option<String>,
            /// Whether it waits for an address.
            awaits: bool,
            /// Whether one of its pods stores.
            stores: bool,
            namespace_functions: String,
            next: String,
        }
        let pods: Vec<_> = self
            .pods
            .iter()
            .filter(|pod| pod.cluster == cluster)
            .cloned()
            .collect();
        let peers = distinct(&pods);
        let names: Vec<_> = pods.iter().map(|pod| pod.name.as_str()).collect();
        let only_peer = match &peers[..] {
            [only] => Some(only.key.clone()),
            _ => None,
        };
        fill(
            &[COMMON, DEPLOY],
            &Deploy {
                common: self,
                cluster,
                pods_shown: names.join(", "),
                only_peer,
                awaits: pods.iter().any(|pod| pod.awaited),
                stores: pods.iter().any(|pod| pod.stores),
                namespace_functions: fill(&[NAMESPACES], self)?,
                next: self.after(cluster),
                peers,
                pods,
            },
        )
    }

    /// What comes after the last run of a cluster's script.
    fn after(&self, cluster: &str) -> String {
        let last = self.steps.iter().rposition(|step| step.cluster == cluster);
        let next = last.and_then(|at| self.steps.get(at + 1));
        next.map_or_else(
            || "verify.sh".into(),
            |step| format!("deploy-{}.sh", step.cluster),
        )
    }

    fn verify(&self) -> anyhow::Result<String> {
        #[derive(Serialize)]
        struct Verify<'a> {
            #[serde(flatten)]
            common: &'a Scripts,
            contexts_functions: String,
            gateways: &'a [Gateway],
            gateways_shown: String,
            sinks: &'a [Sink],
        }
        let names: Vec<_> = self.gateways.iter().map(|one| one.name.as_str()).collect();
        fill(
            &[COMMON, VERIFY],
            &Verify {
                common: self,
                contexts_functions: fill(&[CONTEXTS], self)?,
                gateways_shown: names.join(", "),
                gateways: &self.gateways,
                sinks: &self.sinks,
            },
        )
    }

    fn teardown(&self) -> anyhow::Result<String> {
        #[derive(Serialize)]
        struct Teardown<'a> {
            #[serde(flatten)]
            common: &'a Scripts,
            contexts_functions: String,
            namespace_functions: String,
            pods: Vec<Pod>,
            namespaces_shown: String,
        }
        let pods: Vec<_> = self.pods.iter().rev().cloned().collect();
        let namespaces: Vec<_> = pods.iter().map(|pod| pod.namespace.as_str()).collect();
        fill(
            &[COMMON, TEARDOWN],
            &Teardown {
                common: self,
                contexts_functions: fill(&[CONTEXTS], self)?,
                namespace_functions: fill(&[NAMESPACES], self)?,
                namespaces_shown: namespaces.join(", "),
                pods,
            },
        )
    }
}

/// Every pod that these send to, once.
fn distinct(pods: &[Pod]) -> Vec<Peer> {
    let mut seen = BTreeSet::new();
    let all: Vec<&Peer> = pods
        .iter()
        .flat_map(|pod| &pod.peers)
        .filter(|peer| seen.insert(&peer.key))
        .collect();
    let alone = |peer: &Peer| {
        let there = all.iter().filter(|other| other.cluster == peer.cluster);
        there.count() == 1
    };
    all.iter()
        .map(|peer| {
            let alone_there = alone(peer);
            let whose = if alone_there {
                &peer.cluster
            } else {
                &peer.key
            };
            Peer {
                alone_there,
                option: format!("{whose}=HOST"),
                ..(*peer).clone()
            }
        })
        .collect()
}

fn peers(pod: &PodPlan, known: &dyn Fn(&WorkloadName) -> String) -> Vec<Peer> {
    pod.egress
        .iter()
        .map(|out| Peer {
            key: key(&out.target),
            pod: out.target.pod().into(),
            cluster: out.target.cluster().into(),
            known: known(&out.target),
            alone_there: false,
            option: String::new(),
        })
        .collect()
}

/// What must have come to be right. On EKS a load balancer has a host name, whatever its addresses are.
fn asked(pod: &PodPlan, target: Target) -> String {
    let asked = match target {
        Target::Eks => None,
        _ => pod.reserved.address(target),
    };
    asked.unwrap_or_default().into()
}

fn sink(bundle: &Bundle<'_>, pod: &PodPlan) -> Sink {
    let name = &pod.name;
    let mut routes = vec![];
    for gateway in bundle.plan.gateways().filter(|one| one.auto_trigger > 0) {
        let paths = bundle.plan.paths(&gateway.name).into_iter();
        for path in paths.filter(|path| path.last() == Some(name)) {
            let stops: Vec<_> = path
                .iter()
                .map(|stop| format!("{}/{}", stop.cluster(), stop.namespace()))
                .collect();
            routes.push(Route {
                text: stops.join(" "),
                count: gateway.auto_trigger,
            });
        }
    }
    Sink {
        name: name.pod().into(),
        cluster: name.cluster().into(),
        namespace: name.namespace(),
        heading: format!("messages at {} in {}:", name.pod(), name.cluster()),
        routes,
    }
}
