//! Validates messages and acknowledgements: the limits, and that fields can be shown and stored
//! safely.

use crate::{Ack, Hop, Message, Outcome, decode_error::shorten, limits::*};

/// Why a message is refused. The text goes back to the sender as the reason of the rejection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// `actual` in bytes of JSON text.
    #[error("payload of {actual} bytes is over the limit of {MAX_PAYLOAD_BYTES}")]
    PayloadTooLarge { actual: usize },
    /// `actual` in levels of nesting.
    #[error(
        "payload of {actual} nested arrays and objects is over the limit of {MAX_PAYLOAD_DEPTH}"
    )]
    PayloadTooDeep { actual: usize },
    /// `limit` in hops.
    #[error("trail of more than {limit} hops is over the limit")]
    TrailTooLong { limit: usize },
    /// `actual` and `limit` in bytes.
    #[error("`{field}` of {actual} bytes is over the limit of {limit}")]
    FieldTooLong {
        field: String,
        actual: usize,
        limit: usize,
    },
    #[error("`{field}` is empty")]
    FieldEmpty { field: String },
    #[error("`{field}` holds a control character")]
    ControlCharacter { field: String },
    #[error("`seq` is 0: it counts from 1")]
    SeqZero,
    #[error("`id` is not a UUID of version 7 (RFC 9562)")]
    IdNotVersion7,
}

impl Message {
    /// Validates the message as it arrived, before this pod adds its hop.
    ///
    /// # Errors
    ///
    /// Returns the first violation.
    pub fn validate(&self) -> Result<(), Rejection> {
        if self.id.get_version_num() != 7 || self.id.get_variant() != uuid::Variant::RFC4122 {
            return Err(Rejection::IdNotVersion7);
        }
        if self.seq == 0 {
            return Err(Rejection::SeqZero);
        }
        match self.payload.len() {
            actual if actual > MAX_PAYLOAD_BYTES => {
                return Err(Rejection::PayloadTooLarge { actual });
            }
            _ => {}
        }
        match self.payload.depth() {
            actual if actual > MAX_PAYLOAD_DEPTH => {
                return Err(Rejection::PayloadTooDeep { actual });
            }
            _ => {}
        }
        text(|| "blueprint".into(), &self.blueprint)?;
        trail(&self.trail, MAX_TRAIL_HOPS)
    }
}

impl Ack {
    /// Validates the acknowledgement as it arrived. Its trail may hold one hop more than that of a
    /// message: the last pod's.
    ///
    /// # Errors
    ///
    /// Returns the first violation.
    pub fn validate(&self) -> Result<(), Rejection> {
        if self.id.get_version_num() != 7 || self.id.get_variant() != uuid::Variant::RFC4122 {
            return Err(Rejection::IdNotVersion7);
        }
        if let Outcome::Rejected { reason } = &self.outcome {
            no_longer(|| "reason".into(), reason, MAX_REASON_BYTES)?;
        }
        trail(&self.trail, MAX_TRAIL_HOPS + 1)
    }
}

impl Outcome {
    /// Returns a rejection. Its reason is cut to what [`Ack::validate`] permits, without control
    /// characters.
    pub fn rejected(reason: impl std::fmt::Display) -> Self {
        // A character is at most four bytes, and the mark of a cut is three.
        Self::Rejected {
            reason: shorten(&reason.to_string(), MAX_REASON_BYTES / 4 - 1),
        }
    }
}

fn trail(trail: &[Hop], limit: usize) -> Result<(), Rejection> {
    if trail.len() > limit {
        return Err(Rejection::TrailTooLong { limit });
    }
    for (index, hop) in trail.iter().enumerate() {
        for (name, value) in [
            ("pod", &hop.pod),
            ("cluster", &hop.cluster),
            ("namespace", &hop.namespace),
            ("node", &hop.node),
        ] {
            text(|| format!("trail[{index}].{name}"), value)?;
        }
        no_longer(
            || format!("trail[{index}].signature"),
            &hop.signature,
            MAX_SIGNATURE_BYTES,
        )?;
    }
    Ok(())
}

/// Checks a name that operators read in a log or a table.
fn text(field: impl Fn() -> String, value: &str) -> Result<(), Rejection> {
    if value.is_empty() {
        return Err(Rejection::FieldEmpty { field: field() });
    }
    no_longer(&field, value, MAX_FIELD_BYTES)?;
    if value.chars().any(char::is_control) {
        return Err(Rejection::ControlCharacter { field: field() });
    }
    Ok(())
}

fn no_longer(field: impl Fn() -> String, value: &str, limit: usize) -> Result<(), Rejection> {
    match value.len() {
        actual if actual > limit => Err(Rejection::FieldTooLong {
            field: field(),
            actual,
            limit,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Payload, samples};

    fn payload_of(bytes: usize) -> Payload {
        Payload::from_text(format!("\"{}\"", "x".repeat(bytes - 2))).unwrap()
    }

    #[track_caller]
    fn assert_refused(change: impl FnOnce(&mut Message), reason: &str) {
        let mut message = samples::message(2);
        change(&mut message);
        match message.validate() {
            Err(rejection) => assert_eq!(rejection.to_string(), reason),
            Ok(()) => panic!("must be refused with `{reason}`: {message:?}"),
        }
    }

    fn nested(depth: usize) -> Payload {
        Payload::from_text("[".repeat(depth) + &"]".repeat(depth)).unwrap()
    }

    #[test]
    fn payload_within_depth_limit_can_be_parsed() {
        let mut message = samples::message(2);
        message.payload = nested(MAX_PAYLOAD_DEPTH);
        assert_eq!(message.validate(), Ok(()));
        assert!(message.payload.parse::<serde_json::Value>().is_ok());
        let deeper = nested(MAX_PAYLOAD_DEPTH + 1);
        assert!(deeper.parse::<serde_json::Value>().is_err());
    }

    #[test]
    fn brackets_in_strings_do_not_nest() {
        let depth = |text: &str| Payload::from_text(text.into()).unwrap().depth();
        assert_eq!(depth(r#""[[[[""#), 0);
        assert_eq!(depth(r#"{"a\"[": [1, {"b": []}], "c": "\\"}"#), 4);
    }

    #[test]
    fn values_at_limits_pass() {
        let mut message = samples::message(MAX_TRAIL_HOPS);
        message.payload = payload_of(MAX_PAYLOAD_BYTES);
        for hop in &mut message.trail {
            hop.pod = "p".repeat(MAX_FIELD_BYTES);
            hop.signature = "s".repeat(MAX_SIGNATURE_BYTES);
        }
        assert_eq!(message.validate(), Ok(()));
    }

    #[test]
    fn values_over_limits_are_refused_with_reason() {
        assert_refused(
            |m| m.payload = payload_of(MAX_PAYLOAD_BYTES + 1),
            "payload of 1048577 bytes is over the limit of 1048576",
        );
        assert_refused(
            |m| m.payload = nested(MAX_PAYLOAD_DEPTH + 1),
            "payload of 128 nested arrays and objects is over the limit of 127",
        );
        assert_refused(
            |m| m.trail = vec![samples::hop(); MAX_TRAIL_HOPS + 1],
            "trail of more than 32 hops is over the limit",
        );
        assert_refused(
            |m| m.trail[1].node = "n".repeat(254),
            "`trail[1].node` of 254 bytes is over the limit of 253",
        );
        assert_refused(
            |m| m.trail[0].signature = "s".repeat(8193),
            "`trail[0].signature` of 8193 bytes is over the limit of 8192",
        );
        assert_refused(|m| m.blueprint.clear(), "`blueprint` is empty");
        assert_refused(
            |m| m.trail[0].pod = "a\u{1b}[2J".into(),
            "`trail[0].pod` holds a control character",
        );
        assert_refused(|m| m.seq = 0, "`seq` is 0: it counts from 1");
        assert_refused(
            |m| m.id = uuid::Uuid::nil(),
            "`id` is not a UUID of version 7 (RFC 9562)",
        );
    }

    #[test]
    fn largest_message_fits_its_frame_twice() {
        let mut message = samples::message(MAX_TRAIL_HOPS);
        message.payload = payload_of(MAX_PAYLOAD_BYTES);
        for hop in &mut message.trail {
            hop.signature = "s".repeat(MAX_SIGNATURE_BYTES);
        }
        assert!(crate::json::encode_message(&message).len() * 2 < MAX_FRAME_BYTES);
    }

    #[test]
    fn ack_allows_one_more_hop_and_bounds_reason() {
        let mut ack = Ack {
            id: samples::message(0).id,
            outcome: Outcome::rejected("\u{10ffff}".repeat(100_000)),
            trail: vec![samples::hop(); MAX_TRAIL_HOPS + 1],
        };
        assert_eq!(ack.validate(), Ok(()));
        ack.trail.push(samples::hop());
        assert_eq!(ack.validate(), Err(Rejection::TrailTooLong { limit: 33 }));
    }
}
