//! What is signed, as canonical JSON (RFC 8785).
//!
//! Every value is a text, so the rules come down to these two: members in alphabetical order, no
//! white space. `serde_json` escapes texts exactly as RFC 8785 section 3.2.2.2 asks.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest::{Context, SHA256, digest};
use serde::Serialize;
use uuid::Uuid;

use crate::{Hop, Role, Timestamp};

/// A hop, with its members in alphabetical order.
#[derive(Serialize)]
struct CanonicalHop<'a> {
    at: Timestamp,
    cluster: &'a str,
    namespace: &'a str,
    node: &'a str,
    pod: &'a str,
    role: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<&'a str>,
}

impl<'a> CanonicalHop<'a> {
    fn unsigned(hop: &'a Hop) -> Self {
        Self {
            at: hop.at,
            cluster: &hop.cluster,
            namespace: &hop.namespace,
            node: &hop.node,
            pod: &hop.pod,
            role: hop.role,
            signature: None,
        }
    }

    fn signed(hop: &'a Hop) -> Self {
        Self {
            signature: Some(&hop.signature),
            ..Self::unsigned(hop)
        }
    }
}

fn canonical(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts can always be written as JSON")
}

/// Returns the bytes that a signature covers: `{"before":HASH,"hop":{HOP},"id":UUID}`.
pub(super) fn payload(id: Uuid, before: &str, hop: &Hop) -> String {
    #[derive(Serialize)]
    struct Payload<'a> {
        before: &'a str,
        hop: CanonicalHop<'a>,
        id: Uuid,
    }
    canonical(&Payload {
        before,
        hop: CanonicalHop::unsigned(hop),
        id,
    })
}

/// Returns the SHA-256 of the hop without its signature, base64url.
pub(super) fn hop_hash(hop: &Hop) -> String {
    let text = canonical(&CanonicalHop::unsigned(hop));
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}

/// SHA-256 of the hops so far, signatures included. It grows with the trail, so that a long one is
/// hashed once.
pub(super) struct TrailHash {
    context: Context,
    is_empty: bool,
}

impl TrailHash {
    pub(super) fn new() -> Self {
        let mut context = Context::new(&SHA256);
        context.update(b"[");
        Self {
            context,
            is_empty: true,
        }
    }

    pub(super) fn of(trail: &[Hop]) -> Self {
        let mut hash = Self::new();
        for hop in trail {
            hash.push(hop);
        }
        hash
    }

    pub(super) fn push(&mut self, hop: &Hop) {
        if !self.is_empty {
            self.context.update(b",");
        }
        self.is_empty = false;
        let text = canonical(&CanonicalHop::signed(hop));
        self.context.update(text.as_bytes());
    }

    /// Returns the hash of the list as it is now, base64url.
    pub(super) fn text(&self) -> String {
        let mut context = self.context.clone();
        context.update(b"]");
        URL_SAFE_NO_PAD.encode(context.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn payload_is_canonical_json() {
        let id = samples::message(0).id;
        let mut hop = samples::hop();
        hop.node = "ä\"\\\u{8}\u{1f}/\u{7f}€😀".into();
        hop.signature = "not part of it".into();
        assert_eq!(
            payload(id, "HASH", &hop),
            concat!(
                r#"{"before":"HASH","hop":{"at":"2026-11-22T18:53:44.000001Z","#,
                r#""cluster":"cluster-a","#,
                r#""namespace":"international-ferry-gateway-ns","#,
                "\"node\":\"ä\\\"\\\\\\b\\u001f/\u{7f}€😀\",",
                r#""pod":"gateway-6d4f5c-x2k4p","role":"gateway"},"#,
                r#""id":"019a0000-0000-7000-8000-000000000001"}"#
            )
        );
    }

    #[test]
    fn trail_hash_covers_the_canonical_list() {
        let of = |text: &str| URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()));
        assert_eq!(TrailHash::new().text(), of("[]"));
        let mut hop = samples::hop();
        hop.signature = "s".into();
        let one = concat!(
            r#"{"at":"2026-11-22T18:53:44.000001Z","cluster":"cluster-a","#,
            r#""namespace":"international-ferry-gateway-ns","node":"k3d-cluster-a-agent-0","#,
            r#""pod":"gateway-6d4f5c-x2k4p","role":"gateway","signature":"s"}"#
        );
        let trail = [hop.clone(), hop];
        assert_eq!(TrailHash::of(&trail[..1]).text(), of(&format!("[{one}]")));
        assert_eq!(TrailHash::of(&trail).text(), of(&format!("[{one},{one}]")));
    }
}
