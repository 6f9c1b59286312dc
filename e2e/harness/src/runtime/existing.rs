//! The existing runtime: clusters named by kubeconfig contexts.
//!
//! Nothing is created or deleted there but the namespaces of the blueprints' pods, and those only under this environment's
//! label: one of the same name without it is refused. The kubeconfig is only read; what can be read once only is kept in the
//! environment's folder, so that later commands find it.

mod addresses;
mod bring_up;
mod distinct;
mod pull_secret;
mod tear_down;

use std::{collections::BTreeMap, path::PathBuf, str::FromStr};

use blueprint::{Target, failure::Failure, plan::Plan};
use host::{
    environment::{Environment, Lock, Store},
    pods::PodState,
    timeline::Timeline,
};
use render::Architecture;

pub use addresses::AddressOf;
pub(crate) use bring_up::pulled_images;
use bring_up::{refresh, up};
use tear_down::{down, kill};

use async_trait::async_trait;

use messages::WorkloadName;

use super::{
    Pods, Removed, Runtime, UpError,
    clusters::{self, OnClusters},
    request::{State, UpRequest},
};

/// Target clusters and the settings that are not part of a blueprint.
#[derive(Clone, Debug, Default)]
pub struct Destination {
    /// The kubeconfig file; `None` for what `kubectl` takes: `KUBECONFIG`, else `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    pub contexts: Vec<ContextOf>,
    /// What the clusters are, so that their Services ask for the addresses that are reserved; `None` for Services that take
    /// whatever they get.
    pub target: Option<Target>,
    /// Image with the services, as the nodes pull it.
    pub image: Option<String>,
    /// Another Envoy image than [`render::ENVOY_IMAGE`].
    pub envoy_image: Option<String>,
    /// Docker's `config.json` with the credentials for the images.
    pub pull_secret: Option<PathBuf>,
    /// What the images are for; none are named where that is this machine's architecture.
    pub architectures: Vec<Architecture>,
    /// Where pods of other clusters dial, in place of what the load balancers got.
    pub addresses: Vec<AddressOf>,
    /// Where this machine asks, in place of what the load balancers got.
    pub reach: Vec<AddressOf>,
}

/// `CLUSTER=CONTEXT`: which kubeconfig context a blueprint's cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextOf {
    pub cluster: String,
    pub context: String,
}

impl FromStr for ContextOf {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        match text.split_once('=') {
            Some((cluster, context)) if !cluster.is_empty() && !context.is_empty() => Ok(Self {
                cluster: cluster.into(),
                context: context.into(),
            }),
            _ => Err(Failure::usage(format!(
                "invalid `{text}`: expected CLUSTER=CONTEXT, such as \
                 `cluster-a=gke_project_region_name`"
            ))),
        }
    }
}

impl Destination {
    /// Cluster → context, exactly those of the plan.
    fn contexts(&self, plan: &Plan) -> anyhow::Result<BTreeMap<String, String>> {
        let mut contexts = BTreeMap::<String, String>::new();
        for ContextOf { cluster, context } in &self.contexts {
            if !plan.clusters.iter().any(|known| known.name == *cluster) {
                return Err(
                    Failure::usage(format!("no blueprint has cluster `{cluster}`"))
                        .hint(format!("use one of {}", names(plan)))
                        .into(),
                );
            }
            if let Some((other, _)) = contexts.iter().find(|(_, used)| *used == context) {
                return Err(Failure::usage(format!(
                    "context `{context}` is given for both `{other}` and `{cluster}`"
                ))
                .hint("pass a different context for each cluster")
                .into());
            }
            if contexts.insert(cluster.clone(), context.clone()).is_some() {
                return Err(Failure::usage(format!(
                    "two contexts are given for cluster `{cluster}`"
                ))
                .into());
            }
        }
        let missing: Vec<_> = plan
            .clusters
            .iter()
            .filter(|cluster| !contexts.contains_key(&cluster.name))
            .map(|cluster| format!("`--context {}=NAME`", cluster.name))
            .collect();
        if !missing.is_empty() {
            return Err(
                Failure::usage(format!("missing context: {}", missing.join(" and ")))
                    .hint("run `kubectl config get-contexts` to list the contexts")
                    .into(),
            );
        }
        Ok(contexts)
    }
}

fn names(plan: &Plan) -> String {
    let names = plan
        .clusters
        .iter()
        .map(|cluster| format!("`{}`", cluster.name));
    names.collect::<Vec<_>>().join(", ")
}

/// Clusters that are there already.
pub struct Existing;

#[async_trait]
impl Runtime for Existing {
    async fn up(
        &self,
        store: &Store,
        lock: &Lock,
        request: &UpRequest,
        timeline: &Timeline,
    ) -> Result<Environment, UpError> {
        up(store, lock, request, timeline).await
    }

    async fn refresh(
        &self,
        environment: &mut Environment,
        request: &UpRequest,
        timeline: &Timeline,
    ) -> anyhow::Result<()> {
        refresh(environment, request, timeline).await
    }

    async fn down(
        &self,
        environment: &Environment,
        state: State,
        timeline: &Timeline,
    ) -> anyhow::Result<Removed> {
        let namespaces = down(environment, state, timeline).await?;
        Ok(Removed {
            namespaces,
            ..Removed::default()
        })
    }

    async fn kill(
        &self,
        environment: &Environment,
        timeline: &Timeline,
    ) -> anyhow::Result<Removed> {
        let namespaces = kill(environment, timeline).await?;
        Ok(Removed {
            namespaces,
            ..Removed::default()
        })
    }

    fn pods(&self) -> &'static dyn Pods {
        &OnClusters
    }

    async fn status(&self, environment: &Environment) -> anyhow::Result<Vec<PodState>> {
        let looks = clusters::looks(environment).await;
        Ok(clusters::states(environment, looks, &BTreeMap::new()))
    }

    fn store(&self, _: &Store) -> anyhow::Result<Store> {
        Store::deployed()
    }

    fn removal_command(&self) -> &'static str {
        "undeploy"
    }

    async fn restart(
        &self,
        environment: &mut Environment,
        pod: &WorkloadName,
        _: &Timeline,
    ) -> anyhow::Result<()> {
        clusters::replace(environment, pod).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blueprint::{
        Blueprint,
        plan::{Ports, Sockets},
    };

    fn plan() -> Plan {
        let text = "name: x\ntitle: X\nprotocol: grpc\nclusters: [cluster-a, cluster-b]\npods:\n\
            - { name: gateway, role: gateway, cluster: cluster-a, port: 30100 }\n\
            - { name: sink, role: sink, cluster: cluster-b, port: 30200 }\n\
            connections:\n- { from: gateway, to: sink }\n";
        let blueprint = Blueprint::parse(text, "x.yaml".as_ref()).unwrap();
        Plan::of(&[blueprint], Ports::AsWritten, &|_| Sockets::in_pod()).unwrap()
    }

    fn contexts(given: &[&str]) -> anyhow::Result<BTreeMap<String, String>> {
        let contexts = given
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()?;
        Destination {
            contexts,
            ..Destination::default()
        }
        .contexts(&plan())
    }

    #[test]
    fn every_cluster_has_a_context_of_its_own() {
        let found = contexts(&[
            "cluster-b=two",
            "cluster-a=arn:aws:eks:eu-west-1:1:cluster/one",
        ])
        .unwrap();
        assert_eq!(found["cluster-a"], "arn:aws:eks:eu-west-1:1:cluster/one");
        for (given, says) in [
            (&["cluster-a"][..], "CLUSTER=CONTEXT"),
            (&["=x"], "CLUSTER=CONTEXT"),
            (
                &["cluster-a=one"],
                "missing context: `--context cluster-b=NAME`",
            ),
            (
                &["cluster-a=one", "cluster-c=two"],
                "no blueprint has cluster `cluster-c`",
            ),
            (
                &["cluster-a=one", "cluster-b=one"],
                "given for both `cluster-a` and `cluster-b`",
            ),
            (
                &["cluster-a=one", "cluster-a=two", "cluster-b=x"],
                "two contexts are given for cluster `cluster-a`",
            ),
        ] {
            let error = contexts(given).unwrap_err();
            assert!(error.to_string().contains(says), "{given:?}: {error}");
            assert_eq!(Failure::exit_code(&error), 2, "{error}");
        }
    }
}
