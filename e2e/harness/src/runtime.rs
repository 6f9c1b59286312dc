//! Where an environment runs: the trait, and the runtimes that implement it.
//!
//! A fourth runtime is a folder beside these and a line in [`of`]. What combines runtimes, locks environments and removes
//! leftovers is above, in [`crate::ops`].

use std::collections::BTreeMap;

use async_trait::async_trait;
use blueprint::{container::Container, failure::Failure};
use futures_util::TryStreamExt as _;
use host::{
    clock::Clocks,
    environment::{Environment, Lock, PodRecord, Record, RuntimeKind, Store},
    pods::PodState,
    timeline::Timeline,
};
use messages::WorkloadName;

pub mod clusters;
pub mod embedded;
pub mod existing;
pub mod k3d;
mod logs;
pub mod request;

pub use logs::{Follow, LogLines};
use request::{Ending, State, UpRequest};

/// The runtime of this kind.
pub fn of(kind: RuntimeKind) -> &'static dyn Runtime {
    match kind {
        RuntimeKind::Embedded => &embedded::Embedded,
        RuntimeKind::K3d => &k3d::K3d,
        RuntimeKind::Existing => &existing::Existing,
    }
}

/// Where an environment runs: makes it, changes it, removes it, and looks into it.
///
/// Callers hold the environment's lock where they change it, and have read its record under that lock.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// Creates the environment that is requested, and waits until every pod is ready, in deploy order.
    ///
    /// # Errors
    ///
    /// Names the pod, what it was waiting for and the end of its log; holds what was made until then.
    async fn up(
        &self,
        store: &Store,
        lock: &Lock,
        request: &UpRequest,
        timeline: &Timeline,
    ) -> Result<Environment, UpError>;

    /// Brings an environment to what is requested: starts what is stopped, rolls out what has changed, leaves the rest alone.
    ///
    /// # Errors
    ///
    /// As [`Self::up`]; the environment stays.
    async fn refresh(
        &self,
        environment: &mut Environment,
        request: &UpRequest,
        timeline: &Timeline,
    ) -> anyhow::Result<()>;

    /// Removes an environment: its pods drain; its files stay if `state` says so.
    ///
    /// # Errors
    ///
    /// Names what could not be removed.
    async fn down(
        &self,
        environment: &Environment,
        state: State,
        timeline: &Timeline,
    ) -> anyhow::Result<Removed>;

    /// Removes an environment of this very process, without waiting for pods to drain.
    ///
    /// # Errors
    ///
    /// As [`Self::down`].
    async fn kill(
        &self,
        environment: &Environment,
        timeline: &Timeline,
    ) -> anyhow::Result<Removed> {
        self.down(environment, State::Remove, timeline).await
    }

    /// What looks into its pods.
    fn pods(&self) -> &'static dyn Pods;

    /// The states of all pods, in deploy order.
    ///
    /// # Errors
    ///
    /// Says what must run before pods can be seen.
    async fn status(&self, environment: &Environment) -> anyhow::Result<Vec<PodState>>;

    /// Whether something of an environment that is meant to stay is still there.
    fn stays(&self, record: &Record) -> bool {
        !record.clusters.is_empty()
    }

    /// The store for new environments; `checkout` is the one of this checkout.
    ///
    /// # Errors
    ///
    /// Says which folder cannot be used.
    fn store(&self, checkout: &Store) -> anyhow::Result<Store> {
        Ok(checkout.clone())
    }

    /// The command that removes an environment which stays.
    fn removal_command(&self) -> &'static str {
        "local-down"
    }

    /// Whether its pods are objects of API servers; else they are processes of this machine.
    fn has_api_servers(&self) -> bool {
        true
    }

    /// Ends one container of a pod and leaves it ended.
    ///
    /// # Errors
    ///
    /// A usage failure on a runtime that starts containers again.
    async fn stop_container(
        &self,
        environment: &mut Environment,
        _pod: &WorkloadName,
        _container: Container,
        _ending: Ending,
    ) -> anyhow::Result<()> {
        Err(no_faults(environment))
    }

    /// Starts a container again as it was, and waits until it answers by itself; [`Pods::wait_ready`] waits for its pod.
    ///
    /// # Errors
    ///
    /// As [`Self::stop_container`]; also if the container runs already.
    async fn start_container(
        &self,
        environment: &mut Environment,
        _pod: &WorkloadName,
        _container: Container,
        _timeline: &Timeline,
    ) -> anyhow::Result<()> {
        Err(no_faults(environment))
    }

    /// Makes one container of a pod hang until [`Self::thaw`]: it runs and answers nothing.
    ///
    /// # Errors
    ///
    /// A usage failure on a runtime that cannot reach the processes.
    async fn freeze(
        &self,
        environment: &Environment,
        _pod: &WorkloadName,
        _container: Container,
    ) -> anyhow::Result<()> {
        Err(no_faults(environment))
    }

    /// Lets a container that hangs go on.
    ///
    /// # Errors
    ///
    /// As [`Self::freeze`].
    async fn thaw(
        &self,
        environment: &Environment,
        _pod: &WorkloadName,
        _container: Container,
    ) -> anyhow::Result<()> {
        Err(no_faults(environment))
    }

    /// Ends a pod's `app` as an update does, with time to drain, and starts it again. On clusters it is another pod afterwards.
    ///
    /// # Errors
    ///
    /// Names the pod that did not come back.
    async fn restart(
        &self,
        environment: &mut Environment,
        pod: &WorkloadName,
        timeline: &Timeline,
    ) -> anyhow::Result<()>;
}

/// Looks into the pods of an environment. Runtimes on clusters share one.
#[async_trait]
pub trait Pods: Send + Sync {
    /// How far the clocks of its clusters are from this machine's, of those that answer.
    async fn clocks(&self, environment: &Environment) -> Clocks;

    /// The names of the running pods of each workload: what a trail may name.
    ///
    /// # Errors
    ///
    /// Names the cluster that does not answer.
    async fn live_pods(
        &self,
        environment: &Environment,
    ) -> anyhow::Result<BTreeMap<WorkloadName, Vec<String>>>;

    /// The log of a container, line by line.
    ///
    /// # Errors
    ///
    /// Names the pod that has no such log.
    async fn logs(
        &self,
        environment: &Environment,
        pod: &WorkloadName,
        container: Container,
        follow: Follow,
    ) -> anyhow::Result<LogLines>;

    /// The log of a container since its last start.
    ///
    /// # Errors
    ///
    /// As [`Self::logs`].
    async fn log_since_start(
        &self,
        environment: &Environment,
        pod: &PodRecord,
        container: Container,
    ) -> anyhow::Result<String> {
        let lines = self.logs(environment, &pod.name, container, Follow::No);
        Ok(lines.await?.try_collect::<Vec<_>>().await?.join("\n"))
    }

    /// The metrics of a container, in Prometheus' text format.
    ///
    /// # Errors
    ///
    /// Names the container that does not answer.
    async fn metrics(
        &self,
        environment: &Environment,
        pod: &WorkloadName,
        container: Container,
    ) -> anyhow::Result<String>;

    /// Waits until a pod can carry messages; fails early if one of its containers has ended.
    ///
    /// # Errors
    ///
    /// Says what the pod was waiting for.
    async fn wait_ready(
        &self,
        environment: &Environment,
        pod: &WorkloadName,
        timeline: &Timeline,
    ) -> anyhow::Result<()>;
}

/// How much of an environment was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Processes that were ended.
    pub processes: usize,
    /// Clusters that were deleted.
    pub clusters: usize,
    /// Namespaces that were deleted on clusters that stay.
    pub namespaces: usize,
}

/// Why an environment did not come up, and what there is of it.
#[derive(Debug)]
pub struct UpError {
    /// As far as it came; `None` if nothing was made.
    pub environment: Option<Box<Environment>>,
    pub error: anyhow::Error,
}

impl UpError {
    /// `environment`, or the error of what was to make it.
    fn or(environment: Environment, result: anyhow::Result<()>) -> Result<Environment, Self> {
        match result {
            Ok(()) => Ok(environment),
            Err(error) => Err(Self {
                environment: Some(Box::new(environment)),
                error,
            }),
        }
    }
}

impl From<anyhow::Error> for UpError {
    fn from(error: anyhow::Error) -> Self {
        Self {
            environment: None,
            error,
        }
    }
}

/// Kubelet restarts a container, so on a cluster none stays stopped.
fn no_faults(environment: &Environment) -> anyhow::Error {
    Failure::usage(format!(
        "environment `{}` runs on clusters, where kubelet restarts a stopped container",
        environment.name()
    ))
    .hint("pass `--runtime embedded`")
    .into()
}
