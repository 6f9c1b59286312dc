//! The JSON encoding: one object a WebSocket text frame, `"type": "message"` or `"type": "ack"`,
//! with the fields of [`Message`] or [`Ack`]. `docs/asyncapi.yaml` describes it for other
//! languages.
//!
//! Unknown members are ignored, so that a later version may add some. A duplicate member is an
//! error.

use std::borrow::Cow;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use uuid::Uuid;

use crate::{Ack, DecodeError, Hop, Message, Outcome, Payload, limits::KEPT_HOPS};

/// The content of one text frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    Message(Message),
    Ack(Ack),
}

/// `{"type":"message", …}`
pub fn encode_message(message: &Message) -> String {
    written(&MessageOut {
        kind: Kind::Message,
        id: message.id,
        blueprint: &message.blueprint,
        seq: message.seq,
        payload: &message.payload,
        trail: &message.trail,
    })
}

/// `{"type":"ack", …}`
pub fn encode_ack(ack: &Ack) -> String {
    let (outcome, reason) = match &ack.outcome {
        Outcome::Delivered => (OutcomeWord::Delivered, None),
        Outcome::Rejected { reason } => (OutcomeWord::Rejected, Some(reason.as_str())),
    };
    written(&AckOut {
        kind: Kind::Ack,
        id: ack.id,
        outcome,
        reason,
        trail: &ack.trail,
    })
}

/// Decodes one frame. Sizes are checked by [`Message::validate`]. An overlong trail is cut to one
/// hop more than the limit.
///
/// # Errors
///
/// Returns what is wrong with the frame, with its id if that could be read.
pub fn decode(text: &str) -> Result<Frame, DecodeError> {
    let kind = match Kind::written_first(text) {
        Some(kind) => kind,
        None => Kind::of(text)?,
    };
    match kind {
        Kind::Message => serde_json::from_str::<MessageIn>(text).map(Frame::from),
        Kind::Ack => serde_json::from_str::<AckIn>(text)
            .and_then(Ack::try_from)
            .map(Frame::Ack),
    }
    .map_err(|error| DecodeError::new(id_of(text), error))
}

/// Decodes one frame of bytes that may not be text, see [`decode`].
///
/// # Errors
///
/// Returns what is wrong with the frame, with its id if that could be read.
pub fn decode_slice(bytes: &[u8]) -> Result<Frame, DecodeError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => decode(text),
        Err(error) => Err(DecodeError::new(
            None,
            format_args!("it is not UTF-8 after byte {}", error.valid_up_to()),
        )),
    }
}

/// Returns the id of a frame that is otherwise wrong.
fn id_of(text: &str) -> Option<Uuid> {
    #[derive(Deserialize)]
    struct Head {
        id: Uuid,
    }
    serde_json::from_str::<Head>(text).ok().map(|head| head.id)
}

fn written(frame: &impl Serialize) -> String {
    serde_json::to_string(frame).expect("strings, numbers and raw JSON can always be written")
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Message,
    Ack,
}

impl Kind {
    /// Returns the kind of a frame that names it first, as ours do. It saves a pass over the frame.
    fn written_first(text: &str) -> Option<Self> {
        if text.starts_with(r#"{"type":"message","#) {
            Some(Self::Message)
        } else if text.starts_with(r#"{"type":"ack","#) {
            Some(Self::Ack)
        } else {
            None
        }
    }

    fn of(text: &str) -> Result<Self, DecodeError> {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(rename = "type", borrow)]
            kind: Cow<'a, str>,
        }
        let head: Head =
            serde_json::from_str(text).map_err(|error| DecodeError::new(id_of(text), error))?;
        match head.kind.as_ref() {
            "message" => Ok(Self::Message),
            "ack" => Ok(Self::Ack),
            other => Err(DecodeError::new(
                id_of(text),
                format_args!("`type` is `{other}`, expected `message` or `ack`"),
            )),
        }
    }
}

#[derive(Serialize)]
struct MessageOut<'a> {
    #[serde(rename = "type")]
    kind: Kind,
    id: Uuid,
    blueprint: &'a str,
    seq: u64,
    payload: &'a Payload,
    trail: &'a [Hop],
}

#[derive(Deserialize)]
struct MessageIn {
    /// Read only to notice a duplicate.
    #[serde(rename = "type")]
    _kind: Kind,
    id: Uuid,
    blueprint: String,
    seq: u64,
    payload: Payload,
    #[serde(default, deserialize_with = "trail")]
    trail: Vec<Hop>,
}

impl From<MessageIn> for Frame {
    fn from(read: MessageIn) -> Self {
        Self::Message(Message {
            id: read.id,
            blueprint: read.blueprint,
            seq: read.seq,
            payload: read.payload,
            trail: read.trail,
        })
    }
}

#[derive(Serialize)]
struct AckOut<'a> {
    #[serde(rename = "type")]
    kind: Kind,
    id: Uuid,
    outcome: OutcomeWord,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    trail: &'a [Hop],
}

#[derive(Deserialize)]
struct AckIn {
    /// Read only to notice a duplicate.
    #[serde(rename = "type")]
    _kind: Kind,
    id: Uuid,
    outcome: OutcomeWord,
    reason: Option<String>,
    #[serde(default, deserialize_with = "trail")]
    trail: Vec<Hop>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OutcomeWord {
    Delivered,
    Rejected,
}

impl TryFrom<AckIn> for Ack {
    type Error = serde_json::Error;

    fn try_from(read: AckIn) -> Result<Self, Self::Error> {
        let outcome = match (read.outcome, read.reason) {
            (OutcomeWord::Delivered, _) => Outcome::Delivered,
            (OutcomeWord::Rejected, Some(reason)) => Outcome::Rejected { reason },
            (OutcomeWord::Rejected, None) => {
                return Err(serde::de::Error::missing_field("reason"));
            }
        };
        Ok(Self {
            id: read.id,
            outcome,
            trail: read.trail,
        })
    }
}

/// Reads a trail and keeps no more than [`KEPT_HOPS`] of it.
fn trail<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Hop>, D::Error> {
    struct Hops;

    impl<'de> Visitor<'de> for Hops {
        type Value = Vec<Hop>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of hops")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut hops = Vec::new();
            while hops.len() < KEPT_HOPS {
                match list.next_element()? {
                    Some(hop) => hops.push(hop),
                    None => return Ok(hops),
                }
            }
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(hops)
        }
    }

    deserializer.deserialize_seq(Hops)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn error(text: &str) -> DecodeError {
        decode(text).unwrap_err()
    }

    #[test]
    fn frame_type_may_come_last() {
        let message = samples::message(1);
        let text = encode_message(&message);
        let late = text.replacen(r#""type":"message","#, "", 1);
        let late = format!(
            r#"{},"type" : "message", "later": [1]}}"#,
            &late[..late.len() - 1]
        );
        assert_eq!(decode(&text).unwrap(), Frame::Message(message.clone()));
        assert_eq!(decode(&late).unwrap(), Frame::Message(message));
    }

    #[test]
    fn null_payload_is_read_missing_one_refused() {
        let mut message = samples::message(0);
        message.payload = Payload::from_text("null".into()).unwrap();
        let text = encode_message(&message);
        assert_eq!(decode(&text).unwrap(), Frame::Message(message));
        let error = error(&text.replacen(r#""payload":null,"#, "", 1));
        assert!(error.to_string().contains("payload"), "{error}");
        assert!(error.id().is_some(), "{error}");
    }

    #[test]
    fn wrong_frame_keeps_readable_id() {
        let text = encode_message(&samples::message(1));
        for (was, wrong) in [
            (r#""role":"gateway""#, r#""role":"pirate""#),
            (r#""seq":1"#, r#""seq":-1"#),
            (r#""type":"message""#, r#""type":"letter""#),
            (r#""trail":["#, r#""trail":["#.repeat(2).as_str()),
        ] {
            let frame = text.replacen(was, wrong, 1);
            assert_ne!(frame, text, "`{was}` must be in the sample");
            let id = error(&frame).id();
            assert_eq!(
                id.is_some(),
                serde_json::from_str::<serde_json::Value>(&frame).is_ok(),
                "{frame}"
            );
        }
    }

    #[test]
    fn unreadable_frame_has_no_id() {
        for text in [
            "",
            " ",
            "null",
            "[]",
            "{}",
            "\"message\"",
            r#"{"type":"message"}"#,
            r#"{"type":7}"#,
            "{\"type\":\"ack\"",
        ] {
            assert_eq!(error(text).id(), None, "{text}");
        }
        assert_eq!(decode_slice(b"{\"type\":\xff").unwrap_err().id(), None);
    }

    #[test]
    fn duplicate_member_is_refused() {
        let text = encode_message(&samples::message(1));
        let twice = text.replacen(r#""seq":1"#, r#""seq":1,"seq":2"#, 1);
        assert!(error(&twice).to_string().contains("duplicate field `seq`"));
        let types = text.replacen(r#""seq":1"#, r#""type":"ack","seq":1"#, 1);
        assert!(error(&types).to_string().contains("duplicate field `type`"));
    }

    #[test]
    fn rejection_without_reason_is_refused() {
        let text =
            r#"{"type":"ack","id":"019a0000-0000-7000-8000-000000000001","outcome":"rejected"}"#;
        assert!(error(text).to_string().contains("reason"));
        assert!(error(text).id().is_some());
    }

    #[test]
    fn endless_trail_is_cut_and_refused() {
        let mut message = samples::message(1);
        message.trail = vec![message.trail[0].clone(); 10_000];
        let Frame::Message(read) = decode(&encode_message(&message)).unwrap() else {
            panic!("a message was written");
        };
        assert_eq!(read.trail.len(), KEPT_HOPS);
        assert!(read.validate().is_err());
    }

    #[test]
    fn deepest_payload_round_trips() {
        let deep = "[".repeat(400_000) + &"]".repeat(400_000);
        let mut message = samples::message(0);
        message.payload = Payload::from_text(deep).unwrap();
        assert_eq!(
            decode(&encode_message(&message)).unwrap(),
            Frame::Message(message)
        );
        let elsewhere = format!(r#"{{"type":"message","trail":{}"#, "[".repeat(1_000_000));
        assert_eq!(error(&elsewhere).id(), None);
    }
}
