//! What a pod still waits for, by name. Each part registers what it needs and drops it when it has it.
//!
//! Two things follow from the list. `/ready` answers for whoever chooses among pods, and says all of it. Whether the pod
//! takes sessions follows only from what it cannot work without: what merely runs out must not end anything early.

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
    accepting: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    named: BTreeMap<u64, (Severity, String)>,
}

/// What the pod can do without a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    /// Nothing: it takes no session.
    Blocking,
    /// Everything for now: it is to be given no new work, and takes what comes all the same.
    Degraded,
}

impl Waiting {
    fn is_accepting(&self) -> bool {
        self.named
            .values()
            .all(|(severity, _)| *severity == Severity::Degraded)
    }
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
            accepting: watch::Sender::new(true),
        }))
    }

    /// The pod is not ready, and takes no sessions, until the returned value is dropped.
    #[must_use]
    pub(crate) fn pending(&self, what: impl Into<String>) -> Pending {
        self.register(Severity::Blocking, what.into())
    }

    /// The pod is not ready until the returned value is dropped, and takes sessions as before.
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

    /// What is missing, oldest first.
    pub(crate) fn waiting_for(&self) -> Vec<String> {
        let waiting = self.waiting();
        let all = waiting.named.values().map(|(_, what)| what.clone());
        all.collect()
    }

    /// What keeps the pod from taking sessions, oldest first.
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

    /// Whether the pod takes sessions.
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
    async fn a_watcher_sees_whether_sessions_are_taken() {
        let ready = Ready::new();
        let mut accepting = ready.accepting();
        let pending = ready.pending("something");
        accepting.wait_for(|accepting| !accepting).await.unwrap();
        drop(pending);
        accepting.wait_for(|accepting| *accepting).await.unwrap();
    }

    #[test]
    fn what_runs_out_is_said_and_keeps_no_session_away() {
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
