//! Reads durable records beside the writer.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    JournalError,
    oldest::Position,
    segment::{self, Cursor, Segment},
};

/// What writer and readers share.
#[derive(Debug)]
pub(crate) struct Shared(Mutex<State>);

#[derive(Debug)]
pub(crate) struct State {
    /// In order, each with the end of its durable records; never empty.
    pub(crate) segments: VecDeque<(Arc<Segment>, u64)>,
    /// The oldest record that is kept, in the first segment.
    pub(crate) oldest: Position,
    pub(crate) next: u64,
}

impl State {
    pub(crate) fn bytes(&self) -> u64 {
        let ends = self.segments.iter().map(|(_, end)| end - segment::HEADER);
        let all: u64 = ends.sum();
        all.saturating_sub(self.oldest.offset - segment::HEADER)
    }

    pub(crate) fn records(&self) -> u64 {
        self.next - self.oldest.index
    }

    /// Returns the position of the segment with the record `index`.
    fn place(&self, index: u64) -> usize {
        let after = self.segments.partition_point(|(one, _)| one.first <= index);
        after.saturating_sub(1)
    }

    /// Returns the index after the last record of a segment.
    fn until(&self, place: usize) -> u64 {
        let following = self.segments.get(place + 1);
        following.map_or(self.next, |(segment, _)| segment.first)
    }

    /// Takes the segments away that have no record from the oldest one on.
    fn unused(&mut self) -> Vec<Arc<Segment>> {
        let mut unused = Vec::new();
        while self.segments.len() > 1 && self.until(0) <= self.oldest.index {
            unused.extend(self.segments.pop_front().map(|(segment, _)| segment));
        }
        if let Some((first, _)) = self.segments.front()
            && first.first == self.oldest.index
        {
            self.oldest.offset = segment::HEADER;
        }
        unused
    }
}

impl Shared {
    pub(crate) fn new(state: State) -> Self {
        Self(Mutex::new(state))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the segment that grows, and its end.
    pub(crate) fn active(&self) -> (Arc<Segment>, u64) {
        let state = self.state();
        let last = state.segments.back();
        last.cloned()
            .unwrap_or_else(|| unreachable!("a journal has a segment"))
    }

    /// Returns the segment that holds the record `index`, and the index after its last record.
    pub(crate) fn holder(&self, index: u64) -> Option<(Arc<Segment>, u64)> {
        let state = self.state();
        if !(state.oldest.index..state.next).contains(&index) {
            return None;
        }
        let place = state.place(index);
        let (segment, _) = state.segments.get(place)?;
        Some((segment.clone(), state.until(place)))
    }

    pub(crate) fn appended(&self, end: u64, next: u64) {
        let mut state = self.state();
        if let Some(last) = state.segments.back_mut() {
            last.1 = end;
        }
        state.next = next;
    }

    /// Adds a segment. Returns those that are unused now.
    pub(crate) fn began(&self, segment: Arc<Segment>) -> Vec<Arc<Segment>> {
        let mut state = self.state();
        state.segments.push_back((segment, segment::HEADER));
        state.unused()
    }

    /// Moves the oldest record. Returns the segments that are unused now.
    pub(crate) fn trimmed(&self, oldest: Position) -> Vec<Arc<Segment>> {
        let mut state = self.state();
        state.oldest = oldest;
        state.unused()
    }
}

/// Reads durable records beside the writer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader(pub(crate) Arc<Shared>);

impl Reader {
    /// Returns the records after index `after` with their indexes, oldest first: at most `most`,
    /// and no further one once their bodies have `enough_bytes` bytes. Begins at the oldest record
    /// if `after` is before it.
    ///
    /// # Errors
    ///
    /// Returns [`JournalError::Damaged`] with file and offset if a record is not what was written,
    /// or the error of the disk.
    pub fn read(
        &self,
        after: u64,
        most: usize,
        enough_bytes: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, JournalError> {
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut from = after.saturating_add(1);
        while records.len() < most && bytes < enough_bytes {
            from = from.max(self.oldest());
            let Some((segment, until)) = self.0.holder(from) else {
                break;
            };
            let mut cursor = match Cursor::at(&segment, from, until) {
                Ok(cursor) => cursor,
                // Trimmed meanwhile.
                Err(JournalError::Io { cause, .. })
                    if cause.kind() == io::ErrorKind::NotFound && self.oldest() >= until =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            };
            while cursor.index < until && records.len() < most && bytes < enough_bytes {
                let (index, body) = cursor.record()?;
                bytes += body.len();
                records.push((index, body));
            }
            from = cursor.index;
        }
        Ok(records)
    }

    /// Returns the index of the oldest record that is kept; the index of the next one if none is.
    pub fn oldest(&self) -> u64 {
        self.0.state().oldest.index
    }

    /// Returns the index that the next record gets.
    pub fn next(&self) -> u64 {
        self.0.state().next
    }

    /// Returns the bytes of all records that are kept, with their headers.
    pub fn bytes(&self) -> u64 {
        self.0.state().bytes()
    }

    /// Returns the number of records that are kept.
    pub fn records(&self) -> u64 {
        self.0.state().records()
    }

    pub(crate) fn oldest_within(&self, bytes: u64) -> Result<u64, JournalError> {
        let (found, mut excess) = {
            let state = self.0.state();
            let Some(mut excess) = state.bytes().checked_sub(bytes).filter(|more| *more > 0) else {
                return Ok(state.oldest.index);
            };
            // As if nothing was trimmed from the first segment.
            excess += state.oldest.offset - segment::HEADER;
            let mut found = None;
            for (place, (segment, end)) in state.segments.iter().enumerate() {
                let size = end - segment::HEADER;
                if size >= excess {
                    found = Some((segment.clone(), state.until(place)));
                    break;
                }
                excess -= size;
            }
            (found, excess)
        };
        let Some((segment, until)) = found else {
            return Ok(self.next());
        };
        let from = segment.reaching(segment::HEADER + excess);
        let mut cursor = Cursor::new(&segment, from.0, from.1)?;
        excess = excess.saturating_sub(from.1 - segment::HEADER);
        while cursor.index < until && excess > 0 {
            excess = excess.saturating_sub(cursor.pass()?);
        }
        Ok(cursor.index)
    }
}
