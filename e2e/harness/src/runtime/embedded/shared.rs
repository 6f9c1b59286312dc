//! The record and clocks of an environment, shared by concurrent tasks.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use blueprint::failure::Failure;
use host::{
    clock::{self, Clocks, Offset, Seen},
    environment::{Environment, PodRecord},
};
use messages::WorkloadName;

/// The environment while several pods are started concurrently. Each change is saved immediately,
/// so that a later command
/// finds every process whenever this one is killed.
pub(super) struct Shared {
    environment: Mutex<Environment>,
    clocks: Mutex<Clocks>,
}

impl Shared {
    pub(super) fn new(environment: Environment) -> Self {
        Self {
            environment: Mutex::new(environment),
            clocks: Mutex::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Environment> {
        self.environment
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a pod's clock against those that were seen before: with clocks too far apart there is no handshake, and the reason
    /// of that is better said than waited for.
    pub(super) fn check_clock(&self, name: &WorkloadName, offset: Offset) -> anyhow::Result<()> {
        let record = self.lock().record.clone();
        let mut clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        clocks.see(Seen {
            cluster: name.cluster().into(),
            pod: Some(name.pod().into()),
            offset,
        });
        let tolerance = clock::tolerance(&record.settings);
        let checked = clocks.check(record.connections(), tolerance);
        checked.map_err(|far| Failure::from(far).into())
    }

    pub(super) fn change_pod(
        &self,
        name: &WorkloadName,
        change: impl FnOnce(&mut PodRecord),
    ) -> anyhow::Result<()> {
        let mut environment = self.lock();
        let record = environment.record.pod_mut(name);
        change(record.with_context(|| format!("{name} is not recorded"))?);
        environment.save()
    }
}
