//! Messages, keys and readers on one disk. Blocks; knows no tasks.

use std::{
    collections::HashSet, fs::DirBuilder, io, os::unix::fs::DirBuilderExt as _, path::PathBuf,
    time::Instant,
};

use journal::{Journal, JournalError, Options, Reader};
use messages::Timestamp;

use super::{
    Settings, Shared, Stored,
    keys::KeyLog,
    migration,
    readers::{InvalidReader, Readers},
    record, retention,
    writer::Write,
};
use crate::{config::WhenFull, metrics::StoreMetrics};

#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(
        "cannot use the folder `{path}`: {cause}; \
         set FERRY_DATA_DIR to a folder that the pod may write to"
    )]
    Folder { path: PathBuf, cause: io::Error },
    #[error("{0}; check the disk under FERRY_DATA_DIR")]
    Journal(#[from] JournalError),
    #[error("record {index} has a layout of another version; start the version that wrote it")]
    Record { index: u64 },
    #[error("cannot take over `{path}`: {cause}; if it is damaged, move it away")]
    Migration { path: PathBuf, cause: String },
    #[error("cannot write a message as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("cannot start the thread of the store: {0}")]
    Thread(io::Error),
    #[error("the thread of the store panicked; its log has the reason")]
    Panicked,
}

impl StoreError {
    /// Whether the same may work later, without the operator changing the files.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Folder { .. } | Self::Journal(JournalError::Io { .. }) => true,
            Self::Journal(_)
            | Self::Record { .. }
            | Self::Migration { .. }
            | Self::Json(_)
            | Self::Thread(_)
            | Self::Panicked => false,
        }
    }
}

/// The indexes from which on records do not count after a failure: of messages and of keys.
pub(super) type Cut = Option<(u64, u64)>;

#[derive(Debug)]
pub(super) struct Log {
    settings: Settings,
    messages: Journal,
    keys: KeyLog,
    readers: Readers,
    /// The oldest record, and when it was stored.
    oldest: Option<(u64, u64)>,
}

/// What became of one message of a batch; `Err` if there is no room for it.
pub(super) type Outcome = Result<Stored, String>;

impl Log {
    /// Opens what is in the folder, made if need be, and fills the keys of `shared`.
    pub(super) fn open(settings: &Settings, cut: Cut, shared: &Shared) -> Result<Self, StoreError> {
        let dir = &settings.dir;
        let folder = |cause| StoreError::Folder {
            path: dir.clone(),
            cause,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(folder)?;
        migration::take_over(settings)?;
        let options = |cut_from| Options {
            cut_from,
            disk: settings.disk.clone(),
            ..Options::default()
        };
        let mut messages = Journal::open(
            &dir.join(migration::MESSAGES),
            options(cut.map(|(messages, _)| messages)),
        )?;
        messages.prepare()?;
        let mut keys = shared.keys();
        keys.clear();
        let mut key_log = KeyLog::open(
            &dir.join(migration::KEYS),
            options(cut.map(|(_, keys)| keys)),
            &mut keys,
        )?;
        let reader = messages.reader();
        loop {
            // Far more than a batch: these are the messages since the last record of keys.
            let records = reader.read(key_log.last(), 1024, 8 * 1024 * 1024)?;
            if records.is_empty() {
                break;
            }
            for (index, body) in records {
                let (key, ms) = record::key_and_time(&body).ok_or(StoreError::Record { index })?;
                keys.insert(key, index, ms);
                key_log.add(key, index, ms)?;
            }
        }
        let readers = Readers::open(dir).map_err(folder)?;
        Ok(Self {
            settings: settings.clone(),
            messages,
            keys: key_log,
            readers,
            oldest: None,
        })
    }

    pub(super) fn reader(&self) -> Reader {
        self.messages.reader()
    }

    pub(super) fn cut(&self) -> Cut {
        Some((self.messages.next(), self.keys.next()))
    }

    /// Writes a batch. What is answered with `Ok` is on disk afterwards.
    pub(super) fn append(
        &mut self,
        batch: &[Write],
        shared: &Shared,
        metrics: &StoreMetrics,
    ) -> Result<Vec<Outcome>, StoreError> {
        let refuses = self.settings.retention.when_full == WhenFull::Refuse;
        if refuses {
            self.drop_old(shared, metrics)?;
        }
        let stored_at = Timestamp::now();
        let ms = record::millis(stored_at);
        let mut next = self.messages.next();
        let (mut bytes, most) = (self.messages.bytes(), self.settings.retention.bytes);
        let newest = self.messages.oldest() + self.settings.retention.messages;
        let mut outcomes = Vec::with_capacity(batch.len());
        let (mut bodies, mut added) = (Vec::new(), Vec::new());
        let mut in_batch = HashSet::new();
        for write in batch {
            if in_batch.contains(&write.key) || shared.keys().contains(&write.key) {
                outcomes.push(Ok(Stored::Before));
                continue;
            }
            let body = record::body(&write.key, next, stored_at, &write.message)?;
            bytes += body.len() as u64;
            if refuses && (next >= newest || bytes > most) {
                outcomes.push(Err(self.full()));
                bytes -= body.len() as u64;
                continue;
            }
            bodies.push(body);
            added.push(write.key);
            in_batch.insert(write.key);
            next += 1;
            outcomes.push(Ok(Stored::Now));
        }
        let began = Instant::now();
        let written = self.messages.append(bodies.iter().map(Vec::as_slice))?;
        metrics.committed(began.elapsed());
        {
            let mut keys = shared.keys();
            for (index, key) in written.clone().zip(&added) {
                keys.insert(*key, index, ms);
            }
        }
        for (index, key) in written.zip(added) {
            self.keys.add(key, index, ms)?;
        }
        self.drop_old(shared, metrics)?;
        Ok(outcomes)
    }

    /// Returns the reason for which nothing more is taken, if that is so.
    pub(super) fn fullness(&self) -> Option<String> {
        let retention = &self.settings.retention;
        let is_full = retention.when_full == WhenFull::Refuse
            && (self.messages.records() >= retention.messages
                || self.messages.bytes() >= retention.bytes);
        is_full.then(|| self.full())
    }

    fn full(&self) -> String {
        format!(
            "the store is full: it keeps {} messages in {} bytes, and every reader must have read \
             one before it goes; read them, then send `POST /output/read`",
            self.messages.records(),
            self.messages.bytes()
        )
    }

    /// Remembers durably how far a reader has read.
    pub(super) fn remember(
        &mut self,
        reader: String,
        through: u64,
    ) -> Result<Result<u64, InvalidReader>, StoreError> {
        let last = self.messages.next().saturating_sub(1);
        self.readers
            .remember(reader, through, last)
            .map_err(|cause| StoreError::Folder {
                path: self.settings.dir.clone(),
                cause,
            })
    }

    /// Drops what the retention does not keep, and the keys that need not be known any more.
    pub(super) fn drop_old(
        &mut self,
        shared: &Shared,
        metrics: &StoreMetrics,
    ) -> Result<(), StoreError> {
        let now_ms = record::millis(Timestamp::now());
        let keep = retention::oldest_to_keep(
            &self.settings.retention,
            &self.messages,
            self.readers.all_read(),
            now_ms,
        )?;
        if let Some((oldest, cause)) = keep {
            let dropped = oldest - self.messages.oldest();
            // A key is on disk apart from its message before the message goes.
            self.keys.flush_through(oldest - 1)?;
            self.messages.trim(oldest - 1)?;
            metrics.dropped(cause, dropped, oldest);
        }
        let forgotten = {
            let mut keys = shared.keys();
            keys.forget(self.messages.oldest(), now_ms)
        };
        if let Some(last) = forgotten {
            self.keys.trim(last)?;
        }
        Ok(())
    }

    /// Shows what is kept.
    pub(super) fn measure(&mut self, metrics: &StoreMetrics) -> Result<(), StoreError> {
        let index = self.messages.oldest();
        if self.oldest.is_none_or(|(oldest, _)| oldest != index) {
            let stored = retention::stored_ms(&self.messages, index)?;
            self.oldest = stored.map(|ms| (index, ms));
        }
        let now_ms = record::millis(Timestamp::now());
        let age_ms = self.oldest.map_or(0, |(_, ms)| now_ms.saturating_sub(ms));
        metrics.kept(self.messages.records(), self.messages.bytes(), age_ms);
        Ok(())
    }
}
