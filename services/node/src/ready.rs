//! The list of what a pod waits for. Each part registers what it needs, and drops the entry when it
//! has it.
//!
//! Two things follow from the list. `/ready` reports all of it to load balancers and kubelet.
//! Whether the pod accepts sessions follows from the blocking entries only: a degraded pod must not
//! end sessions early.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// The readiness of one pod. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Ready(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    accepting: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    named: BTreeMap<u64, (Severity, String)>,
}

/// How much the pod can do without a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    /// Nothing: it accepts no sessions.
    Blocking,
    /// Everything for now: it reports that it is not ready, and still accepts sessions.
    Degraded,
}

impl Waiting {
    fn is_accepting(&self) -> bool {
        self.named
            .values()
            .all(|(severity, _)| *severity == Severity::Degraded)
    }
}

/// One entry of the list, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Pending {
    ready: Ready,
    key: u64,
}

impl Ready {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            waiting: Mutex::default(),
            accepting: watch::Sender::new(true),
        }))
    }

    /// Marks the pod as not ready and not accepting sessions, until the returned value is dropped.
    #[must_use]
    pub(crate) fn pending(&self, what: impl Into<String>) -> Pending {
        self.register(Severity::Blocking, what.into())
    }

    /// Marks the pod as not ready until the returned value is dropped. It accepts sessions as
    /// before.
    #[must_use]
    pub(crate) fn degraded(&self, what: impl Into<String>) -> Pending {
        self.register(Severity::Degraded, what.into())
    }

    fn register(&self, severity: Severity, what: String) -> Pending {
        let mut waiting = self.waiting();
        let key = waiting.next;
        waiting.next += 1;
        waiting.named.insert(key, (severity, what));
        self.0.accepting.send_replace(waiting.is_accepting());
        Pending {
            ready: self.clone(),
            key,
        }
    }

    /// Returns every entry, oldest first.
    pub(crate) fn waiting_for(&self) -> Vec<String> {
        let waiting = self.waiting();
        let all = waiting.named.values().map(|(_, what)| what.clone());
        all.collect()
    }

    /// Returns the entries that keep the pod from accepting sessions, oldest first.
    pub(crate) fn missing(&self) -> Vec<String> {
        let waiting = self.waiting();
        let missing = waiting.named.values();
        missing
            .filter(|(severity, _)| *severity == Severity::Blocking)
            .map(|(_, what)| what.clone())
            .collect()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.waiting().named.is_empty()
    }

    /// Follows whether the pod accepts sessions.
    pub(crate) fn accepting(&self) -> watch::Receiver<bool> {
        self.0.accepting.subscribe()
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
        self.ready.0.accepting.send_replace(waiting.is_accepting());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_without_missing_parts_is_ready() {
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
    async fn watchers_see_whether_the_pod_accepts() {
        let ready = Ready::new();
        let mut accepting = ready.accepting();
        let pending = ready.pending("something");
        accepting.wait_for(|accepting| !accepting).await.unwrap();
        drop(pending);
        accepting.wait_for(|accepting| *accepting).await.unwrap();
    }

    #[test]
    fn degraded_pod_keeps_accepting() {
        let ready = Ready::new();
        let accepting = ready.accepting();
        let low = ready.degraded("a new identity");
        assert!(!ready.is_ready());
        assert_eq!(ready.waiting_for(), ["a new identity"]);
        assert!(*accepting.borrow() && ready.missing().is_empty());
        let gone = ready.pending("an identity");
        drop(low);
        assert_eq!(ready.missing(), ["an identity"]);
        assert!(!*accepting.borrow());
        drop(gone);
        assert!(ready.is_ready() && *accepting.borrow());
    }
}
