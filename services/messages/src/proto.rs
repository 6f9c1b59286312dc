//! The protobuf encoding and the gRPC service, generated from `proto/ferry/v1/relay.proto`.
//!
//! The generated types carry the fields of [`Message`] and [`Ack`] unchecked. The conversions here
//! check what the types of this crate promise. [`Message::validate`] checks sizes, as for JSON.

mod codec;

use uuid::Uuid;

use crate::{Ack, DecodeError, Hop, Message, Outcome, Payload, Role};

pub use codec::{BoundedDecoder, RelayCodec, TrailField, decode};

/// The generated messages, client and server of the protobuf package `ferry.v1`.
#[allow(clippy::all, missing_docs, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("ferry.v1");
}

/// The compiled `.proto` with its comments, a serialised `google.protobuf.FileDescriptorSet`: for
/// the reflection service.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));

impl From<Message> for v1::Message {
    /// Moves the payload: no copy.
    fn from(message: Message) -> Self {
        Self {
            id: message.id.to_string(),
            blueprint: message.blueprint,
            seq: message.seq,
            payload: message.payload.into_text(),
            trail: message.trail.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<&Message> for v1::Message {
    fn from(message: &Message) -> Self {
        Self {
            id: message.id.to_string(),
            blueprint: message.blueprint.clone(),
            seq: message.seq,
            payload: message.payload.as_str().into(),
            trail: message.trail.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::Message> for Message {
    type Error = DecodeError;

    fn try_from(read: v1::Message) -> Result<Self, DecodeError> {
        let id = read_id(&read.id)?;
        Ok(Self {
            id,
            blueprint: read.blueprint,
            seq: read.seq,
            payload: Payload::from_text(read.payload)
                .map_err(|error| DecodeError::new(Some(id), error))?,
            trail: read_trail(id, read.trail)?,
        })
    }
}

impl From<Ack> for v1::Ack {
    fn from(ack: Ack) -> Self {
        let (outcome, reason) = match ack.outcome {
            Outcome::Delivered => (v1::Outcome::Delivered, String::new()),
            Outcome::Rejected { reason } => (v1::Outcome::Rejected, reason),
        };
        Self {
            id: ack.id.to_string(),
            outcome: outcome.into(),
            reason,
            trail: ack.trail.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<&Ack> for v1::Ack {
    fn from(ack: &Ack) -> Self {
        ack.clone().into()
    }
}

impl TryFrom<v1::Ack> for Ack {
    type Error = DecodeError;

    fn try_from(read: v1::Ack) -> Result<Self, DecodeError> {
        let id = read_id(&read.id)?;
        let outcome = match v1::Outcome::try_from(read.outcome) {
            Ok(v1::Outcome::Delivered) => Outcome::Delivered,
            Ok(v1::Outcome::Rejected) => Outcome::Rejected {
                reason: read.reason,
            },
            Ok(v1::Outcome::Unspecified) | Err(_) => {
                return Err(DecodeError::new(
                    Some(id),
                    format_args!("`outcome` is {}, expected 1 or 2", read.outcome),
                ));
            }
        };
        Ok(Self {
            id,
            outcome,
            trail: read_trail(id, read.trail)?,
        })
    }
}

impl From<Hop> for v1::Hop {
    fn from(hop: Hop) -> Self {
        Self {
            pod: hop.pod,
            role: match hop.role {
                Role::Gateway => v1::Role::Gateway,
                Role::Processor => v1::Role::Processor,
                Role::Sink => v1::Role::Sink,
            }
            .into(),
            cluster: hop.cluster,
            namespace: hop.namespace,
            node: hop.node,
            at: hop.at.to_string(),
            signature: hop.signature,
        }
    }
}

impl From<&Hop> for v1::Hop {
    fn from(hop: &Hop) -> Self {
        hop.clone().into()
    }
}

impl TryFrom<v1::Hop> for Hop {
    type Error = DecodeError;

    fn try_from(read: v1::Hop) -> Result<Self, DecodeError> {
        read_hop(read).map_err(|cause| DecodeError::new(None, cause))
    }
}

fn read_id(text: &str) -> Result<Uuid, DecodeError> {
    text.parse()
        .map_err(|error| DecodeError::new(None, format_args!("`id`: {error}")))
}

fn read_trail(id: Uuid, trail: Vec<v1::Hop>) -> Result<Vec<Hop>, DecodeError> {
    let read = |(index, hop)| {
        read_hop(hop)
            .map_err(|cause| DecodeError::new(Some(id), format_args!("trail[{index}]: {cause}")))
    };
    trail.into_iter().enumerate().map(read).collect()
}

fn read_hop(read: v1::Hop) -> Result<Hop, String> {
    let role = match v1::Role::try_from(read.role) {
        Ok(v1::Role::Gateway) => Role::Gateway,
        Ok(v1::Role::Processor) => Role::Processor,
        Ok(v1::Role::Sink) => Role::Sink,
        Ok(v1::Role::Unspecified) | Err(_) => {
            return Err(format!("`role` is {}, expected 1 to 3", read.role));
        }
    };
    Ok(Hop {
        role,
        at: read.at.parse().map_err(|error| format!("`at`: {error}"))?,
        pod: read.pod,
        cluster: read.cluster,
        namespace: read.namespace,
        node: read.node,
        signature: read.signature,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[track_caller]
    fn assert_refused(change: impl FnOnce(&mut v1::Message), cause: &str) {
        let mut message = v1::Message::from(&samples::message(2));
        change(&mut message);
        let error = Message::try_from(message).unwrap_err();
        assert!(error.to_string().contains(cause), "{error}");
        assert!(error.id().is_some(), "{error} must keep the id");
    }

    #[test]
    fn invalid_fields_are_refused_by_id() {
        assert_refused(|m| m.payload = "{".into(), "payload is not JSON");
        assert_refused(|m| m.payload.clear(), "payload is not JSON");
        assert_refused(|m| m.trail[1].role = 9, "trail[1]: `role` is 9");
        assert_refused(|m| m.trail[0].role = 0, "trail[0]: `role` is 0");
        assert_refused(|m| m.trail[1].at = "noon".into(), "trail[1]: `at`: `noon`");
    }

    #[test]
    fn message_without_id_cannot_be_answered() {
        let error = Message::try_from(v1::Message::default()).unwrap_err();
        assert_eq!(error.id(), None);
    }

    #[test]
    fn ack_needs_an_outcome() {
        let ack = v1::Ack {
            id: samples::message(0).id.to_string(),
            ..Default::default()
        };
        let error = Ack::try_from(ack).unwrap_err();
        assert!(error.to_string().contains("`outcome` is 0"), "{error}");
    }

    #[test]
    fn reflection_tells_the_service_and_its_comments() {
        let text = String::from_utf8_lossy(FILE_DESCRIPTOR_SET);
        for word in ["ferry.v1", "Relay", "Carry", "The sink has stored it."] {
            assert!(text.contains(word), "`{word}` must be in the descriptors");
        }
    }
}
