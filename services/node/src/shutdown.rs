//! Signals, and the steps of a pod's shutdown: it runs, it drains, it ends.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Resolves on the first SIGTERM or Ctrl-C; a second one ends the process immediately.
///
/// Signals count from this call on, not only once the future is awaited. One that arrives while the
/// pod starts is not lost, and does not kill it half-way.
pub fn shutdown_signal() -> impl Future<Output = ()> + Send + 'static {
    let listeners = signal(SignalKind::terminate())
        .and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?)));
    async move {
        let (mut terminate, mut interrupt) = match listeners {
            Ok(listeners) => listeners,
            Err(error) => {
                tracing::error!(
                    %error,
                    "cannot listen for signals; the pod will not drain before it is killed"
                );
                return std::future::pending().await;
            }
        };
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(
            "{name}: finishing what is in flight; a second signal ends the pod immediately"
        );
        tokio::spawn(async move {
            // 128 and the signal's number, as a shell reports a death by signal.
            let code = tokio::select! {
                _ = terminate.recv() => 143,
                _ = interrupt.recv() => 130,
            };
            tracing::warn!("second signal: ending immediately");
            std::process::exit(code);
        });
    }
}

/// The steps of a pod's shutdown. Each includes the ones before it.
///
/// The tokens are nested: to cancel `ended` cancels all three.
#[derive(Clone, Debug)]
pub(crate) struct Shutdown {
    /// The pod takes nothing new, and finishes what it has.
    pub(crate) draining: CancellationToken,
    /// Everything that was taken is answered; connections out may close.
    pub(crate) closing: CancellationToken,
    /// The pod waits for nothing any more.
    pub(crate) ended: CancellationToken,
}

impl Shutdown {
    pub(crate) fn new() -> Self {
        let ended = CancellationToken::new();
        let closing = ended.child_token();
        Self {
            draining: closing.child_token(),
            closing,
            ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_includes_the_ones_before() {
        let shutdown = Shutdown::new();
        let reached = || {
            let steps = [&shutdown.draining, &shutdown.closing, &shutdown.ended];
            steps.map(CancellationToken::is_cancelled)
        };
        assert_eq!(reached(), [false, false, false]);
        shutdown.draining.cancel();
        assert_eq!(reached(), [true, false, false]);
        shutdown.ended.cancel();
        assert_eq!(reached(), [true, true, true]);
    }
}
