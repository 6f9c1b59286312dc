//! Signals, and the phases of a pod's end: it runs, it drains, it ends.

use std::sync::Arc;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Resolves on the first SIGTERM or Ctrl-C; a second one ends the process at once.
///
/// Signals count from this call on, not only once the future is awaited: one that comes while the pod starts is not
/// lost, and does not kill it half-way.
pub fn shutdown_signal() -> impl Future<Output = ()> + Send + 'static {
    let listeners = signal(SignalKind::terminate())
        .and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?)));
    async move {
        let (mut terminate, mut interrupt) = match listeners {
            Ok(listeners) => listeners,
            Err(error) => {
                tracing::error!(%error, "cannot listen for signals; the pod will not drain, only be killed");
                return std::future::pending().await;
            }
        };
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!("{name}: finishing what is in flight; a second signal ends at once");
        tokio::spawn(async move {
            // 128 and the signal's number, as a shell reports a death by signal.
            let code = tokio::select! {
                _ = terminate.recv() => 143,
                _ = interrupt.recv() => 130,
            };
            tracing::warn!("second signal: ending at once");
            std::process::exit(code);
        });
    }
}

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Running,
    /// Takes nothing new, finishes what it has.
    Draining,
    /// Everything that was taken is answered; connections out may close.
    Closing,
    Ended,
}

/// Says in which phase the pod is.
#[derive(Clone, Debug)]
pub(crate) struct Life(watch::Receiver<Phase>);

impl Life {
    pub(crate) fn begin() -> (watch::Sender<Phase>, Self) {
        let (sender, receiver) = watch::channel(Phase::Running);
        (sender, Self(receiver))
    }

    /// Resolves when `phase` has come.
    pub(crate) async fn reached(&self, phase: Phase) {
        // An error means that the pod is gone, which is past every phase.
        let _ = self.0.clone().wait_for(|now| *now >= phase).await;
    }

    pub(crate) fn is(&self, phase: Phase) -> bool {
        *self.0.borrow() >= phase
    }
}

/// Counts what must be finished before the pod ends. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Work(Arc<watch::Sender<usize>>);

/// One piece of work, until it is dropped.
#[derive(Debug)]
pub(crate) struct Working(Work);

impl Work {
    #[must_use]
    pub(crate) fn begin(&self) -> Working {
        self.0.send_modify(|count| *count += 1);
        Working(self.clone())
    }

    /// Waits until no work is left.
    pub(crate) async fn finished(&self) {
        // The sender lives as long as `self`, so there is no error.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finished_waits_for_the_last_piece_of_work() {
        let work = Work::default();
        work.finished().await;
        let (one, other) = (work.begin(), work.begin());
        drop(one);
        let waiting = tokio::spawn(async move { work.finished().await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(other);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn a_later_phase_includes_the_earlier() {
        let (sender, life) = Life::begin();
        assert!(life.is(Phase::Running) && !life.is(Phase::Draining));
        sender.send_replace(Phase::Ended);
        life.reached(Phase::Draining).await;
        assert!(life.is(Phase::Draining));
    }
}
