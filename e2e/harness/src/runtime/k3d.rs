//! The k3d runtime: clusters on this machine; the only caller of `k3d`.
//!
//! Each environment has separate clusters, labelled with its name and state folder. Pods of one
//! cluster reach the other
//! through this machine, as `host.k3d.internal`.

mod bring_up;
mod faults;
mod images;
mod reach;
mod state;
mod tear_down;

pub(crate) use tear_down::{clusters_of, orphans, remove_unrecorded};

use std::collections::BTreeMap;

use async_trait::async_trait;
use blueprint::container::Container;
use host::{
    environment::{Environment, Lock, Store},
    pods::PodState,
    timeline::Timeline,
};
use messages::WorkloadName;

use super::{
    Pods, Removed, Runtime, UpError,
    clusters::{self, OnClusters},
    request::{State, UpRequest},
};
use bring_up::{refresh, up};
use faults::signal;
use tear_down::down;

/// Clusters of this machine, made for the environment.
pub struct K3d;

#[async_trait]
impl Runtime for K3d {
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
        let clusters = down(environment, state, timeline).await?;
        Ok(Removed {
            clusters,
            ..Removed::default()
        })
    }

    fn pods(&self) -> &'static dyn Pods {
        &OnClusters
    }

    async fn status(&self, environment: &Environment) -> anyhow::Result<Vec<PodState>> {
        let looks = clusters::looks(environment).await;
        let down = match looks.iter().any(Result::is_err) {
            true => state::clusters_down(environment).await?,
            false => BTreeMap::new(),
        };
        Ok(clusters::states(environment, looks, &down))
    }

    async fn freeze(
        &self,
        environment: &Environment,
        pod: &WorkloadName,
        container: Container,
    ) -> anyhow::Result<()> {
        signal(environment, pod, container, "STOP").await
    }

    async fn thaw(
        &self,
        environment: &Environment,
        pod: &WorkloadName,
        container: Container,
    ) -> anyhow::Result<()> {
        signal(environment, pod, container, "CONT").await
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
