//! An unbuffered standard stream that remembers its first error.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::AsFd,
    sync::OnceLock,
};

use rustix::event::{PollFd, PollFlags, poll};

/// A standard stream, open until a write fails.
pub(super) struct Stream {
    file: io::Result<File>,
    end: OnceLock<End>,
}

/// Why a stream was closed.
enum End {
    /// The reader closed its end and does not need the rest.
    Unread,
    Failed(io::Error),
}

impl Stream {
    /// Duplicates the descriptor of a standard stream.
    ///
    /// `std::io::stdout` is not used for writing: it silently drops data if the descriptor is not
    /// writable. A stream that was closed at the start of the process is `/dev/null`, which Rust
    /// opens before `main`.
    pub(super) fn of(stream: impl AsFd) -> Self {
        Self {
            file: stream.as_fd().try_clone_to_owned().map(File::from),
            end: OnceLock::new(),
        }
    }

    /// Writes a line, in one system call if the system accepts it whole.
    pub(super) fn line(&self, text: &str) {
        if self.is_closed() {
            return;
        }
        let line = [text, "\n"].concat();
        let written = match &self.file {
            Ok(file) => write_whole(file, line.as_bytes()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        if let Err(error) = written {
            let end = match error.kind() {
                // From a pipe, or from a socket.
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => End::Unread,
                _ => End::Failed(error),
            };
            // If two writes fail concurrently, the first error is kept.
            let _ = self.end.set(end);
        }
    }

    /// Returns whether a write has failed.
    pub(super) fn is_closed(&self) -> bool {
        self.end.get().is_some()
    }

    /// Returns the error that closed the stream, or `None` if it is open or its reader is gone.
    pub(super) fn failure(&self) -> Option<&io::Error> {
        match self.end.get() {
            Some(End::Failed(error)) => Some(error),
            Some(End::Unread) | None => None,
        }
    }
}

fn write_whole(mut file: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another program that shares the pipe or terminal made it non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_writable(file)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wait_writable(file: &File) -> io::Result<()> {
    let mut watched = [PollFd::new(file, PollFlags::OUT)];
    match poll(&mut watched, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, os::fd::OwnedFd};

    use super::*;

    #[test]
    fn a_reader_that_goes_away_is_no_failure() {
        let (reader, writer) = io::pipe().unwrap();
        let stream = Stream::of(writer);
        stream.line("read");
        assert!(!stream.is_closed());
        drop(reader);
        stream.line("not read");
        assert!(stream.is_closed() && stream.failure().is_none());
    }

    #[test]
    fn a_stream_that_takes_nothing_says_why() {
        let full = Stream::of(File::options().write(true).open("/dev/full").unwrap());
        full.line("lost");
        assert_eq!(full.failure().unwrap().kind(), io::ErrorKind::StorageFull);
        let read_only = Stream::of(File::open("/dev/null").unwrap());
        read_only.line("lost");
        assert_eq!(
            read_only.failure().unwrap().raw_os_error(),
            Some(9),
            "EBADF"
        );
    }

    #[test]
    fn a_stream_that_does_not_wait_gets_all_of_it() {
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let stream = Stream::of(OwnedFd::from(writer));
        // More than a pipe holds.
        let text = "x".repeat(1 << 20);
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        stream.line(&text);
        assert!(!stream.is_closed());
        drop(stream);
        assert_eq!(reading.join().unwrap(), text + "\n");
    }
}
