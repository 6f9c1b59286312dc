//! The payload of a message.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::limits::MAX_PAYLOAD_BYTES;

/// A message's content: one JSON value, carried byte for byte as it was written, so that numbers,
/// key order and white space reach the sink as they left.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payload(Box<RawValue>);

/// Why a text or a value is not a payload.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPayload {
    #[error("payload is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// `actual` in bytes of JSON text.
    #[error("payload of {actual} bytes is over the limit of {MAX_PAYLOAD_BYTES}")]
    TooLarge { actual: usize },
}

impl Payload {
    /// Takes JSON text as it is, without the white space around it.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidPayload::NotJson`] if the text is not one JSON value.
    pub fn from_text(text: String) -> Result<Self, InvalidPayload> {
        Ok(Self(RawValue::from_string(text)?))
    }

    /// Returns `value` as JSON.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidPayload::NotJson`] if `value` cannot be written as JSON.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, InvalidPayload> {
        Ok(Self(serde_json::value::to_raw_value(value)?))
    }

    /// Parses the payload as a `T`.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidPayload::NotJson`] if the payload is not a `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, InvalidPayload> {
        Ok(serde_json::from_str(self.0.get())?)
    }

    /// Returns the JSON text, moved out.
    pub fn into_text(self) -> String {
        Box::<str>::from(self.0).into_string()
    }

    /// Returns the JSON text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Returns the length of the JSON text in bytes, which [`MAX_PAYLOAD_BYTES`] limits.
    pub fn len(&self) -> usize {
        self.0.get().len()
    }

    /// Returns how deep arrays and objects are nested: 0 for a single value, 1 for `[1, 2]`.
    pub fn depth(&self) -> usize {
        let (mut depth, mut deepest, mut quoted, mut escaped) = (0_usize, 0, false, false);
        for byte in self.0.get().bytes() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b'[' | b'{' if !quoted => {
                    depth += 1;
                    deepest = deepest.max(depth);
                }
                b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        deepest
    }

    /// Returns false for every valid payload: the shortest JSON text is one byte.
    pub fn is_empty(&self) -> bool {
        self.0.get().is_empty()
    }

    /// Checks [`Self::len`] against [`MAX_PAYLOAD_BYTES`].
    ///
    /// # Errors
    ///
    /// Returns [`InvalidPayload::TooLarge`] if the payload is over the limit.
    pub fn check_size(&self) -> Result<(), InvalidPayload> {
        match self.len() {
            actual if actual > MAX_PAYLOAD_BYTES => Err(InvalidPayload::TooLarge { actual }),
            _ => Ok(()),
        }
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Debug for Payload {
    /// Shows the first 120 characters: a log line never carries a megabyte.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head: String = self.as_str().chars().take(120).collect();
        let more = if head.len() < self.len() { "…" } else { "" };
        write!(f, "Payload({head}{more})")
    }
}
