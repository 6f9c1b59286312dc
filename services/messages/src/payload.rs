use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::limits::MAX_PAYLOAD_BYTES;

/// A message's content: one JSON value, carried byte for byte as it was written, so that numbers, key order and
/// white space reach the sink as they left.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payload(Box<RawValue>);

#[derive(Debug, thiserror::Error)]
pub enum InvalidPayload {
    #[error("payload is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("payload of {actual} bytes is over the limit of {MAX_PAYLOAD_BYTES}")]
    TooLarge { actual: usize },
}

impl Payload {
    /// Takes JSON text as it is, but for white space around it, which is no part of a JSON value.
    pub fn from_text(text: String) -> Result<Self, InvalidPayload> {
        Ok(Self(RawValue::from_string(text)?))
    }

    /// Writes `value` as JSON.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, InvalidPayload> {
        Ok(Self(serde_json::value::to_raw_value(value)?))
    }

    /// Reads the payload as a `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, InvalidPayload> {
        Ok(serde_json::from_str(self.0.get())?)
    }

    /// The JSON text, moved out.
    pub fn into_text(self) -> String {
        Box::<str>::from(self.0).into_string()
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Length of the JSON text in bytes: what [`MAX_PAYLOAD_BYTES`] limits.
    pub fn len(&self) -> usize {
        self.0.get().len()
    }

    /// How deep its arrays and objects are nested: 0 for a single value, 1 for `[1, 2]`.
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

    /// Never true of a valid payload: the shortest JSON text is one byte.
    pub fn is_empty(&self) -> bool {
        self.0.get().is_empty()
    }

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
    /// The first 120 characters: a log line never carries a megabyte.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head: String = self.as_str().chars().take(120).collect();
        let more = if head.len() < self.len() { "…" } else { "" };
        write!(f, "Payload({head}{more})")
    }
}
