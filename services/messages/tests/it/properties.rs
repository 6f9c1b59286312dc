//! What holds for any value: both encodings bring it back whole, and no bytes break a decoder.

use messages::{
    Ack, Hop, Message, Outcome, Payload, Role, Timestamp, json,
    json::Frame,
    signature::{Signer, verify_trail},
};
use proptest::{collection::vec, prelude::*};
use uuid::Uuid;

use crate::mint;

/// Any text, control characters and all: an encoding carries what `check` will refuse.
fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..20).prop_map(String::from_iter)
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    // The years 0 to 9999: what RFC 3339 can write.
    (-62_167_219_200_000_000..253_402_300_800_000_000_i64)
        .prop_map(|at| jiff::Timestamp::from_microsecond(at).unwrap().into())
}

fn role() -> impl Strategy<Value = Role> {
    proptest::sample::select(Role::ALL.to_vec())
}

fn hop() -> impl Strategy<Value = Hop> {
    (text(), role(), text(), text(), text(), timestamp(), text()).prop_map(
        |(pod, role, cluster, namespace, node, at, signature)| Hop {
            pod,
            role,
            cluster,
            namespace,
            node,
            at,
            signature,
        },
    )
}

/// Any JSON, with the white space and the member order that it happens to have.
fn payload() -> impl Strategy<Value = Payload> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,3})?",
        text().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    let json = leaf.prop_recursive(4, 32, 6, |inner| {
        let space = "[ \t\r\n]{0,2}";
        prop_oneof![
            (vec(inner.clone(), 0..6), space).prop_map(|(items, space)| {
                format!("[{space}{}{space}]", items.join(&format!("{space},")))
            }),
            (vec((text(), inner), 0..6), space).prop_map(|(members, space)| {
                let members: Vec<_> = members
                    .into_iter()
                    .map(|(name, value)| {
                        format!("{}{space}:{value}", serde_json::to_string(&name).unwrap())
                    })
                    .collect();
                format!("{{{}{space}}}", members.join(","))
            }),
        ]
    });
    json.prop_map(|json| Payload::from_text(json).unwrap())
}

prop_compose! {
    fn message()(
        id in any::<u128>(),
        blueprint in text(),
        seq in any::<u64>(),
        payload in payload(),
        trail in vec(hop(), 0..4),
    ) -> Message {
        Message { id: Uuid::from_u128(id), blueprint, seq, payload, trail }
    }
}

fn ack() -> impl Strategy<Value = Ack> {
    let outcome = prop_oneof![
        Just(Outcome::Delivered),
        text().prop_map(|reason| Outcome::Rejected { reason }),
    ];
    (any::<u128>(), outcome, vec(hop(), 0..4)).prop_map(|(id, outcome, trail)| Ack {
        id: Uuid::from_u128(id),
        outcome,
        trail,
    })
}

/// Bytes that look like a frame: a valid one with some of it overwritten, cut out or doubled.
fn damaged(frame: Vec<u8>, damage: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
    let mut bytes = frame;
    for (index, kind, byte) in damage {
        if bytes.is_empty() {
            break;
        }
        let at = index.index(bytes.len());
        match kind % 4 {
            0 => bytes[at] = *byte,
            1 => bytes.insert(at, *byte),
            2 => bytes.truncate(at),
            _ => {
                let tail = bytes[at..].to_vec();
                bytes.extend(tail);
            }
        }
    }
    bytes
}

fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, u8)>> {
    vec(any::<(prop::sample::Index, u8, u8)>(), 1..6)
}

/// Whatever a decoder gives can be judged, written and read again.
fn use_frame(frame: &Frame) {
    match frame {
        Frame::Message(message) => {
            let _ = message.validate();
            assert_eq!(
                &json::decode(&json::encode_message(message)).unwrap(),
                frame
            );
        }
        Frame::Ack(ack) => {
            let _ = ack.validate();
            assert_eq!(&json::decode(&json::encode_ack(ack)).unwrap(), frame);
        }
    }
}

proptest! {
    #[test]
    fn json_brings_a_message_back(message in message()) {
        let text = json::encode_message(&message);
        prop_assert_eq!(json::decode(&text).unwrap(), Frame::Message(message.clone()));
        prop_assert_eq!(json::decode_slice(text.as_bytes()).unwrap(), Frame::Message(message));
    }

    #[test]
    fn json_brings_an_ack_back(ack in ack()) {
        let text = json::encode_ack(&ack);
        prop_assert_eq!(json::decode(&text).unwrap(), Frame::Ack(ack));
    }

    #[test]
    fn no_bytes_break_the_json_decoder(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(frame) = json::decode_slice(&bytes) {
            use_frame(&frame);
        }
    }

    #[test]
    fn no_damage_breaks_the_json_decoder(message in message(), ack in ack(), damage in damage()) {
        for text in [json::encode_message(&message), json::encode_ack(&ack)] {
            if let Ok(frame) = json::decode_slice(&damaged(text.into_bytes(), &damage)) {
                use_frame(&frame);
            }
        }
    }

    #[test]
    fn no_text_breaks_the_value_parsers(text in text(), digits in "[0-9TZ:.+-]{0,40}") {
        for text in [&text, &digits] {
            let _ = text.parse::<messages::WorkloadName>();
            let _ = text.parse::<Role>();
            let _ = text.parse::<messages::Protocol>();
            let _ = Payload::from_text(text.clone());
            if let Ok(at) = text.parse::<Timestamp>() {
                prop_assert_eq!(at.to_string().parse::<Timestamp>(), Ok(at));
            }
        }
    }

    #[test]
    fn no_bytes_break_the_identity_parser(text in text(), bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(Signer::from_identity_file(&text).is_err());
        let bytes = String::from_utf8_lossy(&bytes);
        prop_assert!(Signer::from_pem(&bytes, &text).is_err());
    }
}

#[test]
fn no_signature_breaks_the_verifier() {
    let name = mint::workload("sink", "cluster-b");
    let root = mint::root();
    let leaf = mint::leaf(&mint::authority(&root, &name), &name);
    let id = Uuid::now_v7();
    let signed = leaf
        .signer()
        .sign(id, &[], mint::hop(&name, Role::Sink, 1))
        .unwrap();
    let roots = mint::roots(&root);
    proptest!(|(damage in damage(), other in text())| {
        let bytes = damaged(signed.signature.clone().into_bytes(), &damage);
        let damaged = String::from_utf8_lossy(&bytes).into_owned();
        for signature in [damaged, other] {
            let changed = signature != signed.signature;
            let hop = Hop { signature, ..signed.clone() };
            let verdict = verify_trail(id, &[hop], &roots);
            prop_assert_eq!(verdict.is_err(), changed, "{:?}", verdict);
        }
    });
}

#[cfg(feature = "grpc")]
mod protobuf {
    use messages::proto::{self, v1};
    use prost::Message as _;

    use super::*;

    proptest! {
        #[test]
        fn protobuf_brings_a_message_back(message in message()) {
            let bytes = v1::Message::from(&message).encode_to_vec();
            prop_assert_eq!(&v1::Message::from(message.clone()).encode_to_vec(), &bytes);
            let read: v1::Message = proto::decode(&*bytes).unwrap();
            prop_assert_eq!(Message::try_from(read).unwrap(), message);
        }

        #[test]
        fn protobuf_brings_an_ack_back(ack in ack()) {
            let bytes = v1::Ack::from(&ack).encode_to_vec();
            let read: v1::Ack = proto::decode(&*bytes).unwrap();
            prop_assert_eq!(Ack::try_from(read).unwrap(), ack);
        }

        /// Over one protocol to a pod, and over the other from it.
        #[test]
        fn messages_survive_both_encodings(message in message()) {
            let read = json::decode(&json::encode_message(&message)).unwrap();
            let Frame::Message(read) = read else { panic!("a message was written") };
            let read = Message::try_from(v1::Message::from(read)).unwrap();
            prop_assert_eq!(json::encode_message(&read), json::encode_message(&message));
        }

        #[test]
        fn no_bytes_break_the_protobuf_decoder(bytes in vec(any::<u8>(), 0..200)) {
            if let Ok(read) = proto::decode::<v1::Message>(&*bytes) {
                let _ = Message::try_from(read).map(|message| use_frame(&Frame::Message(message)));
            }
            if let Ok(read) = proto::decode::<v1::Ack>(&*bytes) {
                let _ = Ack::try_from(read).map(|ack| use_frame(&Frame::Ack(ack)));
            }
        }

        #[test]
        fn no_damage_breaks_the_protobuf_decoder(message in message(), damage in damage()) {
            let bytes = damaged(v1::Message::from(&message).encode_to_vec(), &damage);
            // What prost itself takes, ours takes, and the other way round.
            let ours = proto::decode::<v1::Message>(&*bytes);
            prop_assert_eq!(ours.is_ok(), v1::Message::decode(&*bytes).is_ok());
            if let Ok(read) = ours {
                let _ = Message::try_from(read).map(|message| use_frame(&Frame::Message(message)));
            }
        }
    }
}
