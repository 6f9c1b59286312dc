//! The keys of stored messages, by which repeats are known: in memory for looking up, and in a
//! journal of their own, which outlives the messages.

use std::{
    collections::{HashSet, VecDeque},
    path::Path,
    time::Duration,
};

use journal::{Journal, JournalError, Options};

use super::{Key, StoreError};

/// Keys of one set. It fills a table of 2^20 places as far as the table allows: 17 bytes for each
/// place are 20 bytes a key.
const SET: usize = (1 << 20) / 8 * 7;
/// Keys of one record on disk.
const CHUNK: usize = 8192;
/// Version of the layout of such a record: index of the last message, its time, all keys.
const VERSION: u8 = 1;

/// The keys in memory. They are dropped a set at a time.
#[derive(Debug)]
pub(super) struct Keys {
    repeats_ms: u64,
    size: usize,
    sets: VecDeque<Set>,
}

#[derive(Debug, Default)]
struct Set {
    keys: HashSet<Key>,
    /// Of its last message: index, and when it was stored.
    last: u64,
    newest_ms: u64,
}

impl Keys {
    /// Keys that are known for `repeats` at least.
    pub(super) fn new(repeats: Duration) -> Self {
        Self::with_sets_of(SET, repeats)
    }

    pub(super) fn with_sets_of(size: usize, repeats: Duration) -> Self {
        Self {
            repeats_ms: u64::try_from(repeats.as_millis()).unwrap_or(u64::MAX),
            size,
            sets: VecDeque::new(),
        }
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.sets.iter().rev().any(|set| set.keys.contains(key))
    }

    pub(super) fn insert(&mut self, key: Key, index: u64, stored_ms: u64) {
        if self
            .sets
            .back()
            .is_none_or(|set| set.keys.len() >= self.size)
        {
            self.sets.push_back(Set::default());
        }
        if let Some(set) = self.sets.back_mut() {
            set.keys.insert(key);
            set.last = index;
            set.newest_ms = set.newest_ms.max(stored_ms);
        }
    }

    /// Drops sets that are over the time, and whose messages are older than `oldest`. Returns the
    /// index of the last message of what was dropped.
    pub(super) fn forget(&mut self, oldest: u64, now_ms: u64) -> Option<u64> {
        let mut dropped = None;
        while let Some(set) = self.sets.front()
            && set.last < oldest
            && set.newest_ms.saturating_add(self.repeats_ms) < now_ms
        {
            dropped = Some(set.last);
            self.sets.pop_front();
        }
        dropped
    }

    /// Drops everything, to be filled again from disk.
    pub(super) fn clear(&mut self) {
        self.sets.clear();
    }
}

/// The keys on disk, in the order of their messages. The last ones are in the messages only.
#[derive(Debug)]
pub(super) struct KeyLog {
    journal: Journal,
    pending: Vec<Key>,
    /// Index of the last message, and when it was stored.
    last: (u64, u64),
    /// Index in the journal, and of the last message in it.
    chunks: VecDeque<(u64, u64)>,
}

impl KeyLog {
    /// Opens the journal in `dir`, and fills `keys`. What follows the message [`KeyLog::last`] must
    /// be added from the messages.
    pub(super) fn open(dir: &Path, options: Options, keys: &mut Keys) -> Result<Self, StoreError> {
        let mut journal = Journal::open(dir, options)?;
        journal.prepare()?;
        let reader = journal.reader();
        let mut log = Self {
            journal,
            pending: Vec::new(),
            last: (0, 0),
            chunks: VecDeque::new(),
        };
        let mut after = 0;
        loop {
            let chunks = reader.read(after, usize::MAX, 8 * 1024 * 1024)?;
            let Some((last, _)) = chunks.last() else {
                return Ok(log);
            };
            after = *last;
            for (index, body) in chunks {
                log.last = fill(&body, keys).ok_or(StoreError::Record { index })?;
                log.chunks.push_back((index, log.last.0));
            }
        }
    }

    /// Returns the index of the last message whose key was added.
    pub(super) fn last(&self) -> u64 {
        self.last.0
    }

    pub(super) fn next(&self) -> u64 {
        self.journal.next()
    }

    /// Adds the key of the message after the last one.
    pub(super) fn add(&mut self, key: Key, index: u64, stored_ms: u64) -> Result<(), JournalError> {
        self.pending.push(key);
        self.last = (index, stored_ms.max(self.last.1));
        match self.pending.len() < CHUNK {
            true => Ok(()),
            false => self.flush(),
        }
    }

    /// Writes the keys of all messages up to `index`, which are about to be deleted.
    pub(super) fn flush_through(&mut self, index: u64) -> Result<(), JournalError> {
        let first = self.last.0 + 1 - self.pending.len() as u64;
        match first <= index {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut body = vec![VERSION];
        body.extend_from_slice(&self.last.0.to_le_bytes());
        body.extend_from_slice(&self.last.1.to_le_bytes());
        for key in &self.pending {
            body.extend_from_slice(&key.0);
        }
        let written = self.journal.append([body.as_slice()])?;
        self.chunks.push_back((written.start, self.last.0));
        self.pending.clear();
        Ok(())
    }

    /// Deletes the keys of messages up to `index`, as far as whole records have none later.
    pub(super) fn trim(&mut self, index: u64) -> Result<(), JournalError> {
        let mut through = None;
        while let Some((chunk, last)) = self.chunks.front()
            && *last <= index
        {
            through = Some(*chunk);
            self.chunks.pop_front();
        }
        through.map_or(Ok(()), |chunk| self.journal.trim(chunk))
    }

    #[cfg(test)]
    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }
}

/// Adds the keys of a record. Returns the last index and its time.
fn fill(body: &[u8], keys: &mut Keys) -> Option<(u64, u64)> {
    let (version, rest) = body.split_first()?;
    let (last, rest) = rest.split_first_chunk()?;
    let (newest, rest) = rest.split_first_chunk()?;
    let (last, newest) = (u64::from_le_bytes(*last), u64::from_le_bytes(*newest));
    let (all, []) = rest.as_chunks::<{ Key::BYTES }>() else {
        return None;
    };
    let first = last.checked_add(1)?.checked_sub(all.len() as u64)?;
    for (index, key) in (first..).zip(all) {
        keys.insert(Key(*key), index, newest);
    }
    (*version == VERSION).then_some((last, newest))
}
