//! Decodes protobuf with a limit on the trail.
//!
//! An empty hop is two bytes on the wire and 150 in memory, so a frame within its limit could hold
//! four million of them and take 600 MB. The decoder keeps one hop more than the limit, and skips
//! the rest.

use std::marker::PhantomData;

use prost::{
    DecodeError,
    bytes::Buf,
    encoding::{DecodeContext, decode_key, skip_field},
};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstEncoder};

use super::v1;
use crate::limits::KEPT_HOPS;

/// A protobuf message with a trail.
pub trait TrailField: prost::Message + Default {
    /// Number of the field `trail`.
    const TRAIL: u32;
}

impl TrailField for v1::Message {
    const TRAIL: u32 = 5;
}

impl TrailField for v1::Ack {
    const TRAIL: u32 = 4;
}

/// Decodes one protobuf message. An overlong trail is cut to one hop more than the limit.
///
/// # Errors
///
/// Returns the error of prost if the bytes are not such a message.
pub fn decode<T: TrailField>(mut buffer: impl Buf) -> Result<T, DecodeError> {
    let mut message = T::default();
    let mut hops = 0;
    while buffer.has_remaining() {
        let (tag, wire_type) = decode_key(&mut buffer)?;
        if tag == T::TRAIL {
            hops += 1;
        }
        if tag == T::TRAIL && hops > KEPT_HOPS {
            skip_field(wire_type, tag, &mut buffer, DecodeContext::default())?;
        } else {
            message.merge_field(tag, wire_type, &mut buffer, DecodeContext::default())?;
        }
    }
    Ok(message)
}

/// The codec of the generated client and server: prost's, with [`decode`] for what arrives.
#[derive(Clone, Debug)]
pub struct RelayCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for RelayCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for RelayCodec<T, U>
where
    T: prost::Message + Send + 'static,
    U: TrailField + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

/// [`decode`] for tonic.
#[derive(Clone, Debug)]
pub struct BoundedDecoder<U>(PhantomData<U>);

impl<U: TrailField> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // The same status as that of prost's codec.
        decode(buffer)
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::{Ack, Message, Outcome, limits::MAX_TRAIL_HOPS, samples};

    #[test]
    fn frames_within_limits_decode_as_in_prost() {
        let message = v1::Message::from(&samples::message(MAX_TRAIL_HOPS));
        let bytes = message.encode_to_vec();
        assert_eq!(decode::<v1::Message>(&*bytes).unwrap(), message);
        let ack = v1::Ack::from(Ack {
            id: samples::message(0).id,
            outcome: Outcome::Delivered,
            trail: vec![samples::hop(); MAX_TRAIL_HOPS + 1],
        });
        assert_eq!(decode::<v1::Ack>(&*ack.encode_to_vec()).unwrap(), ack);
    }

    #[test]
    fn million_hops_are_cut_at_the_limit() {
        let mut bytes = v1::Message::from(&samples::message(KEPT_HOPS)).encode_to_vec();
        bytes.extend([0x2a, 0x00].repeat(1_000_000));
        let read: v1::Message = decode(&*bytes).unwrap();
        assert_eq!(read.trail.len(), KEPT_HOPS);
        let rejection = Message::try_from(read).unwrap().validate().unwrap_err();
        assert!(rejection.to_string().contains("32 hops"), "{rejection}");
    }

    #[test]
    fn truncated_frame_is_an_error() {
        let bytes = v1::Message::from(&samples::message(1)).encode_to_vec();
        assert!(decode::<v1::Message>(&bytes[..bytes.len() - 1]).is_err());
    }
}
