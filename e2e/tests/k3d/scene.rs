//! The environment that tests share, as `FERRY_ENVIRONMENT` names it.

use std::collections::BTreeMap;

use anyhow::Context as _;
use blueprint::failure::Failure;
use cluster::{
    k3d::{Clusters, ENVIRONMENT_LABEL},
    kubernetes::Cluster,
};
use e2e::testing::{ENVIRONMENT_VARIABLE, Turn, Turns};
use host::{
    docker,
    environment::{Environment, Store},
    timeline::Timeline,
};

/// Label of containers outside the clusters: the name of the environment.
pub(crate) const STRANGER_LABEL: &str = "ferry.stranger";

/// The names of the blueprints, all of them.
pub(crate) const BLUEPRINTS: [&str; 2] = ["fast-international-ferry", "international-ferry"];

/// Tests that use the environment at the same time.
const AT_ONCE: u32 = 4;
const TURNS: Turns = Turns::new("k3d", AT_ONCE);

/// Both blueprints, up on two clusters.
pub(crate) struct Scene {
    pub(crate) environment: Environment,
    /// By the cluster's name in the blueprints.
    pub(crate) clusters: BTreeMap<String, Cluster>,
    timeline: Timeline,
    _turn: Turn,
}

impl Scene {
    /// For a test that leaves all pods and nodes alone.
    pub(crate) async fn shared() -> anyhow::Result<Self> {
        Self::attach(1).await
    }

    /// For a test beside which no other may run.
    pub(crate) async fn alone() -> anyhow::Result<Self> {
        Self::attach(AT_ONCE).await
    }

    async fn attach(turns: u32) -> anyhow::Result<Self> {
        let name = std::env::var(ENVIRONMENT_VARIABLE).map_err(|_| {
            Failure::usage(format!(
                "{ENVIRONMENT_VARIABLE} names no environment on k3d"
            ))
            .hint("run `.ci/k3d`, which makes one")
        })?;
        let turn = TURNS.take_many(turns).await?;
        let environment = Store::find()?.load(&name.parse()?)?;
        let files = Clusters::new(&name, environment.layout().root());
        let mut clusters = BTreeMap::new();
        for cluster in &environment.record.clusters {
            let kubeconfig = files.kubeconfig_of(&cluster.reference);
            let connected = Cluster::connect(&cluster.name, &kubeconfig).await?;
            clusters.insert(cluster.name.clone(), connected);
        }
        Ok(Self {
            environment,
            clusters,
            timeline: Timeline::default(),
            _turn: turn,
        })
    }

    pub(crate) fn cluster(&self, name: &str) -> anyhow::Result<&Cluster> {
        self.clusters.get(name).context("no such cluster")
    }

    pub(crate) fn timeline(&self) -> &Timeline {
        &self.timeline
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
}
