//! Builds the README of a bundle.

use blueprint::{
    Target,
    plan::{Plan, PodPlan},
};
use render::Controller;
use serde::Serialize;

use super::{
    Bundle, PEERS_FILE, SECRETS_FILE,
    identities::Identities,
    steps::{Step, steps},
    template::{fill, key},
};

const PAGE: &str = include_str!("readme.md");

#[derive(Serialize)]
struct Page<'a> {
    title: &'a str,
    blueprint: &'a str,
    target: &'static str,
    target_shown: &'static str,
    environment: &'a str,
    services_image: &'a str,
    envoy_image: &'a str,
    secrets_file: &'static str,
    /// Name of the Secret with the registry's credentials; empty where the bundle has none.
    pull_secret: &'a str,
    peers_file: &'static str,
    /// The day on which the first authority ends.
    ends: String,
    pods: Vec<Row>,
    steps: Vec<Line>,
    /// Whether every dialled address is known.
    all_known: bool,
    /// `--cluster` of all clusters.
    contexts: String,
}

#[derive(Serialize)]
struct Row {
    name: String,
    role: &'static str,
    cluster: String,
    namespace: String,
    port: u16,
    address: String,
    sends_to: String,
}

#[derive(Serialize)]
struct Applied {
    name: String,
    controller: &'static str,
}

#[derive(Serialize)]
struct Line {
    cluster: String,
    context: String,
    pods: Vec<Applied>,
    /// Empty where it goes through to the end.
    stops_at: String,
}

pub(super) fn page(bundle: &Bundle<'_>, identities: &Identities) -> anyhow::Result<String> {
    let plan = &bundle.plan;
    let dialled = || plan.pods.iter().filter(|pod| !pod.upstreams.is_empty());
    let contexts: Vec<_> = plan
        .clusters
        .iter()
        .map(|cluster| format!("--cluster {}={}", cluster.name, context(&cluster.name)))
        .collect();
    let all_known = dialled().all(|pod| bundle.peers.contains_key(&pod.name));
    fill(
        &[PAGE],
        &Page {
            title: &bundle.blueprint.title,
            blueprint: &bundle.blueprint.name,
            target: bundle.target.as_str(),
            target_shown: shown(bundle.target),
            environment: &identities.label,
            services_image: &bundle.images.services,
            envoy_image: &bundle.images.envoy,
            secrets_file: SECRETS_FILE,
            pull_secret: bundle.images.pull_secret.as_deref().unwrap_or_default(),
            peers_file: PEERS_FILE,
            ends: identities.ends.to_string().chars().take(10).collect(),
            pods: plan.pods.iter().map(|pod| row(bundle, pod)).collect(),
            steps: steps(plan)
                .into_iter()
                .map(|step| line(plan, step))
                .collect(),
            all_known,
            contexts: contexts.join(" "),
        },
    )
}

const fn shown(target: Target) -> &'static str {
    match target {
        Target::K3d => "k3d",
        Target::Gke => "Google Kubernetes Engine",
        Target::Eks => "Amazon EKS",
        Target::Aks => "Azure Kubernetes Service",
        Target::Generic => "any Kubernetes with load balancers",
    }
}

/// A placeholder for a cluster's context.
fn context(cluster: &str) -> String {
    cluster.to_ascii_uppercase().replace('-', "_")
}

fn row(bundle: &Bundle<'_>, pod: &PodPlan) -> Row {
    let peer = bundle.peers.get(&pod.name);
    let address = match peer {
        _ if pod.upstreams.is_empty() => "nobody dials it".into(),
        Some(peer) => peer.host.clone(),
        None => "found out when it is deployed".into(),
    };
    let sends_to: Vec<_> = pod.egress.iter().map(|out| key(&out.target)).collect();
    Row {
        name: pod.name.pod().into(),
        role: pod.role.as_str(),
        cluster: pod.name.cluster().into(),
        namespace: pod.name.namespace(),
        port: pod.public_port,
        address,
        sends_to: sends_to.join(", "),
    }
}

fn line(plan: &Plan, step: Step) -> Line {
    let controller = |name: &str| {
        let mut pods = plan.pods.iter();
        let pod = pods.find(|pod| pod.name.cluster() == step.cluster && pod.name.pod() == name);
        pod.map_or("", |pod| Controller::of(pod.role).as_str())
    };
    let pods = step.pods.iter().map(|name| Applied {
        controller: controller(name),
        name: name.clone(),
    });
    Line {
        pods: pods.collect(),
        context: context(&step.cluster),
        cluster: step.cluster,
        stops_at: step.stops_at.unwrap_or_default(),
    }
}
