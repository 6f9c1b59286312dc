//! What a pod still waits for, by name. Each part registers what it needs and drops it when it has it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// The list of what is missing. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Ready(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    ready: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    named: BTreeMap<u64, String>,
}

/// One thing that is missing, until it is dropped.
#[derive(Debug)]
pub(crate) struct Pending {
    ready: Ready,
    key: u64,
}

impl Ready {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            waiting: Mutex::default(),
            ready: watch::Sender::new(true),
        }))
    }

    /// The pod is not ready until the returned value is dropped.
    #[must_use]
    pub(crate) fn pending(&self, what: impl Into<String>) -> Pending {
        let mut waiting = self.waiting();
        let key = waiting.next;
        waiting.next += 1;
        waiting.named.insert(key, what.into());
        self.0.ready.send_replace(false);
        Pending {
            ready: self.clone(),
            key,
        }
    }

    /// What is missing, oldest first.
    pub(crate) fn waiting_for(&self) -> Vec<String> {
        self.waiting().named.values().cloned().collect()
    }

    pub(crate) fn is_ready(&self) -> bool {
        *self.0.ready.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.0.ready.subscribe()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut waiting = self.ready.waiting();
        waiting.named.remove(&self.key);
        // Under the lock, so that the flag and the list never disagree.
        self.ready.0.ready.send_replace(waiting.named.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_ready_when_nothing_is_missing() {
        let ready = Ready::new();
        assert!(ready.is_ready());
        let identity = ready.pending("workload identity");
        let tunnel = ready.pending("an answer from `sink`");
        assert_eq!(
            ready.waiting_for(),
            ["workload identity", "an answer from `sink`"]
        );
        drop(identity);
        assert!(!ready.is_ready());
        drop(tunnel);
        assert!(ready.is_ready());
        assert!(ready.waiting_for().is_empty());
    }

    #[tokio::test]
    async fn a_watcher_sees_readiness_come_and_go() {
        let ready = Ready::new();
        let mut watch = ready.watch();
        let pending = ready.pending("something");
        watch.wait_for(|ready| !ready).await.unwrap();
        drop(pending);
        watch.wait_for(|ready| *ready).await.unwrap();
    }
}
