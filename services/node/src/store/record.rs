//! The body of one stored message in the journal.

use messages::{Message, Timestamp};
use serde::Serialize;

use super::Key;

/// Version of the layout: key, time and line follow.
const VERSION: u8 = 1;
/// Bytes before the line: version, key, milliseconds since 1970 (little-endian).
const HEAD: usize = 1 + Key::BYTES + 8;

#[derive(Serialize)]
struct Line<'a> {
    index: u64,
    stored_at: Timestamp,
    message: &'a Message,
}

/// Returns a body.
pub(super) fn body(
    key: &Key,
    index: u64,
    stored_at: Timestamp,
    message: &Message,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = head(key, millis(stored_at));
    let line = Line {
        index,
        stored_at,
        message,
    };
    serde_json::to_writer(&mut bytes, &line)?;
    // A payload is kept as it was written, and it may have been written over several lines. In JSON
    // a raw line break is only ever white space between tokens, so a space means the same and keeps
    // the record on one line.
    for byte in bytes.iter_mut().skip(HEAD) {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    Ok(bytes)
}

/// Returns a body with a line that was written before.
pub(super) fn body_of_line(key: &Key, stored_ms: u64, line: &[u8]) -> Vec<u8> {
    let mut bytes = head(key, stored_ms);
    bytes.extend_from_slice(line);
    bytes
}

fn head(key: &Key, stored_ms: u64) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&key.0);
    bytes.extend_from_slice(&stored_ms.to_le_bytes());
    bytes
}

/// Returns the line of a body; `None` if it has another layout.
pub(super) fn line(mut body: Vec<u8>) -> Option<Vec<u8>> {
    key_and_time(&body)?;
    body.drain(..HEAD);
    Some(body)
}

/// Returns the key of a body and when it was stored, in milliseconds since 1970.
pub(super) fn key_and_time(body: &[u8]) -> Option<(Key, u64)> {
    let (version, rest) = body.split_first()?;
    let (key, rest) = rest.split_first_chunk()?;
    let time = rest.first_chunk()?;
    (*version == VERSION).then(|| (Key(*key), u64::from_le_bytes(*time)))
}

/// Returns the milliseconds since 1970; 0 before it.
pub(super) fn millis(time: Timestamp) -> u64 {
    u64::try_from(time.as_jiff().as_millisecond()).unwrap_or(0)
}
