//! Why a frame cannot be decoded, and what a log may repeat of it.

use std::fmt;

use uuid::Uuid;

/// Why a frame is not a message or acknowledgement.
///
/// If the id of the frame could be read, the error keeps it, so that the receiver can reject that
/// message and go on. Without an id no answer is possible, and the connection is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    id: Option<Uuid>,
    cause: String,
}

/// Most characters that an error repeats from a frame: a peer must not fill our logs.
const MAX_CAUSE_CHARS: usize = 300;

impl DecodeError {
    pub(crate) fn new(id: Option<Uuid>, cause: impl fmt::Display) -> Self {
        Self {
            id,
            cause: shorten(&cause.to_string(), MAX_CAUSE_CHARS),
        }
    }

    /// Returns the id of the message or acknowledgement, if it could be read.
    pub const fn id(&self) -> Option<Uuid> {
        self.id
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            Some(id) => write!(f, "message {id} cannot be read: {}", self.cause),
            None => write!(f, "frame cannot be read: {}", self.cause),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Returns the first `limit` characters of `text`, without control characters, so that it is safe
/// in a log line.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    let mut characters = text.chars().map(|character| match character.is_control() {
        true => '\u{fffd}',
        false => character,
    });
    let mut short: String = characters.by_ref().take(limit).collect();
    if characters.next().is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorten_cuts_and_replaces_control_characters() {
        assert_eq!(shorten("a\nb\u{1b}[31m", 10), "a\u{fffd}b\u{fffd}[31m");
        assert_eq!(shorten("äöü", 2), "äö…");
        assert_eq!(shorten("äö", 2), "äö");
    }
}
