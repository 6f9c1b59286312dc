//! The environment that the checks share, and what must not be left of it.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context as _;
use e2e::{
    blueprint, docker,
    environment::{Environment, Name, RuntimeKind, Store, workspace_root},
    kubernetes::Cluster,
    plan::Ports,
    proof,
    run::Run,
    runtime::{
        self, Lifetime, OnFailure, PublicAddress, UpRequest,
        k3d::{Clusters, ENVIRONMENT_LABEL},
    },
    testing::QUICK_IDENTITIES,
    timeline::Timeline,
};

/// Label of containers that stand outside the clusters: the name of the environment.
pub(crate) const STRANGER_LABEL: &str = "ferry.stranger";

/// The names of the blueprints, all of them.
pub(crate) const BLUEPRINTS: [&str; 2] = ["fast-international-ferry", "international-ferry"];

/// Both blueprints, up on two clusters, with identities and sessions that change every few seconds.
pub(crate) struct Scene {
    pub(crate) environment: Environment,
    /// By the cluster's name in the blueprints.
    pub(crate) clusters: BTreeMap<String, Cluster>,
    pub(crate) store: Store,
    timeline: Timeline,
}

/// Owns the environment; in the state root of every command, so that `sweep` finds what a killed test leaves.
pub(crate) fn run() -> Run {
    let name = Name::unique("test").unwrap();
    Run::new(Store::find().unwrap(), name, Timeline::silent())
}

/// What the environment is to be like, with these settings.
fn request(name: &Name, settings: &[(&str, &str)]) -> anyhow::Result<UpRequest> {
    let manifests = workspace_root()?.join("manifests");
    let blueprints = BLUEPRINTS.map(str::to_owned);
    let settings = settings.iter();
    Ok(UpRequest {
        name: name.clone(),
        runtime: RuntimeKind::K3d,
        blueprints: blueprint::select(&manifests, &blueprints)?,
        ports: Ports::Spread,
        public: PublicAddress::OwnNetwork,
        lifetime: Lifetime::Command,
        on_failure: OnFailure::LeaveToCaller,
        settings: settings
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        existing: None,
    })
}

pub(crate) async fn up(run: &mut Run) -> anyhow::Result<Scene> {
    // What attaches to it asks for these settings, or does not mind.
    let request = request(run.name(), &QUICK_IDENTITIES)?;
    let environment = run.up(request).await?;
    let files = Clusters::new(environment.name().as_str(), environment.layout().root());
    let mut clusters = BTreeMap::new();
    for cluster in &environment.record.clusters {
        let kubeconfig = files.kubeconfig_of(&cluster.reference);
        let connected = Cluster::connect(&cluster.name, &kubeconfig).await?;
        clusters.insert(cluster.name.clone(), connected);
    }
    Ok(Scene {
        environment,
        clusters,
        store: run.store().clone(),
        timeline: Timeline::silent(),
    })
}

impl Scene {
    pub(crate) fn cluster(&self, name: &str) -> anyhow::Result<&Cluster> {
        self.clusters.get(name).context("no such cluster")
    }

    pub(crate) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Has every pod made anew with other settings; returns when each gateway has sent what it sends by itself.
    pub(crate) async fn set(&self, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut environment = self.environment.clone();
        let request = request(environment.name(), settings)?;
        runtime::refresh(&self.store, &mut environment, &request, &self.timeline).await?;
        for blueprint in BLUEPRINTS {
            proof::auto_trigger(&environment, blueprint, &self.timeline).await?;
        }
        Ok(())
    }

    /// k3d's name for a cluster.
    pub(crate) fn reference(&self, name: &str) -> anyhow::Result<&str> {
        let mut clusters = self.environment.record.clusters.iter();
        let found = clusters.find(|cluster| cluster.name == name);
        Ok(&found.context("no such cluster")?.reference)
    }

    /// Names of the containers that run pods.
    pub(crate) async fn nodes(&self) -> anyhow::Result<Vec<String>> {
        let label = format!("{ENVIRONMENT_LABEL}={}", self.environment.name());
        let nodes = docker::containers(&[label]).await?.into_iter();
        let runs_pods =
            |node: &docker::Container| matches!(node.label("k3d.role"), Some("server" | "agent"));
        Ok(nodes.filter(runs_pods).map(|node| node.name).collect())
    }

    /// The record of what was waited for, in short.
    pub(crate) fn steps(&self) -> String {
        let pod = |pod: &e2e::environment::PodRecord| {
            format!(
                "  {} is {} on {}, ready {:?}, dialled {:?}",
                pod.name, pod.pod_name, pod.node, pod.ready_at, pod.dialled_at
            )
        };
        let pods: Vec<_> = self.environment.record.pods.iter().map(pod).collect();
        pods.join("\n")
    }

    /// What there is of the environment, to be looked for when it is gone.
    pub(crate) async fn remains(&self) -> Remains {
        let label = format!("{ENVIRONMENT_LABEL}={}", self.environment.name());
        let containers = docker::containers(std::slice::from_ref(&label))
            .await
            .unwrap();
        let volumes: Vec<_> = containers
            .into_iter()
            .flat_map(|node| node.volumes)
            .collect();
        assert!(!volumes.is_empty(), "the nodes must have volumes");
        let clusters = self.environment.record.clusters.iter();
        Remains {
            folder: self.environment.layout().root().into(),
            labels: vec![
                label,
                format!("{STRANGER_LABEL}={}", self.environment.name()),
            ],
            clusters: clusters.map(|cluster| cluster.reference.clone()).collect(),
            volumes,
        }
    }
}

/// What an environment has on this machine.
pub(crate) struct Remains {
    folder: PathBuf,
    labels: Vec<String>,
    clusters: Vec<String>,
    volumes: Vec<String>,
}

impl Remains {
    /// A sentence for each thing that is still there.
    pub(crate) async fn left(&self) -> Vec<String> {
        let mut left = vec![];
        let of_cluster = self
            .clusters
            .iter()
            .map(|name| format!("k3d.cluster={name}"));
        for label in self.labels.iter().cloned().chain(of_cluster) {
            for container in docker::containers(&[label]).await.unwrap() {
                left.push(format!("container {} is left", container.name));
            }
        }
        let ours = |name: &str| self.clusters.iter().any(|cluster| name.contains(cluster));
        for network in docker::networks().await.unwrap() {
            if ours(&network.name) {
                left.push(format!("network {} is left", network.name));
            }
        }
        for volume in docker::volumes().await.unwrap() {
            if ours(&volume) || self.volumes.contains(&volume) {
                left.push(format!("volume {volume} is left"));
            }
        }
        if self.folder.exists() {
            left.push(format!("folder `{}` is left", self.folder.display()));
        }
        left
    }
}

/// What the user's own kubeconfig and k3d's folder hold.
pub(crate) fn users_files() -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let named = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let mut files: Vec<_> = std::env::split_paths(&named).collect();
    files.push(home.join(".kube/config"));
    let entries = std::fs::read_dir(home.join(".config/k3d"));
    files.extend(
        entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path()),
    );
    let read = |path: PathBuf| (path.clone(), std::fs::read(path).ok());
    files.into_iter().map(read).collect()
}
