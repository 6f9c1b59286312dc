//! One record in a segment: a header of 24 bytes, the body, and one byte that is not zero.

/// Longest body, in bytes: 256 MiB.
pub const MAX_RECORD_BYTES: usize = 256 * 1024 * 1024;

/// Bytes before the body.
pub(crate) const HEADER: usize = 24;
/// The byte after the body. Files are allocated as zeros, so a record that was written whole ends
/// in a byte that tells.
pub(crate) const END: u8 = 0xA5;

/// The fields before a body, all little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Bytes of the body.
    pub(crate) length: u32,
    /// Number of records of the same batch that follow.
    pub(crate) left: u32,
    pub(crate) index: u64,
    body: u32,
}

impl Header {
    /// Returns the fields of a header, if its checksum is right.
    pub(crate) fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        let (fields, checksum) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(fields) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let four = |at: usize| Some(u32::from_le_bytes(*fields.get(at..)?.first_chunk()?));
        let header = Self {
            length: four(0)?,
            left: four(4)?,
            index: u64::from_le_bytes(*fields.get(8..)?.first_chunk()?),
            body: four(16)?,
        };
        (header.length as usize <= MAX_RECORD_BYTES).then_some(header)
    }

    /// Returns the bytes of the whole record.
    pub(crate) fn size(&self) -> u64 {
        HEADER as u64 + u64::from(self.length) + 1
    }

    /// Returns the index of the last record of the batch.
    pub(crate) fn last(&self) -> u64 {
        self.index.saturating_add(u64::from(self.left))
    }

    /// Whether this is the body, with the byte after it.
    pub(crate) fn fits(&self, bytes: &[u8]) -> bool {
        matches!(bytes.split_last(), Some((&END, body)) if crc32fast::hash(body) == self.body)
    }
}

/// Appends a record to `buffer`. `last` is the index of the last record of its batch.
pub(crate) fn push(buffer: &mut Vec<u8>, index: u64, last: u64, body: &[u8]) {
    let begin = buffer.len();
    buffer.reserve(HEADER + body.len() + 1);
    // The limit of a record and the memory of a batch keep both numbers below 2^32.
    buffer.extend_from_slice(&(body.len() as u32).to_le_bytes());
    buffer.extend_from_slice(&((last - index) as u32).to_le_bytes());
    buffer.extend_from_slice(&index.to_le_bytes());
    buffer.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    let checksum = crc32fast::hash(&buffer[begin..]);
    buffer.extend_from_slice(&checksum.to_le_bytes());
    buffer.extend_from_slice(body);
    buffer.push(END);
}
