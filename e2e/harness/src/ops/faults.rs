//! Faults of single containers. A runtime refuses a fault that it cannot keep up.

use blueprint::container::Container;
use host::{
    environment::{Environment, Store},
    timeline::Timeline,
};
use messages::WorkloadName;

use crate::{
    ops::lifecycle,
    runtime::{self, request::Ending},
};

/// Ends one container of a pod and leaves it ended. `environment` is read again and up to date afterwards.
///
/// # Errors
///
/// A usage failure on a runtime that starts containers again.
pub async fn stop_container(
    store: &Store,
    environment: &mut Environment,
    pod: &WorkloadName,
    container: Container,
    ending: Ending,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let _lock = lifecycle::lock(store, environment, timeline).await?;
    let runtime = runtime::of(environment.record.runtime);
    runtime
        .stop_container(environment, pod, container, ending)
        .await
}

/// Starts a container again as it was, and waits until it answers by itself. `environment` is read again and up to date
/// afterwards.
///
/// # Errors
///
/// As [`stop_container`]; also if the container runs already.
pub async fn start_container(
    store: &Store,
    environment: &mut Environment,
    pod: &WorkloadName,
    container: Container,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let _lock = lifecycle::lock(store, environment, timeline).await?;
    let runtime = runtime::of(environment.record.runtime);
    runtime
        .start_container(environment, pod, container, timeline)
        .await
}

/// Makes one container of a pod hang until [`thaw`]: it runs and answers nothing, which no watcher of processes sees.
///
/// # Errors
///
/// A usage failure on a runtime that cannot reach the processes.
pub async fn freeze(
    environment: &Environment,
    pod: &WorkloadName,
    container: Container,
) -> anyhow::Result<()> {
    environment.is_here()?;
    let runtime = runtime::of(environment.record.runtime);
    runtime.freeze(environment, pod, container).await
}

/// Lets a container that hangs go on.
///
/// # Errors
///
/// As [`freeze`].
pub async fn thaw(
    environment: &Environment,
    pod: &WorkloadName,
    container: Container,
) -> anyhow::Result<()> {
    environment.is_here()?;
    let runtime = runtime::of(environment.record.runtime);
    runtime.thaw(environment, pod, container).await
}

/// Ends a pod's `app` as an update does, with time to drain, and starts it again; returns when the pod is ready. On clusters
/// it is another pod afterwards.
///
/// # Errors
///
/// Names the pod that did not come back.
pub async fn restart(
    store: &Store,
    environment: &mut Environment,
    pod: &WorkloadName,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let lock = lifecycle::lock(store, environment, timeline).await?;
    let runtime = runtime::of(environment.record.runtime);
    runtime.restart(environment, pod, timeline).await?;
    drop(lock);
    runtime.pods().wait_ready(environment, pod, timeline).await
}
