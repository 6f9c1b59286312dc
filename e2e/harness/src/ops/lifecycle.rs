//! Brings environments up, updates them and takes them down, on whichever runtime they are.

use host::{
    clock::Clocks,
    environment::{Environment, Lock, Name, PodRecord, Store},
    pods::{PodState, Readiness},
    timeline::Timeline,
};

use crate::{
    ops::sweep::{self, Condition, condition},
    runtime::{
        self, Removed, Runtime, UpError,
        request::{Lifetime, OnFailure, State, UpRequest},
    },
};

#[cfg(test)]
mod tests;

/// Brings an environment up: returns when every pod is ready, in deploy order.
///
/// # Errors
///
/// Names the pod, what it was waiting for and the end of the log; a usage failure if an environment of this name is up.
pub async fn up(
    store: &Store,
    request: UpRequest,
    timeline: &Timeline,
) -> anyhow::Result<Environment> {
    up_on(runtime::of(request.runtime), store, request, timeline).await
}

async fn up_on(
    runtime: &dyn Runtime,
    store: &Store,
    request: UpRequest,
    timeline: &Timeline,
) -> anyhow::Result<Environment> {
    let lock = store.lock(&request.name, timeline).await?;
    sweep::make_room(store, &request.name, timeline).await?;
    let mut environment = match runtime.up(store, &lock, &request, timeline).await {
        Ok(environment) => environment,
        Err(UpError { environment, error }) => {
            if let Some(environment) = environment
                && request.on_failure == OnFailure::Remove
                && let Err(left) = runtime.down(&environment, State::Remove, timeline).await
            {
                // A warning beside the failure, which is what counts.
                timeline.warning(format!(
                    "environment `{}` is left behind: {left:#}",
                    request.name
                ));
            }
            return Err(error);
        }
    };
    if request.lifetime == Lifetime::Stays {
        environment.record.owner = None;
        environment.save()?;
    }
    Ok(environment)
}

/// Brings an environment that stays to what `request` asks for, without recreating it. `environment` is up to date
/// afterwards.
///
/// # Errors
///
/// As [`up`]; the environment stays.
pub async fn refresh(
    store: &Store,
    environment: &mut Environment,
    request: &UpRequest,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let _lock = lock(store, environment, timeline).await?;
    environment.record.settings = request.settings.clone();
    let runtime = runtime::of(environment.record.runtime);
    runtime.refresh(environment, request, timeline).await
}

/// Takes the lock of an environment that is to be changed, and reads its record again under it.
///
/// # Errors
///
/// A usage failure if it is gone or runs elsewhere; an infrastructure failure if the lock does not get free.
pub(super) async fn lock(
    store: &Store,
    environment: &mut Environment,
    timeline: &Timeline,
) -> anyhow::Result<Lock> {
    let lock = store.lock(environment.name(), timeline).await?;
    *environment = store.load(environment.name())?;
    environment.is_here()?;
    Ok(lock)
}

/// Takes an environment down: its pods drain; nothing of it is left but, if wanted, its files.
///
/// # Errors
///
/// Names what could not be removed; a usage failure if it runs elsewhere.
pub async fn down(
    store: &Store,
    name: &Name,
    state: State,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let lock = store.lock(name, timeline).await?;
    // Read under the lock: the command that had it before may have removed the environment.
    let environment = store.load(name)?;
    environment.is_here()?;
    timeline
        .run(format!("take down `{name}`"), |_| async {
            remove(&environment, state, timeline).await
        })
        .await?;
    drop(lock);
    Ok(())
}

/// Removes an environment that this very process owns, without draining and without its lock, which a command that is being
/// ended may still hold.
pub(crate) async fn kill(
    environment: &Environment,
    timeline: &Timeline,
) -> anyhow::Result<Removed> {
    let runtime = runtime::of(environment.record.runtime);
    runtime.kill(environment, timeline).await
}

/// Removes an environment whose lock is held.
pub(crate) async fn remove(
    environment: &Environment,
    state: State,
    timeline: &Timeline,
) -> anyhow::Result<Removed> {
    let runtime = runtime::of(environment.record.runtime);
    runtime.down(environment, state, timeline).await
}

/// The states of all pods, in deploy order.
///
/// # Errors
///
/// Says what must run before pods can be seen.
pub async fn status(environment: &Environment) -> anyhow::Result<Vec<PodState>> {
    if let Condition::Elsewhere(place) = condition(&environment.record)? {
        let pods = environment.record.pods.iter();
        return Ok(pods.map(|pod| unseen(pod, &place)).collect());
    }
    let runtime = runtime::of(environment.record.runtime);
    runtime.status(environment).await
}

/// How far the clocks of its clusters are from this machine's, of those that answer.
pub async fn clocks(environment: &Environment) -> Clocks {
    if environment.is_here().is_err() {
        return Clocks::default();
    }
    let runtime = runtime::of(environment.record.runtime);
    runtime.pods().clocks(environment).await
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
