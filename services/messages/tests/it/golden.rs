//! The wire as it is written down under `tests/golden`: a difference is a change of the protocol.

use std::{env, fs, path::PathBuf};

use messages::{
    Ack, Hop, Message, Outcome, Payload, Role,
    json::{self, Frame},
};

/// Set to anything, the golden files are written instead of compared.
pub(crate) const UPDATE: &str = "FERRY_UPDATE_GOLDEN";

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/golden", name]
        .iter()
        .collect()
}

pub(crate) fn read(name: &str) -> String {
    let path = path(name);
    fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; `{UPDATE}=1` writes it", path.display()))
}

pub(crate) fn is_update() -> bool {
    env::var_os(UPDATE).is_some()
}

pub(crate) fn write(name: &str, text: &str) {
    fs::write(path(name), text).unwrap();
}

#[track_caller]
fn assert_golden(name: &str, actual: &str) {
    let actual = format!("{actual}\n");
    if is_update() {
        write(name, &actual);
    }
    assert_eq!(
        read(name),
        actual,
        "the wire differs from `tests/golden/{name}`; if that is meant, run with `{UPDATE}=1`"
    );
}

fn hop(pod: &str, role: Role, cluster: &str, at: &str) -> Hop {
    Hop {
        pod: format!("{pod}-6d4f5c-x2k4p"),
        role,
        cluster: cluster.into(),
        namespace: format!("grand-tour-ferry-{pod}-ns"),
        node: format!("k3d-{cluster}-agent-0"),
        at: at.parse().unwrap(),
        signature: format!("header-of-{pod}..signature"),
    }
}

fn trail() -> Vec<Hop> {
    vec![
        hop(
            "gateway",
            Role::Gateway,
            "cluster-a",
            "2026-11-22T18:53:44.000001Z",
        ),
        hop(
            "processor",
            Role::Processor,
            "cluster-b",
            "2026-11-22T18:53:44.120000Z",
        ),
        hop("sink", Role::Sink, "cluster-c", "2026-11-22T18:53:45Z"),
    ]
}

fn message() -> Message {
    // What a careless carrier would change: order of members, form of numbers, white space,
    // escapes.
    let payload =
        r#"{ "z": 1.0, "a": [1e2, -0, 12345678901234567890, 0.10], "é": "é €\n", "z": null }"#;
    Message {
        id: "019a0000-0000-7000-8000-0000000000ff".parse().unwrap(),
        blueprint: "grand-tour-ferry".into(),
        seq: u64::MAX,
        payload: Payload::from_text(payload.into()).unwrap(),
        trail: trail()[..2].to_vec(),
    }
}

fn ack(outcome: Outcome) -> Ack {
    Ack {
        id: message().id,
        outcome,
        trail: trail(),
    }
}

fn acks() -> [(&'static str, Ack); 2] {
    let reason = "payload of 1048577 bytes is over the limit of 1048576";
    [
        ("ack-delivered", ack(Outcome::Delivered)),
        ("ack-rejected", ack(Outcome::rejected(reason))),
    ]
}

#[test]
fn json_is_as_written_down_and_read_back() {
    assert_golden("message.json", &json::encode_message(&message()));
    let decoded = json::decode(&read("message.json")).unwrap();
    assert_eq!(decoded, Frame::Message(message()));
    for (name, ack) in acks() {
        let name = format!("{name}.json");
        assert_golden(&name, &json::encode_ack(&ack));
        let decoded = json::decode_slice(read(&name).as_bytes()).unwrap();
        assert_eq!(decoded, Frame::Ack(ack));
    }
}

/// The sink stores and shows messages and acknowledgements without a frame around them.
#[test]
fn types_have_the_members_of_a_frame() {
    let frame = |text: &str, kind| text.replacen(&format!(r#""type":"{kind}","#), "", 1);
    let text = serde_json::to_string(&message()).unwrap();
    assert_eq!(text, frame(&json::encode_message(&message()), "message"));
    assert_eq!(serde_json::from_str::<Message>(&text).unwrap(), message());
    for (_, ack) in acks() {
        let text = serde_json::to_string(&ack).unwrap();
        assert_eq!(text, frame(&json::encode_ack(&ack), "ack"));
        assert_eq!(serde_json::from_str::<Ack>(&text).unwrap(), ack);
    }
}

#[cfg(feature = "grpc")]
mod protobuf {
    use messages::proto::{self, v1};
    use prost::Message as _;

    use super::*;

    /// 32 bytes a line, two digits each: a difference shows where it is.
    fn hex(bytes: &[u8]) -> String {
        let line = |bytes: &[u8]| {
            bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        bytes.chunks(32).map(line).collect::<Vec<_>>().join("\n")
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .bytes()
            .filter(|byte| !byte.is_ascii_whitespace())
            .collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn protobuf_is_as_written_down_and_read_back() {
        let bytes = v1::Message::from(&message()).encode_to_vec();
        assert_golden("message.pb.hex", &hex(&bytes));
        let decoded: v1::Message = proto::decode(&*unhex(&read("message.pb.hex"))).unwrap();
        assert_eq!(Message::try_from(decoded).unwrap(), message());
        for (name, ack) in acks() {
            let name = format!("{name}.pb.hex");
            assert_golden(&name, &hex(&v1::Ack::from(&ack).encode_to_vec()));
            let decoded: v1::Ack = proto::decode(&*unhex(&read(&name))).unwrap();
            assert_eq!(Ack::try_from(decoded).unwrap(), ack);
        }
    }

    /// As much of `google/protobuf/descriptor.proto` as is asked here.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Files {
        #[prost(message, repeated, tag = "1")]
        file: Vec<File>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct File {
        #[prost(message, repeated, tag = "4")]
        message_type: Vec<MessageType>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct MessageType {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(message, repeated, tag = "2")]
        field: Vec<Field>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Field {
        #[prost(string, tag = "1")]
        name: String,
    }

    #[track_caller]
    fn assert_same_fields(message: &str, json: serde_json::Value) {
        let files = Files::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut types = files.file.iter().flat_map(|file| &file.message_type);
        let described = types.find(|described| described.name == message).unwrap();
        let mut fields: Vec<_> = described.field.iter().map(|field| &field.name).collect();
        let mut members: Vec<_> = json.as_object().unwrap().keys().collect();
        fields.sort();
        members.sort();
        assert_eq!(
            fields, members,
            "protobuf and JSON of {message} must have the same fields"
        );
    }

    #[test]
    fn both_encodings_have_the_same_fields() {
        assert_same_fields("Message", serde_json::to_value(message()).unwrap());
        assert_same_fields("Hop", serde_json::to_value(&trail()[0]).unwrap());
        let rejected = ack(Outcome::rejected("no"));
        assert_same_fields("Ack", serde_json::to_value(rejected).unwrap());
    }
}
