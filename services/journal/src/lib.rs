//! An append-only log of records in a folder, in segments, durable when an append returns.
//!
//! Records are bytes with an index: 1 for the first one ever, without gaps across trims and
//! restarts. [`Journal`] is the one writer, [`Reader`] reads beside it. All calls block on the
//! disk, so async callers need a thread for them. `docs/format.md` describes the files.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::{
    fs::File,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

mod disk;
mod oldest;
mod reader;
mod record;
mod recovery;
mod segment;

pub use disk::{Disk, RealDisk};
pub use reader::Reader;
pub use record::MAX_RECORD_BYTES;

use oldest::{OldestFile, Position};
use reader::Shared;
use segment::{Cursor, Segment};

/// Longest buffer that is kept for the next append, in bytes.
const KEPT_BUFFER: usize = 4 * 1024 * 1024;

/// How a journal is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes after which a segment is sealed and the next one begins. The last batch of a segment
    /// may go past it.
    pub segment_bytes: u64,
    /// Bytes that are allocated ahead of the writer.
    pub preallocate: u64,
    /// Index of the first record of a journal that is made. One that is there keeps its own.
    pub first: u64,
    /// Records from this index on are removed at opening. A caller that opens the journal again
    /// after a failed append gives the [`Journal::next`] of before. What that append wrote may be
    /// readable without being on disk.
    pub cut_from: Option<u64>,
    /// What writes and syncs. Tests replace it.
    pub disk: Arc<dyn Disk>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            preallocate: 4 * 1024 * 1024,
            first: 1,
            cut_from: None,
            disk: Arc::new(RealDisk),
        }
    }
}

/// Why a journal cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system refused an operation.
    #[error("cannot {what} `{path}`: {cause}", path = path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        cause: io::Error,
    },
    /// Another journal has the folder open, in this process or in another one.
    #[error("`{path}` is in use by another process; stop that process", path = path.display())]
    InUse { path: PathBuf },
    /// A file holds what no crash can leave behind.
    #[error(
        "`{path}` is damaged at byte {offset}: {what}; restore its folder, or move it away",
        path = path.display()
    )]
    Damaged {
        path: PathBuf,
        offset: u64,
        what: &'static str,
    },
    /// The file is of another version of this program.
    #[error(
        "`{path}` has format version {found}, not {known}; start the version that wrote it",
        path = path.display(), known = segment::VERSION
    )]
    Version { path: PathBuf, found: u32 },
    /// One record of the batch is too long. Nothing was written, and the journal goes on.
    #[error("a record of {bytes} bytes is over the limit of {MAX_RECORD_BYTES}")]
    TooLong { bytes: usize },
    /// An earlier append or trim failed, so the state on disk is unknown.
    #[error("the journal in `{path}` failed before; open it again", path = path.display())]
    Failed { path: PathBuf },
}

impl JournalError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io {
            what,
            path: path.to_owned(),
            cause,
        }
    }

    pub(crate) fn damaged(path: &Path, offset: u64, what: &'static str) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            offset,
            what,
        }
    }
}

/// The writer of a folder. Closing is dropping: everything acknowledged is on disk already.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    options: Options,
    shared: Arc<Shared>,
    oldest: OldestFile,
    /// The last segment, which grows.
    file: File,
    /// Length of that file, with what is allocated ahead; `None` if the file system cannot.
    allocated: Option<u64>,
    buffer: Vec<u8>,
    failed: bool,
    _lock: disk::Lock,
}

impl Journal {
    /// Opens the journal in `dir`, made if need be. Reads the last segment only.
    ///
    /// # Errors
    ///
    /// Returns [`JournalError::InUse`] if the folder is open elsewhere, [`JournalError::Damaged`]
    /// with file and offset if it holds what no crash leaves behind, or the error of the disk.
    pub fn open(dir: &Path, options: Options) -> Result<Self, JournalError> {
        let lock = disk::lock(dir)?;
        let recovered = recovery::recover(dir, &options)?;
        Ok(Self {
            dir: dir.to_owned(),
            options,
            shared: Arc::new(recovered.shared),
            oldest: recovered.oldest,
            file: recovered.file,
            allocated: Some(recovered.length),
            buffer: Vec::new(),
            failed: false,
            _lock: lock,
        })
    }

    /// Appends a batch and returns the indexes of its records. All of it is on disk afterwards.
    ///
    /// # Errors
    ///
    /// Returns [`JournalError::TooLong`] for a record over [`MAX_RECORD_BYTES`]. After any other
    /// error nothing of the batch counts, and every call is refused until the journal is opened
    /// again with [`Options::cut_from`].
    pub fn append<'a>(
        &mut self,
        records: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Range<u64>, JournalError> {
        self.check()?;
        let records: Vec<&[u8]> = records.into_iter().collect();
        if let Some(long) = records.iter().find(|body| body.len() > MAX_RECORD_BYTES) {
            return Err(JournalError::TooLong { bytes: long.len() });
        }
        let next = self.next();
        let Some(last) = (records.len() as u64).checked_sub(1) else {
            return Ok(next..next);
        };
        let written = self.write(&records, next, next + last);
        self.failed = written.is_err();
        written?;
        Ok(next..next + last + 1)
    }

    fn write(&mut self, records: &[&[u8]], next: u64, last: u64) -> Result<(), JournalError> {
        let (mut segment, mut end) = self.shared.active();
        if end >= self.options.segment_bytes && segment.first < next {
            (segment, end) = self.roll(&segment, end, next)?;
        }
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BUFFER);
        let mut marks = Vec::new();
        for (index, body) in (next..).zip(records) {
            marks.push((index, end + self.buffer.len() as u64));
            record::push(&mut self.buffer, index, last, body);
        }
        let after = end + self.buffer.len() as u64;
        self.allocate(&segment, after)?;
        let disk = &self.options.disk;
        let durable = disk
            .write(&self.file, &self.buffer, end)
            .map_err(JournalError::io("write", &segment.path))
            .and_then(|()| {
                let synced = disk.sync(&self.file);
                synced.map_err(JournalError::io("sync", &segment.path))
            });
        if let Err(error) = durable {
            // Best effort: `cut_from` removes it at the next opening in any case.
            let _ = disk.resize(&self.file, end);
            return Err(error);
        }
        for (index, offset) in marks {
            segment.mark(index, offset);
        }
        self.shared.appended(after, last + 1);
        Ok(())
    }

    /// Makes the file at least `after` bytes long, and some more.
    fn allocate(&mut self, segment: &Segment, after: u64) -> Result<(), JournalError> {
        let Some(allocated) = self.allocated.filter(|allocated| *allocated < after) else {
            return Ok(());
        };
        let wanted = after.max(allocated + self.options.preallocate);
        let disk = &self.options.disk;
        self.allocated = match disk.allocate(&self.file, allocated, wanted - allocated) {
            Ok(()) => Some(wanted),
            Err(error) if disk::cannot_allocate(&error) => None,
            Err(error) => return Err(JournalError::io("extend", &segment.path)(error)),
        };
        Ok(())
    }

    /// Seals the last segment and begins the next one.
    fn roll(
        &mut self,
        sealed: &Segment,
        end: u64,
        first: u64,
    ) -> Result<(Arc<Segment>, u64), JournalError> {
        let disk = &self.options.disk;
        disk.resize(&self.file, end)
            .and_then(|()| disk.sync(&self.file))
            .map_err(JournalError::io("seal", &sealed.path))?;
        let segment = Segment::new(&self.dir, first);
        self.file = segment.create(Some((sealed.first, end)), &**disk)?;
        self.allocated = Some(segment::HEADER);
        let segment = Arc::new(segment);
        let unused = self.shared.began(segment.clone());
        remove(&unused)?;
        Ok((segment, segment::HEADER))
    }

    /// Forgets the records up to and including `through`, durably. Files are deleted once all of
    /// their records are forgotten. A `through` past the end forgets everything.
    ///
    /// # Errors
    ///
    /// Returns the error of the disk; the journal is unusable afterwards, as after a failed append.
    pub fn trim(&mut self, through: u64) -> Result<(), JournalError> {
        self.check()?;
        let target = through.saturating_add(1).min(self.next());
        if target <= self.oldest() {
            return Ok(());
        }
        let trimmed = self.trim_to(target);
        self.failed = trimmed.is_err();
        trimmed
    }

    fn trim_to(&mut self, target: u64) -> Result<(), JournalError> {
        let offset = match self.shared.holder(target) {
            Some((segment, until)) => Cursor::at(&segment, target, until)?.offset,
            None => self.shared.active().1,
        };
        let position = Position {
            index: target,
            offset,
        };
        self.oldest.write(position, &*self.options.disk)?;
        remove(&self.shared.trimmed(position))
    }

    /// Allocates space ahead of the next append, and writes the oldest index again. A caller that
    /// opens a journal after a failure learns from it whether the disk takes writes again.
    ///
    /// # Errors
    ///
    /// Returns the error of the disk; the journal is unusable afterwards, as after a failed append.
    pub fn prepare(&mut self) -> Result<(), JournalError> {
        self.check()?;
        let (segment, end) = self.shared.active();
        let oldest = self.shared.state().oldest;
        let prepared = self
            .allocate(&segment, end + self.options.preallocate)
            .and_then(|()| self.oldest.write(oldest, &*self.options.disk));
        self.failed = prepared.is_err();
        prepared
    }

    fn check(&self) -> Result<(), JournalError> {
        let path = self.dir.clone();
        match self.failed {
            true => Err(JournalError::Failed { path }),
            false => Ok(()),
        }
    }

    /// Returns a reader, which may outlive the writer.
    pub fn reader(&self) -> Reader {
        Reader(self.shared.clone())
    }

    /// Returns the index of the oldest record that is kept; the index of the next one if none is.
    pub fn oldest(&self) -> u64 {
        self.shared.state().oldest.index
    }

    /// Returns the index that the next record gets.
    pub fn next(&self) -> u64 {
        self.shared.state().next
    }

    /// Returns the bytes of all records that are kept, with their headers.
    pub fn bytes(&self) -> u64 {
        self.shared.state().bytes()
    }

    /// Returns the number of records that are kept.
    pub fn records(&self) -> u64 {
        self.shared.state().records()
    }

    /// Returns the index of the oldest record to keep, so that the kept ones have at most `bytes`
    /// in the sense of [`Journal::bytes`].
    ///
    /// # Errors
    ///
    /// Returns [`JournalError::Damaged`] or the error of the disk if a segment cannot be read.
    pub fn oldest_within(&self, bytes: u64) -> Result<u64, JournalError> {
        self.reader().oldest_within(bytes)
    }
}

/// Removes the files of segments without records that are kept.
fn remove(segments: &[Arc<Segment>]) -> Result<(), JournalError> {
    for segment in segments {
        std::fs::remove_file(&segment.path).map_err(JournalError::io("remove", &segment.path))?;
    }
    Ok(())
}
