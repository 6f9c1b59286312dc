//! Handles Ctrl-C, SIGTERM and SIGHUP: the first ends a command gracefully, the second immediately.
//!
//! A signal that was ignored when the command started stays ignored, as `nohup` and the background
//! jobs of a shell require.

use std::fmt;

use tokio::{
    signal::unix::{Signal as Listener, SignalKind, signal},
    sync::watch,
};

mod ignored;

/// A signal that ends a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
    HangUp,
}

/// Error of a command that a signal has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interrupted(pub Signal);

impl Interrupted {
    /// Returns 128 plus the signal's number, as shells do.
    pub(crate) const fn exit_code(self) -> u8 {
        match self.0 {
            Signal::HangUp => 129,
            Signal::Interrupt => 130,
            Signal::Terminate => 143,
        }
    }
}

impl Signal {
    const ALL: [Self; 3] = [Self::Interrupt, Self::Terminate, Self::HangUp];

    /// Returns the signal's number, the same on every Unix.
    const fn number(self) -> i32 {
        match self {
            Self::HangUp => 1,
            Self::Interrupt => 2,
            Self::Terminate => 15,
        }
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Signal::Interrupt => "ended by Ctrl-C",
            Signal::Terminate => "ended by SIGTERM",
            Signal::HangUp => "ended by SIGHUP",
        })
    }
}

impl std::error::Error for Interrupted {}

/// Counts the signals received; clones share the count.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(watch::Receiver<Seen>);

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    count: u32,
    first: Option<Signal>,
}

impl Interrupt {
    /// Starts listening; must be called within a Tokio runtime.
    pub(crate) fn listen() -> std::io::Result<Self> {
        // Read before the first listener replaces the disposition of ignored signals.
        let ignored = ignored::at_start();
        let [interrupt, terminate, hang_up] = Signal::ALL.map(|kind| {
            (!ignored.contains(&kind))
                .then(|| signal(SignalKind::from_raw(kind.number())))
                .transpose()
        });
        let (mut interrupt, mut terminate, mut hang_up) = (interrupt?, terminate?, hang_up?);
        let (sender, receiver) = watch::channel(Seen::default());
        tokio::spawn(async move {
            loop {
                let signal = tokio::select! {
                    Some(()) = next(&mut interrupt) => Signal::Interrupt,
                    Some(()) = next(&mut terminate) => Signal::Terminate,
                    Some(()) = next(&mut hang_up) => Signal::HangUp,
                    else => break,
                };
                sender.send_modify(|seen| {
                    seen.count += 1;
                    seen.first.get_or_insert(signal);
                });
            }
            // All three are ignored. The sender must live on: closing the channel looks like a signal.
            std::future::pending::<()>().await;
        });
        Ok(Self(receiver))
    }

    /// Waits for the first signal.
    pub(crate) async fn first(&self) -> Interrupted {
        self.wait(1).await
    }

    /// Waits for the second signal.
    pub(crate) async fn second(&self) -> Interrupted {
        self.wait(2).await
    }

    /// Runs `work` until it completes or the first signal arrives.
    pub(crate) async fn unless<T>(
        &self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        tokio::select! {
            result = work => result,
            interrupted = self.first() => Err(interrupted.into()),
        }
    }

    async fn wait(&self, count: u32) -> Interrupted {
        let mut receiver = self.0.clone();
        match receiver.wait_for(|seen| seen.count >= count).await {
            Ok(seen) => Interrupted(seen.first.unwrap_or(Signal::Interrupt)),
            // The listener ends only together with the runtime.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Waits for the next signal; `None` if it is ignored.
async fn next(listener: &mut Option<Listener>) -> Option<()> {
    listener.as_mut()?.recv().await
}
