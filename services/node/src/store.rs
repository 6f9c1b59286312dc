//! What a sink has received, on disk. A message is acknowledged only after the transaction that
//! holds it is on disk; what waits meanwhile goes into one transaction together (group commit).

use std::{
    collections::HashSet,
    fs::{DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use messages::{Message, Timestamp, limits::MAX_STORED_BYTES};
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, backends::FileBackend,
};
use ring::digest::{Context, SHA256};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::unavailable::Unavailable;

/// File in the data folder.
const FILE: &str = "messages.redb";
/// Most records kept; the oldest goes first.
const MAX_RECORDS: u64 = 200_000;
/// Most messages and bytes in one transaction.
const MAX_BATCH: usize = 1024;
const MAX_BATCH_BYTES: usize = 32 * 1024 * 1024;
/// Messages that wait for the next transaction; past it their connections wait.
const QUEUE: usize = 1024;
/// Memory for pages of the database, in bytes.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// Index → key of the message (32 bytes), then the record as one line of JSON.
const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
/// Key → index, for dropping repeats.
const KEYS: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("keys");
/// `next_index` and `bytes`.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const NEXT_INDEX: &str = "next_index";
const BYTES: &str = "bytes";

/// What makes two messages the same: the id and the path, as (cluster, namespace) of each hop. Pods
/// may be replaced and times differ between a message and its repeat; a message that came over two
/// branches is two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32]);

impl Key {
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
        let mut key = [0; 32];
        key.copy_from_slice(hash.finish().as_ref());
        Self(key)
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(
        "cannot make the folder `{path}`: {cause}; \
         set FERRY_DATA_DIR to a folder that the pod may write to"
    )]
    Folder { path: PathBuf, cause: io::Error },
    #[error(
        "cannot open `{path}`: {cause}; \
         if another process has it open, stop that process; if it is damaged, move it away"
    )]
    Open { path: PathBuf, cause: String },
    #[error("the store failed: {0}; check space and health of the disk under FERRY_DATA_DIR")]
    Failed(String),
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Failed(error.into().to_string())
    }
}

/// How many records are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            records: MAX_RECORDS,
            bytes: MAX_STORED_BYTES,
        }
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
                Err(_) => Err(Unavailable("the store has ended".into())),
            }
        })
    }
}

/// Tells when the last [`Store`] is gone and the database is closed.
pub(crate) struct Closed(oneshot::Receiver<()>);

impl Closed {
    /// An orderly close spares the next start the check of the whole file.
    pub(crate) async fn wait(self) {
        // Nothing is ever sent: the end of the sender is the message.
        let _ = self.0.await;
    }
}

/// Cheap to clone. The writer ends when the last one is dropped.
#[derive(Clone)]
pub(crate) struct Store {
    // Dropped first: the writer, which the end of the queue ends, closes the database.
    shared: Arc<Shared>,
    queue: mpsc::Sender<Write>,
}

struct Shared {
    database: Database,
    keys: Mutex<HashSet<Key>>,
    retention: Retention,
}

struct Write {
    key: Key,
    message: Message,
    done: oneshot::Sender<Result<Stored, String>>,
}

#[derive(Serialize)]
struct Record<'a> {
    index: u64,
    stored_at: Timestamp,
    message: &'a Message,
}

impl Store {
    /// Opens the store in `dir`, made if need be, and starts its writer. The second value tells
    /// when it is closed.
    pub(crate) fn open(dir: &Path, retention: Retention) -> Result<(Self, Closed), StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|cause| StoreError::Folder {
                path: dir.to_owned(),
                cause,
            })?;
        let path = dir.join(FILE);
        let failed = |cause: String| StoreError::Open {
            path: path.clone(),
            cause,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| failed(error.to_string()))?;
        let database = FileBackend::new(file)
            .and_then(|file| {
                Database::builder()
                    .set_cache_size(CACHE_BYTES)
                    .create_with_backend(file)
            })
            .map_err(|error| failed(error.to_string()))?;
        // The file's name must survive a crash as well.
        std::fs::File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|error| failed(error.to_string()))?;
        let keys = load_keys(&database)?;
        let shared = Arc::new(Shared {
            database,
            keys: Mutex::new(keys),
            retention,
        });
        let (queue, writes) = mpsc::channel(QUEUE);
        let writer = shared.clone();
        let (ended, closed) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                writer.write_all(writes);
                drop(writer);
                drop(ended);
            })
            .map_err(|error| failed(format!("cannot start its thread: {error}")))?;
        Ok((Self { queue, shared }, Closed(closed)))
    }

    /// Whether the message is on disk already.
    pub(crate) fn holds(&self, key: &Key) -> bool {
        self.shared.keys().contains(key)
    }

    /// Queues a message; the order of calls is the order of indexes.
    pub(crate) async fn append(&self, key: Key, message: Message) -> Result<Storing, Unavailable> {
        let (done, stored) = oneshot::channel();
        self.queue
            .send(Write { key, message, done })
            .await
            .map_err(|_| Unavailable("the store has ended".into()))?;
        Ok(Storing(stored))
    }

    /// The records after index `after`, oldest first, one line of JSON each with its index: at most
    /// `most` of them, and no further one once 1 MiB is reached. Blocks on the disk.
    pub(crate) fn read(&self, after: u64, most: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        const ENOUGH_BYTES: usize = 1024 * 1024;
        let Some(first) = after.checked_add(1) else {
            return Ok(Vec::new());
        };
        let transaction = self.shared.database.begin_read()?;
        let table = transaction.open_table(RECORDS)?;
        let mut records = Vec::new();
        let mut bytes = 0;
        for record in table.range(first..)?.take(most) {
            let (index, value) = record?;
            let line = value.value().get(32..).unwrap_or_default().to_vec();
            bytes += line.len();
            records.push((index.value(), line));
            if bytes >= ENOUGH_BYTES {
                break;
            }
        }
        Ok(records)
    }
}

/// Makes the tables, so that reading finds them, and loads the keys.
fn load_keys(database: &Database) -> Result<HashSet<Key>, StoreError> {
    let transaction = database.begin_write()?;
    let mut loaded = HashSet::new();
    {
        transaction.open_table(RECORDS)?;
        transaction.open_table(META)?;
        for entry in transaction.open_table(KEYS)?.iter()? {
            loaded.insert(Key(*entry?.0.value()));
        }
    }
    transaction.commit()?;
    Ok(loaded)
}

impl Shared {
    fn keys(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all(&self, mut writes: mpsc::Receiver<Write>) {
        while let Some(first) = writes.blocking_recv() {
            let mut bytes = first.message.payload.len();
            let mut batch = vec![first];
            while batch.len() < MAX_BATCH
                && bytes < MAX_BATCH_BYTES
                && let Ok(next) = writes.try_recv()
            {
                bytes += next.message.payload.len();
                batch.push(next);
            }
            match self.write(&batch) {
                Ok(results) => {
                    for (write, stored) in batch.into_iter().zip(results) {
                        // The connection may be gone; its sender will ask again and hear `Before`.
                        let _ = write.done.send(Ok(stored));
                    }
                }
                Err(error) => {
                    tracing::error!(messages = batch.len(), "{error}");
                    for write in batch {
                        let _ = write.done.send(Err(error.to_string()));
                    }
                }
            }
        }
    }

    /// Writes a batch as one transaction. Either all of it is on disk afterwards, or nothing.
    fn write(&self, batch: &[Write]) -> Result<Vec<Stored>, StoreError> {
        let transaction = self.database.begin_write()?;
        let mut results = Vec::with_capacity(batch.len());
        let mut added = Vec::new();
        let mut removed = Vec::new();
        {
            let mut records = transaction.open_table(RECORDS)?;
            let mut keys = transaction.open_table(KEYS)?;
            let mut meta = transaction.open_table(META)?;
            let mut next = meta.get(NEXT_INDEX)?.map_or(1, |value| value.value());
            let mut bytes = meta.get(BYTES)?.map_or(0, |value| value.value());
            for Write { key, message, .. } in batch {
                if keys.get(&key.0)?.is_some() {
                    results.push(Stored::Before);
                    continue;
                }
                let value = record(key, next, message)?;
                records.insert(next, value.as_slice())?;
                keys.insert(&key.0, next)?;
                bytes += value.len() as u64;
                next += 1;
                added.push(*key);
                results.push(Stored::Now);
            }
            let mut count = redb::ReadableTableMetadata::len(&records)?;
            // The newest stays in any case: its index is what the next one continues from.
            while count > 1 && (count > self.retention.records || bytes > self.retention.bytes) {
                let Some((_, value)) = records.pop_first()? else {
                    break;
                };
                let value = value.value();
                bytes = bytes.saturating_sub(value.len() as u64);
                count -= 1;
                if let Some(key) = value.first_chunk::<32>() {
                    keys.remove(key)?;
                    removed.push(Key(*key));
                }
            }
            meta.insert(NEXT_INDEX, next)?;
            meta.insert(BYTES, bytes)?;
        }
        transaction.commit()?;
        let mut known = self.keys();
        known.extend(added);
        for key in removed {
            known.remove(&key);
        }
        Ok(results)
    }
}

/// The bytes of one record: its key, then one line of JSON.
fn record(key: &Key, index: u64, message: &Message) -> Result<Vec<u8>, StoreError> {
    let mut bytes = key.0.to_vec();
    let record = Record {
        index,
        stored_at: Timestamp::now(),
        message,
    };
    serde_json::to_writer(&mut bytes, &record)
        .map_err(|error| StoreError::Failed(format!("cannot write a message as JSON: {error}")))?;
    // A payload is kept as it was written, and it may have been written over several lines. In JSON
    // a raw line break is only ever white space between tokens, so a space means the same and keeps
    // the record on one line.
    for byte in bytes.iter_mut().skip(32) {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
