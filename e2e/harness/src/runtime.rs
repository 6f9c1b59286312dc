//! Where an environment runs: bring-up, teardown, state, logs and faults, the same for every runtime.
//!
//! [`up`] makes an environment, [`down`] removes it, [`sweep`] removes what killed commands left. A runtime is one file
//! behind the functions here.

use std::collections::BTreeMap;

use blueprint::container::Container;
use futures_util::TryStreamExt as _;
use host::{
    clock::Clocks,
    environment::{Environment, Name, PodRecord, RuntimeKind, Store},
    pods::{PodState, Readiness},
    timeline::Timeline,
};
use messages::WorkloadName;

use crate::ops::sweep::{self, Condition, condition};
use request::{Lifetime, OnFailure, State, UpRequest};

pub mod clusters;
pub mod embedded;
pub mod existing;
mod faults;
pub mod k3d;
mod logs;
pub mod request;

pub use clusters::connect;
pub use faults::{Ending, freeze, restart, start_container, stop_container, thaw};
pub use logs::{Follow, LogLines};

/// Brings an environment up: returns when every pod is ready, in deploy order. On failure the error names the pod, what it
/// was waiting for and the end of the log.
pub async fn up(
    store: &Store,
    request: UpRequest,
    timeline: &Timeline,
) -> anyhow::Result<Environment> {
    let lock = store.lock(&request.name, timeline).await?;
    sweep::make_room(store, &request.name, timeline).await?;
    let (mut environment, result) = match request.runtime {
        RuntimeKind::Embedded => embedded::up(store, &lock, &request, timeline).await?,
        RuntimeKind::K3d => k3d::up(store, &lock, &request, timeline).await?,
        RuntimeKind::Existing => existing::up(store, &lock, &request, timeline).await?,
    };
    if let Err(error) = result {
        if request.on_failure == OnFailure::Remove
            && let Err(left) = remove_environment(&environment, State::Remove, timeline).await
        {
            // Stands beside the failure, not in its place.
            timeline.warning(format!(
                "environment `{}` is left behind: {left:#}",
                request.name
            ));
        }
        return Err(error);
    }
    if request.lifetime == Lifetime::Stays {
        environment.record.owner = None;
        environment.save()?;
    }
    Ok(environment)
}

/// Brings an environment that stays to what `request` asks for, without making it anew: what is stopped is started, what
/// has changed is built and rolled out, all else is left alone. `environment` is up to date afterwards.
pub async fn refresh(
    store: &Store,
    environment: &mut Environment,
    request: &UpRequest,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let _lock = store.lock(environment.name(), timeline).await?;
    *environment = store.load(environment.name())?;
    environment.is_here()?;
    environment.record.settings = request.settings.clone();
    match environment.record.runtime {
        RuntimeKind::K3d => k3d::refresh(environment, request, timeline).await,
        RuntimeKind::Existing => existing::refresh(environment, request, timeline).await,
        RuntimeKind::Embedded => embedded::refresh(environment, request, timeline).await,
    }
}

/// Takes an environment down: its pods drain, nothing of it is left but, if wanted, its files.
pub async fn down(
    store: &Store,
    name: &Name,
    state: State,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let lock = store.lock(name, timeline).await?;
    // Read under the lock, since its previous holder may have removed the environment.
    let environment = store.load(name)?;
    environment.is_here()?;
    timeline
        .run(format!("take down `{name}`"), |_| async {
            remove_environment(&environment, state, timeline).await
        })
        .await?;
    drop(lock);
    Ok(())
}

/// Removes an environment that this process owns, immediately and without its lock, which a
/// command that is being ended may
/// still hold.
pub(crate) async fn kill(environment: &Environment, timeline: &Timeline) -> anyhow::Result<usize> {
    match environment.record.runtime {
        RuntimeKind::Existing => existing::kill(environment, timeline).await,
        RuntimeKind::Embedded | RuntimeKind::K3d => {
            remove_environment(environment, State::Remove, timeline).await
        }
    }
}

pub(crate) async fn remove_environment(
    environment: &Environment,
    state: State,
    timeline: &Timeline,
) -> anyhow::Result<usize> {
    match environment.record.runtime {
        RuntimeKind::Embedded => embedded::down(environment, state, timeline).await,
        RuntimeKind::K3d => k3d::down(environment, state, timeline).await,
        RuntimeKind::Existing => existing::down(environment, state, timeline).await,
    }
}

/// What every pod is doing, in deploy order.
pub async fn status(environment: &Environment) -> anyhow::Result<Vec<PodState>> {
    if let Condition::Elsewhere(place) = condition(&environment.record)? {
        let pods = environment.record.pods.iter();
        return Ok(pods.map(|pod| unseen(pod, &place)).collect());
    }
    match environment.record.runtime {
        RuntimeKind::Embedded => Ok(embedded::status(environment).await),
        RuntimeKind::K3d | RuntimeKind::Existing => clusters::status(environment).await,
    }
}

/// How far the clocks of its clusters are from this machine's, of those that can be asked.
pub async fn clocks(environment: &Environment) -> Clocks {
    if environment.is_here().is_err() {
        return Clocks::default();
    }
    match environment.record.runtime {
        RuntimeKind::Embedded => embedded::clocks(environment).await,
        RuntimeKind::K3d | RuntimeKind::Existing => clusters::clocks(environment).await,
    }
}

/// A pod of which nothing is known but its record.
fn unseen(pod: &PodRecord, place: &str) -> PodState {
    PodState {
        name: pod.name.clone(),
        role: pod.role,
        pod_name: pod.pod_name.clone(),
        node: pod.node.clone(),
        local_address: pod.local_address.clone(),
        containers: vec![],
        readiness: Readiness::Elsewhere(place.to_owned()),
    }
}

/// The names that the running pods of each workload go by: what a trail may name.
pub async fn live_pods(
    environment: &Environment,
) -> anyhow::Result<BTreeMap<WorkloadName, Vec<String>>> {
    match environment.record.runtime {
        RuntimeKind::Embedded => Ok(embedded::live_pods(environment)),
        RuntimeKind::K3d | RuntimeKind::Existing => clusters::live_pods(environment).await,
    }
}

/// The log of a container, line by line.
pub async fn logs(
    environment: &Environment,
    pod: &WorkloadName,
    container: Container,
    follow: Follow,
) -> anyhow::Result<LogLines> {
    match environment.record.runtime {
        RuntimeKind::Embedded => embedded::logs(environment, pod, container, follow).await,
        RuntimeKind::K3d | RuntimeKind::Existing => {
            clusters::logs(environment, pod, container, follow).await
        }
    }
}

/// What a container has said since it was last started.
pub(crate) async fn log_since_start(
    environment: &Environment,
    pod: &PodRecord,
    container: Container,
) -> anyhow::Result<String> {
    if environment.record.runtime == RuntimeKind::Embedded {
        return embedded::log_since_start(pod, container);
    }
    let lines = logs(environment, &pod.name, container, Follow::No).await?;
    Ok(lines.try_collect::<Vec<_>>().await?.join("\n"))
}

/// What a container counts, in Prometheus' text format.
pub async fn metrics(
    environment: &Environment,
    pod: &WorkloadName,
    container: Container,
) -> anyhow::Result<String> {
    match environment.record.runtime {
        RuntimeKind::Embedded => embedded::metrics(environment, pod, container).await,
        RuntimeKind::K3d | RuntimeKind::Existing => {
            clusters::metrics(environment, pod, container).await
        }
    }
}

/// Waits until a pod has everything it needs to carry messages; fails immediately if one of its
/// containers has exited.
pub async fn wait_ready(
    environment: &Environment,
    pod: &WorkloadName,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    match environment.record.runtime {
        RuntimeKind::Embedded => embedded::wait_ready(environment, pod, timeline).await,
        RuntimeKind::K3d | RuntimeKind::Existing => {
            clusters::wait_ready(environment, pod, timeline).await
        }
    }
}
