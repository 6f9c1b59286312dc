//! Renders Kubernetes objects from a plan, deterministically and without I/O.
//!
//! The same objects are applied by the harness and written beside each blueprint, one file per kind in the order they
//! must be applied.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod controllers;
pub mod envoy;
mod nodes;
mod objects;
mod policies;
mod targets;
mod workload;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use anyhow::Context as _;
use blueprint::{
    Blueprint, Target,
    plan::{PeerAddress, Plan, PodPlan, Ports, Sockets, apart},
};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{ConfigMap, Namespace, Secret, Service},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use messages::{Role, WorkloadName};
use serde::Serialize;

pub use nodes::{Architecture, UnknownArchitecture, node_affinity, node_selector};
pub use policies::{METRICS_LABEL, dialling};
pub use targets::{
    GivenAddress, InvalidAddress, TargetGroupBinding, bound_to, check_address, commands, give,
    reserved_peers,
};

/// Field manager of every object that the harness applies.
/// <https://kubernetes.io/docs/reference/using-api/server-side-apply/>
pub const FIELD_MANAGER: &str = "ferry";
/// Label with the name of the environment: what `sweep` and `local-down` go by.
pub const ENVIRONMENT_LABEL: &str = "ferry.internal/environment";
/// ConfigMap with the file of the peers' addresses.
pub const PEERS_CONFIG_MAP: &str = "peers";
/// Key of the bearer token in the Secret [`PINHOLE_SECRET`].
pub const TOKEN_KEY: &str = "token";
/// Secret with the pod authority.
pub const AUTHORITY_SECRET: &str = "authority";
/// Secret with the bearer token of `/trigger` or `/output`, and with the certificate of their HTTPS.
pub const PINHOLE_SECRET: &str = "pinhole";
/// Secret with the registry's credentials, in each namespace of pods whose images need them.
pub const PULL_SECRET: &str = "registry";
/// Numeric user and group of every container: the "nonroot" user of distroless images.
pub const USER: i64 = 65532;

/// Annotation of a pod: [`Images::programs`].
pub const PROGRAMS_ANNOTATION: &str = "ferry.internal/programs";

/// Envoy's image, unless another is asked for.
pub const ENVOY_IMAGE: &str = "envoyproxy/envoy:v1.40.0";
/// How a pod of one k3d cluster reaches this machine, and so the published ports of another cluster.
pub const K3D_HOST: &str = "host.k3d.internal";

/// The images of a pod's containers.
#[derive(Clone, Debug)]
pub struct Images {
    /// Holds `gateway`, `processor`, `sink` and `wosp`.
    pub services: String,
    pub envoy: String,
    /// `Never` where the harness has put the images on the nodes itself.
    pub pull_policy: String,
    /// Secret with the registry's credentials, in the pod's own namespace.
    pub pull_secret: Option<String>,
    /// The architectures that the images are for: pods go to nodes of these. Empty where that is not known: to any.
    pub architectures: Vec<Architecture>,
    /// Hash of the programs of the pod in `services`, where that is known: an image of another name may hold the same ones.
    pub programs: Option<String>,
}

/// What a pod must keep to itself. No `Debug`: it holds keys.
#[derive(Clone)]
pub struct PodSecrets {
    /// `tls.crt`, `tls.key` and `ca.crt` of the pod authority, PEM.
    pub authority: BTreeMap<String, String>,
    /// Bearer token of a boundary pod.
    pub token: String,
    /// Certificate and key of its pinhole's HTTPS, PEM.
    pub server_certificate: String,
    pub server_key: String,
}

impl Images {
    /// The names of all.
    pub fn all(&self) -> [String; 2] {
        [self.services.clone(), self.envoy.clone()]
    }

    /// What stands in files that are checked in; a deployment names the images by their content.
    fn checked_in() -> Self {
        Self {
            services: "ferry/services:local".into(),
            envoy: ENVOY_IMAGE.into(),
            pull_policy: "Never".into(),
            pull_secret: None,
            architectures: vec![],
            programs: None,
        }
    }
}

impl PodSecrets {
    /// What stands in files that are checked in: readable, and no key.
    pub fn unset() -> Self {
        let unset = |what: &str| {
            format!("unset: {what} of the environment stands here when it is deployed")
        };
        Self {
            authority: [
                ("tls.crt", "certificate of the pod authority"),
                ("tls.key", "key of the pod authority"),
                ("ca.crt", "root certificate"),
            ]
            .map(|(file, what)| (file.into(), unset(what)))
            .into(),
            token: unset("bearer token"),
            server_certificate: unset("server certificate"),
            server_key: unset("key of the server certificate"),
        }
    }
}

/// Everything that the plan does not say.
pub struct Options<'a> {
    pub environment: &'a str,
    /// Whose load balancers the Services ask for.
    pub target: Target,
    pub images: &'a Images,
    /// Where the downstream pods are; one without an address is left out and heals when it is added.
    pub peers: &'a BTreeMap<WorkloadName, PeerAddress>,
    pub secrets: &'a PodSecrets,
    /// Variables of [`messages::env`] for `app` and `wosp`, where the defaults do not do.
    pub settings: &'a BTreeMap<String, String>,
}

/// One Kubernetes object.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Object {
    Namespace(Namespace),
    NetworkPolicy(NetworkPolicy),
    Secret(Secret),
    ConfigMap(ConfigMap),
    Service(Box<Service>),
    TargetGroupBinding(TargetGroupBinding),
    PodDisruptionBudget(PodDisruptionBudget),
    Deployment(Box<Deployment>),
    StatefulSet(Box<StatefulSet>),
}

/// What makes the pods of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    Deployment,
    /// Of what stores: its pod keeps its name and its claim.
    StatefulSet,
}

impl Controller {
    /// The one for pods of this role.
    pub fn of(role: Role) -> Self {
        match role {
            Role::Gateway | Role::Processor => Self::Deployment,
            Role::Sink => Self::StatefulSet,
        }
    }

    /// The kind as `kubectl` takes it, and as it ends the name of a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
        }
    }
}

/// One file: objects of one kind of one pod.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// `01-namespace.yaml`, …: sorted by name is the order to apply them in.
    pub file: String,
    pub objects: Vec<Object>,
}

/// The manifests of one pod, in the order to apply them.
pub fn pod(pod: &PodPlan, options: &Options<'_>) -> anyhow::Result<Vec<Manifest>> {
    let bootstrap = pretty(&crate::envoy::bootstrap(
        pod,
        &crate::envoy::EnvoyPaths::in_pod(),
    ))?;
    let mut envoy_files = BTreeMap::from([(objects::BOOTSTRAP_FILE.to_owned(), bootstrap.clone())]);
    if let Some(file) = crate::envoy::listeners(pod, &crate::envoy::EnvoyPaths::in_pod()) {
        envoy_files.insert(crate::envoy::LISTENERS_FILE.into(), pretty(&file)?);
    }
    if pod.pinhole {
        let file = crate::envoy::pinhole(&crate::envoy::EnvoyPaths::in_pod());
        envoy_files.insert(crate::envoy::PINHOLE_FILE.into(), pretty(&file)?);
    }
    let groups = [
        (
            "namespace",
            vec![Object::Namespace(objects::namespace(pod, options))],
        ),
        (
            "policies",
            policies::policies(pod, options)
                .into_iter()
                .map(Object::NetworkPolicy)
                .collect(),
        ),
        (
            "secrets",
            objects::secrets(pod, options)
                .into_iter()
                .map(Object::Secret)
                .collect(),
        ),
        (
            "config",
            vec![
                Object::ConfigMap(objects::bootstrap(pod, options, envoy_files)),
                Object::ConfigMap(peers(pod, options)?),
            ],
        ),
        ("service", targets::service(pod, options)),
        (
            "disruption",
            vec![Object::PodDisruptionBudget(objects::disruption_budget(
                pod, options,
            ))],
        ),
        (
            Controller::of(pod.role).as_str(),
            vec![controllers::controller(pod, options, &bootstrap)],
        ),
    ];
    Ok(groups
        .into_iter()
        .zip(1..)
        .map(|((kind, objects), number)| Manifest {
            file: format!("{number:02}-{kind}.yaml"),
            objects,
        })
        .collect())
}

/// The policy that lets a pod reach the ports of its peers; changes with a port, never with an address. `None` if it
/// has no peers.
pub fn peers_policy(pod: &PodPlan, options: &Options<'_>) -> Option<NetworkPolicy> {
    policies::peers(pod, options)
}

/// The ConfigMap with the addresses of a pod's peers: the only object that changes with an address.
pub fn peers(pod: &PodPlan, options: &Options<'_>) -> anyhow::Result<ConfigMap> {
    let file = crate::envoy::peers(pod, options.peers, &crate::envoy::EnvoyPaths::in_pod());
    Ok(objects::config_map(
        pod,
        options,
        PEERS_CONFIG_MAP,
        [("cds.json".to_owned(), pretty(&file)?)].into(),
    ))
}

/// The Secret [`PULL_SECRET`] beside a pod. `credentials` is Docker's `config.json`.
pub fn pull_secret(pod: &PodPlan, options: &Options<'_>, credentials: &str) -> Secret {
    objects::pull_secret(pod, options, credentials)
}

/// The tree of files of a plan: `<blueprint>/<cluster>/<pod>/<file>` → YAML text.
///
/// `options` is asked per pod, since secrets and peers differ.
pub fn tree<'a>(
    plan: &Plan,
    options: impl Fn(&PodPlan) -> Options<'a>,
) -> anyhow::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for each in &plan.pods {
        for manifest in pod(each, &options(each))? {
            let path = format!(
                "{}/{}/{}/{}",
                each.name.blueprint(),
                each.name.cluster(),
                each.name.pod(),
                manifest.file
            );
            files.insert(path, yaml(&manifest.objects)?);
        }
    }
    Ok(files)
}

/// The files that are checked in beside the blueprints: for two k3d clusters on one machine with the ports as written,
/// without keys.
///
/// # Errors
///
/// A [`blueprint::failure::Failure::usage`] where two of them come to one name.
pub fn checked_in(blueprints: &[Blueprint]) -> anyhow::Result<BTreeMap<String, String>> {
    apart(blueprints)?;
    let mut files = BTreeMap::new();
    let (secrets, images, settings) = (PodSecrets::unset(), Images::checked_in(), BTreeMap::new());
    // Each by itself: the ports of one blueprint do not depend on which others there are.
    for blueprint in blueprints {
        let plan = Plan::of(std::slice::from_ref(blueprint), Ports::AsWritten, &|_| {
            Sockets::in_pod()
        })?;
        let peers = k3d_peers(&plan);
        files.extend(tree(&plan, |_| Options {
            environment: "local",
            target: Target::K3d,
            images: &images,
            peers: &peers,
            secrets: &secrets,
            settings: &settings,
        })?);
    }
    Ok(files)
}

/// Where the pods of a plan are on k3d clusters whose host ports are the ones as written.
fn k3d_peers(plan: &Plan) -> BTreeMap<WorkloadName, PeerAddress> {
    let address = |pod: &PodPlan| PeerAddress {
        host: K3D_HOST.into(),
        port: pod.public_port,
    };
    plan.pods
        .iter()
        .map(|pod| (pod.name.clone(), address(pod)))
        .collect()
}

/// Objects as one YAML stream that `kubectl apply -f` takes.
pub fn yaml(objects: &[Object]) -> anyhow::Result<String> {
    let documents = objects.iter().map(|object| {
        serde_saphyr::to_string(object).context("cannot write a Kubernetes object as YAML")
    });
    let documents: Vec<_> = documents.collect::<anyhow::Result<_>>()?;
    Ok(documents
        .iter()
        .map(|document| document.trim_end())
        .collect::<Vec<_>>()
        .join("\n---\n")
        + "\n")
}

fn pretty(value: &serde_json::Value) -> anyhow::Result<String> {
    Ok(
        serde_json::to_string_pretty(value)
            .context("cannot write Envoy's configuration as JSON")?
            + "\n",
    )
}
