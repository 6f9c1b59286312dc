//! What a journal asks of the operating system.

use std::{
    fmt,
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::{fs::FallocateFlags, io::Errno};

use crate::JournalError;

/// Name of the file whose lock says that a folder is open.
const LOCK: &str = "lock";

/// How files are changed. The provided methods do it; a test replaces some of them with failures.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system.
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    /// Makes durable what was written, as `fdatasync` does.
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Allocates `bytes` bytes of zeros from `offset` on, which is the end of the file.
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system.
    fn allocate(&self, file: &File, offset: u64, bytes: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(
            file,
            FallocateFlags::empty(),
            offset,
            bytes,
        )?)
    }

    /// Cuts or extends the file to `length` bytes.
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system.
    fn resize(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }
}

/// The disk of the operating system.
#[derive(Clone, Copy, Debug)]
pub struct RealDisk;

impl Disk for RealDisk {}

/// Whether the file system has no allocation ahead, rather than no space.
pub(crate) fn cannot_allocate(error: &io::Error) -> bool {
    let refusals = [Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL];
    Errno::from_io_error(error).is_some_and(|errno| refusals.contains(&errno))
}

/// The lock of a folder.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    /// A process that is being started holds a copy of the file until it runs its program, so
    /// closing it here would not end the lock.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Makes the folder if need be, and locks it.
pub(crate) fn lock(dir: &Path) -> Result<Lock, JournalError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(JournalError::io("make the folder", dir))?;
    let path = dir.join(LOCK);
    let file = open_or_create(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse {
            path: dir.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(JournalError::io("lock", &path)(error)),
    }
}

/// Opens a file for reading and writing; a new one is for its owner only.
pub(crate) fn open_or_create(path: &Path) -> Result<File, JournalError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(JournalError::io("open", path))
}

/// Makes the names of new files durable.
pub(crate) fn sync_folder(dir: &Path) -> Result<(), JournalError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(JournalError::io("sync the folder", dir))
}
