//! Compares the clocks of starting pods with those of running ones, since handshakes fail if
//! clocks are too far apart.

use std::{
    future::pending,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use blueprint::{failure::Failure, plan::PodPlan};
use host::{
    clock::{self, Clocks, Offset},
    wait::{self, Wait},
};
use tokio::time::timeout;

use super::{Request, cluster_of};

/// Longest look at a pod that is up: one that does not respond delays nothing.
const LOOK_LIMIT: Duration = Duration::from_secs(3);
/// Pause between two looks at a pod whose app does not answer yet.
const PAUSE: Duration = Duration::from_secs(1);

/// Waits for `up`, which brings `pod` up; ends early once its clock is seen to be too far from that of a pod which it sends to.
/// Where a clock cannot be read nothing is said of it.
pub(super) async fn unless_apart<T>(
    request: &Request<'_>,
    pod: &PodPlan,
    clocks: &Mutex<Clocks>,
    up: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let is_seen = AtomicBool::new(false);
    let first_look = async {
        let seen = Wait::until(format!("the clock of {}", pod.name))
            .within(request.limits.rollout)
            .looking_every(PAUSE)
            .poll(|| async {
                Ok(match look(request, pod).await {
                    Ok(offset) => wait::Seen::Ready(offset),
                    Err(error) => wait::Seen::Waiting(format!("{error:#}")),
                })
            });
        match seen.await {
            Ok(Some(offset)) => {
                is_seen.store(true, Ordering::Relaxed);
                check(request, pod, clocks, offset)?;
                pending().await
            }
            _ => pending().await,
        }
    };
    let value = tokio::select! {
        biased;
        apart = first_look => return apart,
        value = up => value?,
    };
    // It may have come up before the first look was over; the next pods are held against it.
    if !is_seen.load(Ordering::Relaxed)
        && let Ok(Ok(Some(offset))) = timeout(LOOK_LIMIT, look(request, pod)).await
    {
        check(request, pod, clocks, offset)?;
    }
    Ok(value)
}

async fn look(request: &Request<'_>, pod: &PodPlan) -> anyhow::Result<Option<Offset>> {
    let cluster = cluster_of(request, pod)?;
    let live = cluster.newest(&pod.name).await?;
    cluster.pod_clock(&pod.name.namespace(), &live.name).await
}

fn check(
    request: &Request<'_>,
    pod: &PodPlan,
    clocks: &Mutex<Clocks>,
    offset: Offset,
) -> anyhow::Result<()> {
    let mut clocks = clocks.lock().unwrap_or_else(PoisonError::into_inner);
    clocks.see(clock::Seen {
        cluster: pod.name.cluster().into(),
        pod: Some(pod.name.pod().into()),
        offset,
    });
    let tolerance = clock::tolerance(request.settings);
    let checked = clocks.check(request.plan.connections(), tolerance);
    checked.map_err(|far| Failure::from(far).into())
}
