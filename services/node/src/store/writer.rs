//! The thread that owns the disk: opens it, writes batches, and opens it again after a failure.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use messages::Message;
use tokio::{
    runtime::Runtime,
    sync::{
        mpsc::{self, Receiver},
        oneshot,
    },
    time::timeout,
};

use super::{InvalidReader, Key, Settings, Shared, StoreError, Stored, log::Log};
use crate::{
    metrics::StoreMetrics,
    ready::{Pending, Ready},
    relay::backoff::Backoff,
};

/// Most messages and bytes of one batch.
const MAX_BATCH: usize = 1024;
const MAX_BATCH_BYTES: usize = 32 * 1024 * 1024;
/// Time between two looks at age and free space.
const TICK: Duration = Duration::from_secs(10);

/// A message that waits to be stored.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) key: Key,
    pub(super) message: Message,
    pub(super) done: oneshot::Sender<Result<Stored, String>>,
}

type Remembered = Result<Result<u64, InvalidReader>, String>;

/// What the thread is asked for.
#[derive(Debug)]
pub(super) enum Command {
    Write(Write),
    Read {
        reader: String,
        through: u64,
        done: oneshot::Sender<Remembered>,
    },
}

impl Command {
    fn refuse(self, reason: &str) {
        // The one who asked may be gone.
        match self {
            Self::Write(write) => drop(write.done.send(Err(reason.to_owned()))),
            Self::Read { done, .. } => drop(done.send(Err(reason.to_owned()))),
        }
    }
}

/// All senders are gone: the store closes.
struct Closed;

pub(super) struct Writer {
    settings: Settings,
    shared: Arc<Shared>,
    ready: Ready,
    metrics: StoreMetrics,
    /// Since when the disk fails.
    failing: Option<Instant>,
    backoff: Backoff,
    /// Why nothing is taken, while that is so.
    full: Option<Pending>,
}

impl Writer {
    pub(super) fn new(
        settings: Settings,
        shared: Arc<Shared>,
        ready: Ready,
        metrics: StoreMetrics,
    ) -> Self {
        Self {
            settings,
            shared,
            ready,
            metrics,
            failing: None,
            backoff: Backoff::new(),
            full: None,
        }
    }

    /// Runs until every sender of commands is gone.
    pub(super) fn run(
        mut self,
        mut commands: Receiver<Command>,
        pending: Pending,
    ) -> Result<(), StoreError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(StoreError::Thread)?;
        let mut pending = Some(pending);
        let mut cut = None;
        loop {
            let opened = Log::open(&self.settings, cut, &self.shared).and_then(|mut log| {
                self.show(&mut log)?;
                Ok(log)
            });
            match opened {
                Ok(mut log) => {
                    *self.shared.reader() = Ok(log.reader());
                    drop(pending.take());
                    match self.serve(&mut log, &mut commands, &runtime) {
                        Ok(Closed) => return Ok(()),
                        Err(error) => {
                            cut = log.cut();
                            pending = Some(self.failed(error)?);
                        }
                    }
                }
                Err(error) => {
                    let next = self.failed(error)?;
                    pending.replace(next);
                }
            }
            let Ok(()) = self.pause(&mut commands, &runtime) else {
                return Ok(());
            };
        }
    }

    /// Notes a failure. Returns it if the store must give up.
    fn failed(&mut self, error: StoreError) -> Result<Pending, StoreError> {
        self.metrics.failed();
        self.metrics.free(&self.settings.dir);
        let since = *self.failing.get_or_insert_with(Instant::now);
        let reason = format!("the store: {error}");
        *self.shared.reader() = Err(reason.clone());
        if !error.is_transient() || since.elapsed() >= self.settings.patience {
            return Err(error);
        }
        tracing::error!("the store cannot be used, and is opened again: {error}");
        Ok(self.ready.pending(reason))
    }

    /// Answers commands with the reason of the failure until the next attempt.
    fn pause(&mut self, commands: &mut Receiver<Command>, runtime: &Runtime) -> Result<(), Closed> {
        let reason = match &*self.shared.reader() {
            Err(reason) => reason.clone(),
            Ok(_) => String::new(),
        };
        let delay = self.backoff.next_delay();
        let refusing = async {
            while let Some(command) = commands.recv().await {
                command.refuse(&reason);
            }
        };
        match runtime.block_on(async { timeout(delay, refusing).await }) {
            Ok(()) => Err(Closed),
            Err(_) => Ok(()),
        }
    }

    /// Serves commands until the disk fails or every sender is gone.
    fn serve(
        &mut self,
        log: &mut Log,
        commands: &mut Receiver<Command>,
        runtime: &Runtime,
    ) -> Result<Closed, StoreError> {
        loop {
            match runtime.block_on(async { timeout(TICK, commands.recv()).await }) {
                Ok(None) => return Ok(Closed),
                Ok(Some(command)) => self.execute(log, command, commands)?,
                Err(_) => {
                    log.drop_old(&self.shared, &self.metrics)?;
                    self.metrics.free(&self.settings.dir);
                    self.healed();
                }
            }
            self.show(log)?;
        }
    }

    fn execute(
        &mut self,
        log: &mut Log,
        command: Command,
        commands: &mut Receiver<Command>,
    ) -> Result<(), StoreError> {
        let mut next = Some(command);
        while let Some(command) = next.take() {
            match command {
                Command::Write(first) => {
                    let batch;
                    (batch, next) = gather(first, commands);
                    self.write(log, batch)?;
                }
                Command::Read {
                    reader,
                    through,
                    done,
                } => match log.remember(reader, through) {
                    Ok(known) => {
                        log.drop_old(&self.shared, &self.metrics)?;
                        let _ = done.send(Ok(known));
                    }
                    Err(error) => {
                        let _ = done.send(Err(error.to_string()));
                        return Err(error);
                    }
                },
            }
        }
        Ok(())
    }

    fn write(&mut self, log: &mut Log, batch: Vec<Write>) -> Result<(), StoreError> {
        match log.append(&batch, &self.shared, &self.metrics) {
            Ok(outcomes) => {
                for (write, outcome) in batch.into_iter().zip(outcomes) {
                    // The connection may be gone; its sender asks again and hears `Before`.
                    let _ = write.done.send(outcome);
                }
                self.healed();
                Ok(())
            }
            Err(error) => {
                for write in batch {
                    let _ = write.done.send(Err(error.to_string()));
                }
                Err(error)
            }
        }
    }

    /// The disk takes writes.
    fn healed(&mut self) {
        if self.failing.take().is_some() {
            self.backoff.reset();
            tracing::info!("the store can be used again");
        }
    }

    /// Shows what is kept, and whether there is room.
    fn show(&mut self, log: &mut Log) -> Result<(), StoreError> {
        log.measure(&self.metrics)?;
        match (log.fullness(), &self.full) {
            (Some(reason), None) => self.full = Some(self.ready.pending(reason)),
            (None, Some(_)) => self.full = None,
            _ => {}
        }
        Ok(())
    }
}

/// Takes the writes that wait. Returns the command after them as well.
fn gather(first: Write, commands: &mut mpsc::Receiver<Command>) -> (Vec<Write>, Option<Command>) {
    let mut bytes = first.message.payload.len();
    let mut batch = vec![first];
    while batch.len() < MAX_BATCH
        && bytes < MAX_BATCH_BYTES
        && let Ok(next) = commands.try_recv()
    {
        match next {
            Command::Write(write) => {
                bytes += write.message.payload.len();
                batch.push(write);
            }
            other @ Command::Read { .. } => return (batch, Some(other)),
        }
    }
    (batch, None)
}
