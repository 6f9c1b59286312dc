//! One cluster's API server: applies, watches, reads. The only module that talks to it.

mod caught_up;
mod claims;
mod connection;
mod diagnose;
mod dns;
mod namespaces;
mod nodes;
mod programs;
mod proxy;
mod reach;
mod rollout;
mod stateful;
mod watch;
mod withdrawal;

use std::path::Path;

use anyhow::Context as _;
use blueprint::{container::Container, failure::Failure};
use futures_util::{AsyncBufReadExt as _, Stream};
use k8s_openapi::{
    ClusterResourceScope, NamespaceResourceScope,
    api::core::v1::{ContainerStatus, Pod},
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, LogParams, Patch, PatchParams},
    config::Kubeconfig,
};
use messages::WorkloadName;
use render::{Controller, FIELD_MANAGER, Object};
use serde::{Serialize, de::DeserializeOwned};

use crate::proxy::Variables;

pub use namespaces::Owned;
pub use programs::Programs;
pub use watch::LivePod;

/// Those that are not being deleted.
fn live(pods: &[Pod]) -> impl Iterator<Item = &Pod> {
    pods.iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
}

/// How a pod's containers are, those of its sidecars first.
pub fn container_statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let statuses = pod.status.iter().flat_map(|status| {
        let sidecars = status.init_container_statuses.iter();
        sidecars.chain(&status.container_statuses)
    });
    statuses.flatten()
}

/// A connection to one cluster.
#[derive(Clone)]
pub struct Cluster {
    name: String,
    client: Client,
}

impl Cluster {
    /// Connects by the current context of a kubeconfig file. `name` is the cluster's name in the blueprint, for messages.
    pub async fn connect(name: &str, kubeconfig: &Path) -> anyhow::Result<Self> {
        let unusable = || {
            format!(
                "cluster {name}: kubeconfig {} cannot be used",
                kubeconfig.display()
            )
        };
        let kubeconfig = Kubeconfig::read_from(kubeconfig).with_context(unusable)?;
        let variables = Variables::of_this_process();
        Ok(Self {
            name: name.into(),
            client: connection::open(kubeconfig, None, &variables)
                .await
                .with_context(unusable)?,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn client(&self) -> Client {
        self.client.clone()
    }

    fn namespaced<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Server-side apply of `objects`, in their order.
    /// <https://kubernetes.io/docs/reference/using-api/server-side-apply/>
    pub async fn apply(&self, objects: &[Object]) -> anyhow::Result<()> {
        for object in objects {
            match object {
                Object::Namespace(namespace) => self.apply_cluster(namespace).await?,
                Object::NetworkPolicy(policy) => self.apply_one(policy).await?,
                Object::Secret(secret) => self.apply_one(secret).await?,
                Object::ConfigMap(config_map) => self.apply_one(config_map).await?,
                Object::Service(service) => self.apply_one(service.as_ref()).await?,
                Object::TargetGroupBinding(binding) => self.apply_one(binding).await?,
                Object::PodDisruptionBudget(budget) => self.apply_one(budget).await?,
                Object::Deployment(deployment) => self.apply_one(deployment.as_ref()).await?,
                // On the heap: it is ten times the size of the others, and every caller would carry it.
                Object::StatefulSet(set) => Box::pin(self.apply_stateful_set(set)).await?,
            }
        }
        Ok(())
    }

    async fn apply_one<K>(&self, object: &K) -> anyhow::Result<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Serialize
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let namespace = object.meta().namespace.as_deref().unwrap_or_default();
        self.patch(&self.namespaced::<K>(namespace), object).await
    }

    async fn apply_cluster<K>(&self, object: &K) -> anyhow::Result<()>
    where
        K: Resource<DynamicType = (), Scope = ClusterResourceScope>
            + Serialize
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        self.patch(&Api::<K>::all(self.client.clone()), object)
            .await
    }

    async fn patch<K>(&self, api: &Api<K>, object: &K) -> anyhow::Result<()>
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + std::fmt::Debug,
    {
        let name = object.meta().name.as_deref().unwrap_or_default();
        let applied = api
            .patch(
                name,
                &PatchParams::apply(FIELD_MANAGER).force(),
                &Patch::Apply(object),
            )
            .await;
        match applied {
            Ok(_) => Ok(()),
            // The object itself stays out of the message: it may be a Secret.
            Err(error @ kube::Error::Api(_)) => Err(Failure::infrastructure(format!(
                "{}: the API server refused {} {name}: {error}",
                self.name,
                K::kind(&())
            ))
            .into()),
            Err(error) => Err(error)
                .with_context(|| format!("{}: cannot apply {} {name}", self.name, K::kind(&()))),
        }
    }

    /// The workload's pods that are running and not being deleted.
    pub async fn live_pods(&self, workload: &WorkloadName) -> anyhow::Result<Vec<LivePod>> {
        let pods = self.pods(workload).await?;
        Ok(live(&pods).filter_map(LivePod::of).collect())
    }

    /// The pod of a workload that is the youngest of those that run.
    pub async fn newest(&self, workload: &WorkloadName) -> anyhow::Result<LivePod> {
        let live = self.live_pods(workload).await?.into_iter();
        live.max_by_key(|live| live.created_at)
            .with_context(|| self.no_pod(workload))
    }

    fn no_pod(&self, workload: &WorkloadName) -> String {
        format!("{} in {} has no running pod", workload.pod(), self.name)
    }

    /// The node of a container of a workload's only pod, and the id that the container has there.
    /// <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#ContainerStatus>
    pub async fn container_on_node(
        &self,
        workload: &WorkloadName,
        container: Container,
    ) -> anyhow::Result<(String, String)> {
        let pods = self.pods(workload).await?;
        let newest = live(&pods)
            .filter_map(|pod| Some((LivePod::of(pod)?, pod)))
            .max_by_key(|(live, _)| live.created_at);
        let (live, pod) = newest.with_context(|| self.no_pod(workload))?;
        let id = container_statuses(pod)
            .find(|status| status.name == container.as_str())
            // Such as `containerd://4076…`.
            .and_then(|status| Some(status.container_id.as_deref()?.split_once("://")?.1))
            .with_context(|| format!("{}: {container} does not run", live.name))?;
        Ok((live.node, id.to_owned()))
    }

    pub async fn pods(&self, workload: &WorkloadName) -> anyhow::Result<Vec<Pod>> {
        let selected = ListParams::default().labels(&watch::selector(workload));
        let pods = self
            .namespaced::<Pod>(&workload.namespace())
            .list(&selected)
            .await;
        Ok(pods
            .with_context(|| format!("{}: cannot list the pods of {}", self.name, workload.pod()))?
            .items)
    }

    /// What the containers of a workload's live pods run, as their nodes name it: with the digest of the image.
    /// <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#ContainerStatus>
    pub async fn image_ids(
        &self,
        workload: &WorkloadName,
    ) -> anyhow::Result<Vec<(Container, String)>> {
        let pods = self.pods(workload).await?;
        Ok(live(&pods)
            .flat_map(container_statuses)
            .filter(|status| !status.image_id.is_empty())
            .filter_map(|status| Some((status.name.parse().ok()?, status.image_id.clone())))
            .collect())
    }

    /// The last lines of a container's log; of the run before where the container has just been started again.
    pub async fn log_tail(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        lines: i64,
    ) -> anyhow::Result<String> {
        let api = self.namespaced::<Pod>(namespace);
        let params = |previous| LogParams {
            container: Some(container.into()),
            tail_lines: Some(lines),
            previous,
            ..LogParams::default()
        };
        if let Ok(text) = api.logs(pod, &params(true)).await {
            return Ok(text);
        }
        api.logs(pod, &params(false)).await.with_context(|| {
            format!(
                "{}: no log of {container} in pod {namespace}/{pod}",
                self.name
            )
        })
    }

    /// The whole log of a container as it is now.
    pub async fn log(&self, namespace: &str, pod: &str, container: &str) -> anyhow::Result<String> {
        let params = LogParams {
            container: Some(container.into()),
            ..LogParams::default()
        };
        self.namespaced::<Pod>(namespace)
            .logs(pod, &params)
            .await
            .with_context(|| {
                format!(
                    "{}: no log of {container} in pod {namespace}/{pod}",
                    self.name
                )
            })
    }

    /// The lines of a container's log; followed, until the container ends.
    pub async fn log_lines(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        follow: bool,
    ) -> anyhow::Result<impl Stream<Item = std::io::Result<String>> + use<>> {
        let params = LogParams {
            container: Some(container.into()),
            follow,
            ..LogParams::default()
        };
        let log = self
            .namespaced::<Pod>(namespace)
            .log_stream(pod, &params)
            .await;
        Ok(log
            .with_context(|| {
                format!(
                    "{}: no log of {container} in pod {namespace}/{pod}",
                    self.name
                )
            })?
            .lines())
    }

    /// What a pod lacks to be ready; `None` where it is.
    pub fn missing(&self, pod: &Pod) -> Option<String> {
        match diagnose::pod(pod) {
            diagnose::State::Ready => None,
            diagnose::State::Coming(text) | diagnose::State::Unschedulable(text) => Some(text),
            diagnose::State::Broken(trouble) => Some(trouble.cause),
        }
    }

    /// Deletes a pod immediately; a missing pod is not an error.
    pub async fn delete_pod(&self, namespace: &str, pod: &str) -> anyhow::Result<()> {
        self.end_pod(namespace, pod, &DeleteParams::default().grace_period(0))
            .await
    }

    /// Deletes a pod, which has its time to drain; returns when that has begun.
    pub async fn drain_pod(&self, namespace: &str, pod: &str) -> anyhow::Result<()> {
        self.end_pod(namespace, pod, &DeleteParams::default()).await
    }

    async fn end_pod(&self, namespace: &str, pod: &str, how: &DeleteParams) -> anyhow::Result<()> {
        match self.namespaced::<Pod>(namespace).delete(pod, how).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error)
                .with_context(|| format!("{}: cannot delete pod {namespace}/{pod}", self.name)),
        }
    }

    /// Deletes the workload's pods that will not heal, so that its controller makes new ones: what they broke on may be mended,
    /// and a node that could not pull an image asks for it again only after minutes.
    pub async fn replace_broken(
        &self,
        workload: &WorkloadName,
        controller: Controller,
    ) -> anyhow::Result<()> {
        for pod in self.pods(workload).await? {
            if let (diagnose::State::Broken(_), Some(name)) =
                (diagnose::pod(&pod), &pod.metadata.name)
            {
                match controller {
                    Controller::Deployment => {
                        self.delete_pod(&workload.namespace(), name).await?;
                    }
                    // Never by force: two pods could have the claim then.
                    Controller::StatefulSet => {
                        self.drain_pod(&workload.namespace(), name).await?;
                    }
                }
            }
        }
        Ok(())
    }

    pub async fn create_pod(&self, pod: &Pod) -> anyhow::Result<()> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let created = self
            .namespaced::<Pod>(namespace)
            .create(&kube::api::PostParams::default(), pod)
            .await;
        created.with_context(|| {
            format!(
                "{}: cannot create pod {namespace}/{}",
                self.name,
                pod.metadata.name.as_deref().unwrap_or_default()
            )
        })?;
        Ok(())
    }

    /// Makes the kubelet look at the pod's volumes now instead of at its next sync, up to 90 s later.
    /// <https://kubernetes.io/docs/tasks/configure-pod-container/configure-pod-configmap/#mounted-configmaps-are-updated-automatically>
    pub async fn nudge(&self, workload: &WorkloadName, reason: &str) -> anyhow::Result<()> {
        let api = self.namespaced::<Pod>(&workload.namespace());
        let patch = serde_json::json!({ "metadata": { "annotations": { "ferry.internal/nudged-for": reason } } });
        for pod in self.live_pods(workload).await? {
            api.patch(&pod.name, &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .with_context(|| format!("{}: cannot annotate pod {}", self.name, pod.name))?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
