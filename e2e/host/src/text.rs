//! Text files and standard input, decoded by [`blueprint::text`].

use std::{io, path::Path};

use blueprint::text::decode;

/// Reads a file, as [`decode`] does.
///
/// # Errors
///
/// The system's error, or `InvalidData` where it holds no text.
pub fn read(path: &Path) -> io::Result<String> {
    decode(std::fs::read(path)?)
}

/// Reads standard input to its end, as [`decode`] does.
///
/// # Errors
///
/// The system's error, or `InvalidData` where no text came.
pub fn read_standard_input() -> io::Result<String> {
    let mut bytes = vec![];
    io::Read::read_to_end(&mut io::stdin().lock(), &mut bytes)?;
    decode(bytes)
}
