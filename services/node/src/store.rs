//! What a sink has received, on disk. A message is acknowledged only after the batch that holds it
//! is on disk; what waits meanwhile goes into one batch together (group commit).
//!
//! The store opens beside the pod. While it is not open, or its disk fails, the pod is not ready
//! and messages are answered "later".

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use journal::Reader;
use messages::Message;
use ring::digest::{Context, SHA256};
use tokio::sync::{mpsc, oneshot};

use crate::{config::Retention, metrics::StoreMetrics, ready::Ready, unavailable::Unavailable};

mod keys;
mod log;
mod migration;
mod readers;
mod record;
mod retention;
mod writer;

use keys::Keys;
pub(crate) use log::StoreError;
pub(crate) use readers::InvalidReader;
pub(crate) use retention::Cause;
use writer::{Command, Write};

/// Messages that wait for the next batch; past it their connections wait.
const QUEUE: usize = 1024;

/// What makes two messages the same: the id and the path, as (cluster, namespace) of each hop. Pods
/// may be replaced and times differ between a message and its repeat; a message that came over two
/// branches is two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; Key::BYTES]);

impl Key {
    /// Half of the hash: two keys of different messages are equal by chance once in 2^64 messages.
    const BYTES: usize = 16;

    /// The key of a message with its whole trail, the sink's own hop included.
    pub(crate) fn of(message: &Message) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(message.id.as_bytes());
        for part in message
            .trail
            .iter()
            .flat_map(|hop| [&hop.cluster, &hop.namespace])
        {
            // With its length, so that no two paths have one text.
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        Self::from_hash(hash.finish().as_ref()).unwrap_or(Self([0; Self::BYTES]))
    }

    /// Returns the key of the first bytes of a hash.
    fn from_hash(hash: &[u8]) -> Option<Self> {
        hash.first_chunk().copied().map(Self)
    }
}

/// Whether a message was new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Now,
    Before,
}

/// Resolves when the message is on disk.
pub(crate) struct Storing(oneshot::Receiver<Result<Stored, String>>);

impl IntoFuture for Storing {
    type Output = Result<Stored, Unavailable>;
    type IntoFuture = futures_util::future::BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            match self.0.await {
                Ok(result) => result.map_err(Unavailable),
                Err(_) => Err(ended()),
            }
        })
    }
}

/// Tells how the store ended.
pub(crate) struct Ended(oneshot::Receiver<Result<(), StoreError>>);

impl Ended {
    /// Waits until the store is closed after the last [`Store`] is gone, or until it gave up.
    ///
    /// # Errors
    ///
    /// Returns why the store cannot go on. The process must end then.
    pub(crate) async fn wait(&mut self) -> Result<(), StoreError> {
        (&mut self.0).await.unwrap_or(Err(StoreError::Panicked))
    }
}

/// Where a store is, and what it keeps.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) dir: PathBuf,
    pub(crate) retention: Retention,
    /// Least time for which a repeat is recognised.
    pub(crate) repeats: std::time::Duration,
    pub(crate) disk: Arc<dyn journal::Disk>,
    /// How long the store opens its disk again before it gives up.
    pub(crate) patience: std::time::Duration,
}

/// Cheap to clone. The writer ends when the last one is dropped.
#[derive(Clone)]
pub(crate) struct Store {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Command>,
}

/// What the writer shows to the others.
#[derive(Debug)]
struct Shared {
    /// `Err` while the store cannot be used, with the reason.
    reader: Mutex<Result<Reader, String>>,
    keys: Mutex<Keys>,
}

impl Shared {
    fn reader(&self) -> MutexGuard<'_, Result<Reader, String>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Opens the store beside the caller. `ready` waits for it.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Thread`] if no thread can be started.
    pub(crate) fn start(
        settings: Settings,
        ready: Ready,
        metrics: StoreMetrics,
    ) -> Result<(Self, Ended), StoreError> {
        const OPENING: &str = "the store: it is being opened";
        let shared = Arc::new(Shared {
            reader: Mutex::new(Err(OPENING.into())),
            keys: Mutex::new(Keys::new(settings.repeats)),
        });
        let (queue, commands) = mpsc::channel(QUEUE);
        let pending = ready.pending(OPENING);
        let writer = writer::Writer::new(settings, shared.clone(), ready, metrics);
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                // After a panic nothing is sent, which tells as well.
                let _ = end.send(writer.run(commands, pending));
            })
            .map_err(StoreError::Thread)?;
        Ok((Self { shared, queue }, Ended(ended)))
    }

    /// Whether the message is on disk already.
    ///
    /// # Errors
    ///
    /// Returns why the store cannot be used now.
    pub(crate) fn holds(&self, key: &Key) -> Result<bool, Unavailable> {
        self.reader()?;
        Ok(self.shared.keys().contains(key))
    }

    /// Queues a message; the order of calls is the order of indexes.
    pub(crate) async fn append(&self, key: Key, message: Message) -> Result<Storing, Unavailable> {
        let (done, stored) = oneshot::channel();
        let write = Write { key, message, done };
        let sent = self.queue.send(Command::Write(write)).await;
        sent.map_err(|_| ended())?;
        Ok(Storing(stored))
    }

    /// Returns what reads the records.
    ///
    /// # Errors
    ///
    /// Returns why the store cannot be used now.
    pub(crate) fn reader(&self) -> Result<Reader, Unavailable> {
        self.shared.reader().clone().map_err(Unavailable)
    }

    /// Remembers durably how far `reader` has read. Returns `Err` inside if that is not possible.
    ///
    /// # Errors
    ///
    /// Returns why the store cannot be used now.
    pub(crate) async fn read_through(
        &self,
        reader: String,
        through: u64,
    ) -> Result<Result<u64, InvalidReader>, Unavailable> {
        let (done, known) = oneshot::channel();
        let command = Command::Read {
            reader,
            through,
            done,
        };
        self.queue.send(command).await.map_err(|_| ended())?;
        known
            .await
            .map_err(|_| ended())?
            .map_err(|error| Unavailable(error.to_string()))
    }
}

/// Returns the records after index `after`, oldest first, one line of JSON each with its index: at
/// most `most` of them, and no further one once 1 MiB is reached. Blocks on the disk.
pub(crate) fn lines(
    reader: &Reader,
    after: u64,
    most: usize,
) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
    const ENOUGH_BYTES: usize = 1024 * 1024;
    let records = reader.read(after, most, ENOUGH_BYTES)?;
    let lines = records.into_iter().map(|(index, body)| {
        let line = record::line(body).ok_or(StoreError::Record { index })?;
        Ok((index, line))
    });
    lines.collect()
}

fn ended() -> Unavailable {
    Unavailable("the store has ended".into())
}

#[cfg(test)]
mod tests;
