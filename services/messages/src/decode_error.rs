use std::fmt;

use uuid::Uuid;

/// Why a frame is no message or acknowledgement.
///
/// Where the frame still told its id, the error keeps it, so that the receiver can reject that message with this
/// reason and go on; without an id there is nobody to answer, and the connection is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    id: Option<Uuid>,
    cause: String,
}

/// Longest text that an error repeats from a frame: a peer must not write our logs.
const MAX_CAUSE_CHARS: usize = 300;

impl DecodeError {
    pub(crate) fn new(id: Option<Uuid>, cause: impl fmt::Display) -> Self {
        Self {
            id,
            cause: shorten(&cause.to_string(), MAX_CAUSE_CHARS),
        }
    }

    /// Id of the message or acknowledgement, where it could be read.
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

/// The first `limit` characters of `text`, without control characters, so that it is safe in a log line.
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
    fn what_a_peer_wrote_is_shortened_and_loses_its_control_characters() {
        assert_eq!(shorten("a\nb\u{1b}[31m", 10), "a\u{fffd}b\u{fffd}[31m");
        assert_eq!(shorten("äöü", 2), "äö…");
        assert_eq!(shorten("äö", 2), "äö");
    }
}
