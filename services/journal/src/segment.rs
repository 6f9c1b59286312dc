//! One file of a journal: a header of 64 bytes, then records.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    Disk, JournalError, disk,
    record::{self, Header},
};

/// Version of the format of all files of a journal.
pub(crate) const VERSION: u32 = 1;
/// Bytes before the first record.
pub(crate) const HEADER: u64 = 64;
const MAGIC: &[u8; 8] = b"FERRYJNL";
/// Bytes of the header that its checksum covers.
const FIELDS: usize = 36;
/// Bytes between two remembered positions of a segment.
const MARK_BYTES: u64 = 64 * 1024;
const READ_BUFFER: usize = 128 * 1024;

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A segment, named after the index of its first record.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) first: u64,
    pub(crate) path: PathBuf,
    /// Where some records begin, in order: index and offset.
    marks: Mutex<Vec<(u64, u64)>>,
}

/// What the header of a segment says of the one before it.
pub(crate) struct Previous {
    /// Its first index; 0 if there was none.
    pub(crate) first: u64,
    /// Its length, in bytes.
    pub(crate) length: u64,
}

impl Segment {
    pub(crate) fn new(dir: &Path, first: u64) -> Self {
        Self {
            first,
            path: dir.join(format!("{first:020}.log")),
            marks: Mutex::new(vec![(first, HEADER)]),
        }
    }

    /// Returns the segments of a folder in order.
    pub(crate) fn all(dir: &Path) -> Result<Vec<Self>, JournalError> {
        let unread = || JournalError::io("list", dir);
        let mut all = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(unread())? {
            let name = entry.map_err(unread())?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".log"));
            let first = number.filter(|digits| digits.len() == 20);
            if let Some(first) = first.and_then(|digits| digits.parse().ok()) {
                all.push(Self::new(dir, first));
            }
        }
        all.sort_by_key(|segment| segment.first);
        Ok(all)
    }

    /// Makes the file with its header, durably. `previous` is the first index and the length of the
    /// segment before it.
    pub(crate) fn create(
        &self,
        previous: Option<(u64, u64)>,
        disk: &dyn Disk,
    ) -> Result<File, JournalError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(JournalError::io("make", &self.path))?;
        let (first, length) = previous.unwrap_or_default();
        let mut bytes = Vec::with_capacity(HEADER as usize);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(&first.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes.resize(HEADER as usize, 0);
        disk.write(&file, &bytes, 0)
            .and_then(|()| disk.sync(&file))
            .map_err(JournalError::io("make", &self.path))?;
        if let Some(dir) = self.path.parent() {
            disk::sync_folder(dir)?;
        }
        Ok(file)
    }

    /// Reads the header; `None` if a crash kept it from being written.
    pub(crate) fn previous(&self) -> Result<Option<Previous>, JournalError> {
        let mut bytes = Vec::with_capacity(HEADER as usize);
        File::open(&self.path)
            .and_then(|file| file.take(HEADER).read_to_end(&mut bytes))
            .map_err(JournalError::io("read", &self.path))?;
        if bytes.len() < HEADER as usize || bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let damaged = |what| Err(JournalError::damaged(&self.path, 0, what));
        if !bytes.starts_with(MAGIC) {
            return damaged("no header of a segment");
        }
        let found = u32_at(&bytes, 8);
        if found != VERSION {
            let path = self.path.clone();
            return Err(JournalError::Version { path, found });
        }
        let fields = bytes.get(..FIELDS).unwrap_or_default();
        if crc32fast::hash(fields) != u32_at(&bytes, FIELDS) {
            return damaged("the header's checksum is wrong");
        }
        if u64_at(&bytes, 12) != self.first {
            return damaged("the header belongs to another file name");
        }
        Ok(Some(Previous {
            first: u64_at(&bytes, 20),
            length: u64_at(&bytes, 28),
        }))
    }

    /// Remembers where a record begins, if it is far enough from the last one that is remembered.
    pub(crate) fn mark(&self, index: u64, offset: u64) {
        let mut marks = self.marks();
        let after_last = |&(known, at): &(u64, u64)| index > known && offset >= at + MARK_BYTES;
        if marks.last().is_none_or(after_last) {
            marks.push((index, offset));
        }
    }

    /// Returns the last remembered record that is not after `index`.
    fn before(&self, index: u64) -> (u64, u64) {
        let marks = self.marks();
        let after = marks.partition_point(|(known, _)| *known <= index);
        let found = after.checked_sub(1).and_then(|at| marks.get(at));
        found.copied().unwrap_or((self.first, HEADER))
    }

    /// Returns the last remembered record that begins at `offset` or before it.
    pub(crate) fn reaching(&self, offset: u64) -> (u64, u64) {
        let marks = self.marks();
        let after = marks.partition_point(|(_, at)| *at <= offset);
        let found = after.checked_sub(1).and_then(|at| marks.get(at));
        found.copied().unwrap_or((self.first, HEADER))
    }

    fn marks(&self) -> MutexGuard<'_, Vec<(u64, u64)>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads records of one segment in order.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    segment: &'a Segment,
    reader: BufReader<File>,
    length: u64,
    /// Of the next record.
    pub(crate) index: u64,
    /// Where the next record begins.
    pub(crate) offset: u64,
}

impl<'a> Cursor<'a> {
    /// Goes to the record `index`, which is durable, as are all before it. The records of the
    /// segment end before `until`.
    pub(crate) fn at(segment: &'a Segment, index: u64, until: u64) -> Result<Self, JournalError> {
        debug_assert!(index < until);
        let (known, offset) = segment.before(index);
        let mut cursor = Self::new(segment, known, offset)?;
        while cursor.index < index {
            let header = cursor.header()?;
            cursor.skip(&header)?;
        }
        Ok(cursor)
    }

    /// Goes to the record `index` at `offset`.
    pub(crate) fn new(segment: &'a Segment, index: u64, offset: u64) -> Result<Self, JournalError> {
        let file = File::open(&segment.path).map_err(JournalError::io("open", &segment.path))?;
        let read = JournalError::io("read", &segment.path);
        let length = file.metadata().map_err(read)?.len();
        let mut reader = BufReader::with_capacity(READ_BUFFER, file);
        reader
            .seek(SeekFrom::Start(offset))
            .map_err(JournalError::io("read", &segment.path))?;
        Ok(Self {
            segment,
            reader,
            length,
            index,
            offset,
        })
    }

    /// Reads the header of the next record. `None` if there is no valid one.
    pub(crate) fn try_header(&mut self) -> Result<Option<Header>, JournalError> {
        let mut bytes = [0; record::HEADER];
        if !self.fill(&mut bytes)? {
            return Ok(None);
        }
        let header = Header::parse(&bytes).filter(|header| header.index == self.index);
        // A length is believed only if the file has it, so that no number makes it read forever.
        Ok(header.filter(|header| self.offset + header.size() <= self.length))
    }

    fn header(&mut self) -> Result<Header, JournalError> {
        let header = self.try_header()?;
        header.ok_or_else(|| self.damaged("the header of a record is wrong"))
    }

    /// Reads the body of the record whose header was read. `None` if it is not valid.
    pub(crate) fn try_body(&mut self, header: &Header) -> Result<Option<Vec<u8>>, JournalError> {
        let mut body = vec![0; header.length as usize + 1];
        if !self.fill(&mut body)? || !header.fits(&body) {
            return Ok(None);
        }
        body.pop();
        self.advance(header);
        Ok(Some(body))
    }

    /// Reads the next record.
    pub(crate) fn record(&mut self) -> Result<(u64, Vec<u8>), JournalError> {
        let header = self.header()?;
        let body = self.try_body(&header)?;
        let body = body.ok_or_else(|| self.damaged("the checksum of a record is wrong"))?;
        Ok((header.index, body))
    }

    /// Goes past the record whose header was read.
    pub(crate) fn skip(&mut self, header: &Header) -> Result<(), JournalError> {
        self.reader
            .seek_relative(i64::from(header.length) + 1)
            .map_err(JournalError::io("read", &self.segment.path))?;
        self.advance(header);
        Ok(())
    }

    /// Goes past the next record. Returns its bytes.
    pub(crate) fn pass(&mut self) -> Result<u64, JournalError> {
        let header = self.header()?;
        self.skip(&header)?;
        Ok(header.size())
    }

    fn advance(&mut self, header: &Header) {
        self.index += 1;
        self.offset += header.size();
        self.segment.mark(self.index, self.offset);
    }

    /// Fills `bytes`. `false` if the file is shorter.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<bool, JournalError> {
        match self.reader.read_exact(bytes) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(JournalError::io("read", &self.segment.path)(error)),
        }
    }

    fn damaged(&self, what: &'static str) -> JournalError {
        JournalError::damaged(&self.segment.path, self.offset, what)
    }
}
