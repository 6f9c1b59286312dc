//! Finds out at opening what a folder holds, after any end of the process or of the machine.
//!
//! Only the last segment is read. It may end in a batch that was not acknowledged: that one is cut.
//! What else is wrong is damage, and is refused.

use std::{
    collections::VecDeque,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::Arc,
};

use crate::{
    JournalError, Options, disk,
    oldest::{OldestFile, Position},
    reader::{Shared, State},
    record,
    segment::{self, Cursor, Segment},
};

/// Bytes that a disk writes whole or not at all.
const SECTOR: u64 = 512;

/// What [`recover`] found.
pub(crate) struct Recovered {
    pub(crate) shared: Shared,
    pub(crate) oldest: OldestFile,
    /// The last segment.
    pub(crate) file: File,
    /// Its length, in bytes.
    pub(crate) length: u64,
}

/// Reads the folder, which is locked.
pub(crate) fn recover(dir: &Path, options: &Options) -> Result<Recovered, JournalError> {
    let (mut oldest_file, oldest) = OldestFile::open(dir)?;
    let mut segments = Segment::all(dir)?;
    check_chain(&mut segments)?;
    if segments.is_empty() {
        let first = Segment::new(dir, options.first);
        // The first segment comes after the file of the oldest index, so that one was lost.
        if oldest.is_some_and(|oldest| oldest.index != options.first) {
            return Err(JournalError::damaged(&first.path, 0, "no segment is left"));
        }
        let start = Position {
            index: options.first,
            offset: segment::HEADER,
        };
        oldest_file.write(start, &*options.disk)?;
        disk::sync_folder(dir)?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            disk::sync_folder(parent)?;
        }
        first.create(None, &*options.disk)?;
        segments.push(first);
    } else if oldest.is_none() {
        return Err(oldest_file.missing());
    }
    let mut oldest = oldest.unwrap_or(Position {
        index: options.first,
        offset: segment::HEADER,
    });
    // Files that a crash kept from being removed.
    let used = segments.partition_point(|segment| segment.first <= oldest.index);
    for unused in segments.drain(..used.saturating_sub(1)) {
        std::fs::remove_file(&unused.path).map_err(JournalError::io("remove", &unused.path))?;
    }
    let mut all = VecDeque::new();
    for segment in segments {
        let length = std::fs::metadata(&segment.path)
            .map_err(JournalError::io("read", &segment.path))?
            .len();
        all.push_back((Arc::new(segment), length));
    }
    let (Some((first, _)), Some((last, end))) = (all.front().cloned(), all.back_mut()) else {
        return Err(oldest_file.missing());
    };
    let last = last.clone();
    if first.first > oldest.index {
        let what = "the segments before this one are missing";
        return Err(JournalError::damaged(&first.path, 0, what));
    }
    let scan = scan(&last, options.cut_from)?;
    let file = disk::open_or_create(&last.path)?;
    if scan.torn {
        options
            .disk
            .resize(&file, scan.end)
            .and_then(|()| options.disk.sync(&file))
            .map_err(JournalError::io("cut", &last.path))?;
    }
    let length = if scan.torn { scan.end } else { *end };
    *end = scan.end;
    if oldest.index > scan.next {
        let what = "records up to the oldest index are missing";
        return Err(JournalError::damaged(&last.path, scan.end, what));
    }
    if first.first == oldest.index {
        oldest.offset = segment::HEADER;
    }
    let (_, first_end) = all.front().cloned().unwrap_or((last, scan.end));
    if !(segment::HEADER..=first_end).contains(&oldest.offset) {
        return Err(oldest_file.missing());
    }
    let state = State {
        segments: all,
        oldest,
        next: scan.next,
    };
    Ok(Recovered {
        shared: Shared::new(state),
        oldest: oldest_file,
        file,
        length,
    })
}

/// Checks that each segment follows the one before it. Removes a last one that was never begun.
fn check_chain(segments: &mut Vec<Segment>) -> Result<(), JournalError> {
    let mut before: Option<&Segment> = None;
    let mut unbegun = None;
    for (place, segment) in segments.iter().enumerate() {
        let Some(previous) = segment.previous()? else {
            if place + 1 < segments.len() {
                return Err(JournalError::damaged(
                    &segment.path,
                    0,
                    "the header is missing",
                ));
            }
            unbegun = Some(place);
            break;
        };
        if let Some(before) = before {
            let length = std::fs::metadata(&before.path)
                .map_err(JournalError::io("read", &before.path))?
                .len();
            if previous.first != before.first {
                let what = "the segment before this one is missing";
                return Err(JournalError::damaged(&segment.path, 0, what));
            }
            if length < previous.length {
                return Err(JournalError::damaged(
                    &before.path,
                    length,
                    "the end is missing",
                ));
            }
        }
        before = Some(segment);
    }
    if let Some(unbegun) = unbegun.map(|place| segments.remove(place)) {
        std::fs::remove_file(&unbegun.path).map_err(JournalError::io("remove", &unbegun.path))?;
    }
    Ok(())
}

/// What the last segment holds.
struct Scan {
    /// The index after the last record.
    next: u64,
    /// Where that record would begin.
    end: u64,
    /// Whether something behind the end must be cut.
    torn: bool,
}

fn scan(segment: &Segment, cut_from: Option<u64>) -> Result<Scan, JournalError> {
    let mut cursor = Cursor::new(segment, segment.first, segment::HEADER)?;
    let mut scan = Scan {
        next: segment.first,
        end: segment::HEADER,
        torn: false,
    };
    // The last index of the batch that the records so far leave open.
    let mut open_batch = None;
    loop {
        if cut_from.is_some_and(|cut| cursor.index >= cut) {
            scan.torn = true;
            return Ok(scan);
        }
        let begin = cursor.offset;
        let found = match cursor.try_header()? {
            Some(header) => cursor.try_body(&header)?.map(|_| header),
            None => None,
        };
        let Some(header) = found else {
            let tail = Tail::read(segment, begin)?;
            scan.torn = open_batch.is_some() || !tail.is_zero();
            tail.check(cursor.index, open_batch)?;
            return Ok(scan);
        };
        if open_batch.is_some_and(|last| last != header.last()) {
            let what = "a batch is not complete";
            return Err(JournalError::damaged(&segment.path, begin, what));
        }
        open_batch = (header.left > 0).then(|| header.last());
        if open_batch.is_none() {
            (scan.next, scan.end) = (cursor.index, cursor.offset);
        }
    }
}

/// What follows the last valid record of the last segment.
struct Tail<'a> {
    segment: &'a Segment,
    /// Where it begins in the file.
    begin: u64,
    bytes: Vec<u8>,
}

impl<'a> Tail<'a> {
    fn read(segment: &'a Segment, begin: u64) -> Result<Self, JournalError> {
        let mut bytes = Vec::new();
        File::open(&segment.path)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(begin))?;
                file.read_to_end(&mut bytes)
            })
            .map_err(JournalError::io("read", &segment.path))?;
        Ok(Self {
            segment,
            begin,
            bytes,
        })
    }

    fn is_zero(&self) -> bool {
        self.written() == 0
    }

    /// Returns the length up to the last byte that is not zero.
    fn written(&self) -> usize {
        let last = self.bytes.iter().rposition(|byte| *byte != 0);
        last.map_or(0, |last| last + 1)
    }

    /// Fails if the tail is no batch that a crash interrupted. `index` is that of its first record;
    /// `open_batch` is the last index of the batch that this record belongs to, if it is known.
    fn check(&self, index: u64, open_batch: Option<u64>) -> Result<(), JournalError> {
        let what = if self.has_later_batch(index, open_batch) {
            "a record is wrong, and later ones are not"
        } else if !self.is_interrupted(index) {
            "the last record is wrong, and was written whole"
        } else {
            return Ok(());
        };
        Err(JournalError::damaged(&self.segment.path, self.begin, what))
    }

    /// Whether the tail has records of more than one batch. The next batch is written only once the
    /// one before it is on disk.
    fn has_later_batch(&self, index: u64, mut batch: Option<u64>) -> bool {
        self.bytes
            .windows(record::HEADER)
            // Spares the checksum of what was allocated and never written.
            .filter(|bytes| bytes.last_chunk::<8>().is_some_and(|sums| *sums != [0; 8]))
            .filter_map(|bytes| record::Header::parse(bytes.first_chunk()?))
            .filter(|header| header.index >= index)
            .any(|header| *batch.get_or_insert(header.last()) != header.last())
    }

    /// Whether a part of the first record was never written.
    fn is_interrupted(&self, index: u64) -> bool {
        let header = self.bytes.first_chunk().and_then(record::Header::parse);
        let header = header.filter(|header| header.index == index);
        let size = header.map_or(record::HEADER as u64, |header| header.size());
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if header.map_or(self.written() <= size, |_| self.written() < size) {
            return true;
        }
        // Sectors reach the disk in any order, so later ones may be there.
        let mut at = 0;
        while at < size {
            let within = (self.begin + at as u64) % SECTOR;
            let sector_end = at + (SECTOR - within) as usize;
            let Some(sector) = self.bytes.get(at..sector_end.min(self.bytes.len())) else {
                return true;
            };
            if sector.iter().all(|byte| *byte == 0) {
                return true;
            }
            at = sector_end;
        }
        false
    }
}
