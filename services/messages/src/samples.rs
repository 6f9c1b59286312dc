//! Values for the unit tests of this crate.

use crate::{Hop, Message, Payload, Role};

/// A valid message, but for its signatures, with a trail of `hops`.
pub(crate) fn message(hops: usize) -> Message {
    Message {
        id: "019a0000-0000-7000-8000-000000000001".parse().unwrap(),
        blueprint: "international-ferry".into(),
        seq: 1,
        payload: Payload::from_text(r#"{"n": 1.0}"#.into()).unwrap(),
        trail: vec![hop(); hops],
    }
}

pub(crate) fn hop() -> Hop {
    Hop {
        pod: "gateway-6d4f5c-x2k4p".into(),
        role: Role::Gateway,
        cluster: "cluster-a".into(),
        namespace: "international-ferry-gateway-ns".into(),
        node: "k3d-cluster-a-agent-0".into(),
        at: "2026-11-22T18:53:44.000001Z".parse().unwrap(),
        signature: String::new(),
    }
}
