//! The file that remembers the oldest record that is kept.
//!
//! It has two slots that are written in turn, so that one of them is whole after any crash.

use std::{fs::File, os::unix::fs::FileExt as _, path::Path, path::PathBuf};

use crate::{
    Disk, JournalError, disk,
    segment::{self, VERSION},
};

/// Name of the file.
const FILE: &str = "oldest";
const MAGIC: &[u8; 8] = b"FERRYOLD";
/// Bytes between the slots: no sector has both.
const SLOT: u64 = 4096;
/// Bytes of a slot that are used.
const USED: usize = 40;

/// Where a record begins: its index, and the offset in the segment that has this index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) index: u64,
    pub(crate) offset: u64,
}

#[derive(Debug)]
pub(crate) struct OldestFile {
    path: PathBuf,
    file: File,
    /// Number of writes so far.
    count: u64,
}

impl OldestFile {
    /// Opens the file of `dir`. Returns `None` as position if it was never written.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Option<Position>), JournalError> {
        let path = dir.join(FILE);
        let file = disk::open_or_create(&path)?;
        let mut newest = None;
        for slot in 0..2 {
            if let Some((count, position)) = read(&file, &path, slot)?
                && newest.is_none_or(|(newest, _)| newest < count)
            {
                newest = Some((count, position));
            }
        }
        let count = newest.map_or(0, |(count, _)| count);
        let position = newest.map(|(_, position)| position);
        Ok((Self { path, file, count }, position))
    }

    /// Remembers `position` durably.
    pub(crate) fn write(
        &mut self,
        position: Position,
        disk: &dyn Disk,
    ) -> Result<(), JournalError> {
        let count = self.count + 1;
        let mut bytes = Vec::with_capacity(USED);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&position.index.to_le_bytes());
        bytes.extend_from_slice(&position.offset.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        disk.write(&self.file, &bytes, count % 2 * SLOT)
            .and_then(|()| disk.sync(&self.file))
            .map_err(JournalError::io("write", &self.path))?;
        self.count = count;
        Ok(())
    }

    pub(crate) fn missing(&self) -> JournalError {
        JournalError::damaged(&self.path, 0, "the oldest index is missing")
    }
}

/// Returns the count and the position of a slot; `None` if it was not written whole.
fn read(file: &File, path: &Path, slot: u64) -> Result<Option<(u64, Position)>, JournalError> {
    let mut bytes = [0; USED];
    match file.read_exact_at(&mut bytes, slot * SLOT) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(JournalError::io("read", path)(error)),
    }
    let Some((fields, checksum)) = bytes.split_last_chunk::<4>() else {
        return Ok(None);
    };
    if crc32fast::hash(fields) != u32::from_le_bytes(*checksum) || !fields.starts_with(MAGIC) {
        return Ok(None);
    }
    let found = segment::u32_at(fields, 8);
    if found != VERSION {
        let path = path.to_owned();
        return Err(JournalError::Version { path, found });
    }
    let position = Position {
        index: segment::u64_at(fields, 20),
        offset: segment::u64_at(fields, 28),
    };
    Ok(Some((segment::u64_at(fields, 12), position)))
}
