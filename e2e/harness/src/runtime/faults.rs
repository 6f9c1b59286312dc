//! Faults of single containers. Fails on a runtime that would undo the fault.

use blueprint::{container::Container, failure::Failure};
use host::{
    environment::{Environment, Name, RuntimeKind, Store},
    process,
    timeline::Timeline,
};
use messages::WorkloadName;

use super::{embedded, k3d, wait_ready};
use crate::runtime::clusters;

/// How a container is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// SIGTERM, and time to drain.
    Graceful,
    /// SIGKILL.
    Abrupt,
}

/// Stops one container of a pod. Reloads `environment`.
pub async fn stop_container(
    store: &Store,
    environment: &mut Environment,
    pod: &WorkloadName,
    container: Container,
    ending: Ending,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let _lock = store.lock(environment.name(), timeline).await?;
    *environment = store.load(environment.name())?;
    environment.is_here()?;
    match environment.record.runtime {
        RuntimeKind::Embedded => {
            embedded::stop_container(environment, pod, container, ending).await
        }
        RuntimeKind::K3d | RuntimeKind::Existing => Err(no_faults(environment.name())),
    }
}

/// Starts a container again as it was, and waits until it answers by itself; [`wait_ready`] waits for its pod.
/// Reloads `environment`.
pub async fn start_container(
    store: &Store,
    environment: &mut Environment,
    pod: &WorkloadName,
    container: Container,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let _lock = store.lock(environment.name(), timeline).await?;
    *environment = store.load(environment.name())?;
    environment.is_here()?;
    match environment.record.runtime {
        RuntimeKind::Embedded => {
            embedded::start_container(environment, pod, container, timeline).await
        }
        RuntimeKind::K3d | RuntimeKind::Existing => Err(no_faults(environment.name())),
    }
}

/// Makes one container of a pod hang, until [`thaw`]: it runs but does not respond, which a
/// process monitor does not notice.
pub async fn freeze(
    environment: &Environment,
    pod: &WorkloadName,
    container: Container,
) -> anyhow::Result<()> {
    environment.is_here()?;
    match environment.record.runtime {
        RuntimeKind::Embedded => process::freeze(&embedded::running(environment, pod, container)?),
        RuntimeKind::K3d => k3d::signal(environment, pod, container, "STOP").await,
        RuntimeKind::Existing => Err(no_faults(environment.name())),
    }
}

/// Lets a container that hangs go on.
pub async fn thaw(
    environment: &Environment,
    pod: &WorkloadName,
    container: Container,
) -> anyhow::Result<()> {
    environment.is_here()?;
    match environment.record.runtime {
        RuntimeKind::Embedded => process::thaw(&embedded::running(environment, pod, container)?),
        RuntimeKind::K3d => k3d::signal(environment, pod, container, "CONT").await,
        RuntimeKind::Existing => Err(no_faults(environment.name())),
    }
}

/// Ends a pod's `app` as an update does, with time to drain, and starts it again; returns when the pod is ready. On clusters
/// it is another pod afterwards.
pub async fn restart(
    store: &Store,
    environment: &mut Environment,
    pod: &WorkloadName,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    match environment.record.runtime {
        RuntimeKind::Embedded => {
            let app = Container::App;
            stop_container(store, environment, pod, app, Ending::Graceful, timeline).await?;
            start_container(store, environment, pod, app, timeline).await?;
        }
        RuntimeKind::K3d | RuntimeKind::Existing => {
            clusters::replace(environment, pod).await?;
        }
    }
    wait_ready(environment, pod, timeline).await
}

/// Kubelet immediately restarts a container, so on a cluster none stays stopped.
fn no_faults(name: &Name) -> anyhow::Error {
    Failure::usage(format!(
        "environment `{name}` runs on clusters, where kubelet restarts a stopped container"
    ))
    .hint("pass `--runtime embedded`")
    .into()
}
