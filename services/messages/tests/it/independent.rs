//! A second implementation of `docs/signature.md`, written from the document and sharing no code
//! with the crate: it shows that the document is enough, and signs what the real signer refuses to
//! sign.

use std::collections::BTreeMap;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use messages::Hop;
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::mint::Leaf;

/// Canonical JSON of a value whose members are all texts, lists or objects.
pub(crate) fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<_, _> = members.iter().collect();
            let members: Vec<_> = sorted
                .into_iter()
                .map(|(name, value)| format!("{}:{}", json!(name), canonical(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        text => text.to_string(),
    }
}

pub(crate) fn hash(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}

pub(crate) fn before(trail: &[Hop]) -> String {
    hash(&canonical(&json!(trail)))
}

pub(crate) fn payload(id: Uuid, trail: &[Hop], hop: &Hop) -> String {
    let mut hop = json!(hop);
    hop.as_object_mut().unwrap().remove("signature");
    canonical(&json!({"before": before(trail), "hop": hop, "id": id}))
}

/// The header that the document asks for, without what it leaves to choice.
pub(crate) fn header(leaf: &Leaf) -> Value {
    let x5c: Vec<_> = leaf.chain.iter().map(|der| STANDARD.encode(der)).collect();
    json!({"alg": "ES256", "x5c": x5c})
}

pub(crate) fn sign(leaf: &Leaf, id: Uuid, trail: &[Hop], hop: Hop) -> Hop {
    sign_with_header(leaf, &header(leaf), id, trail, hop)
}

pub(crate) fn sign_with_header(
    leaf: &Leaf,
    header: &Value,
    id: Uuid,
    trail: &[Hop],
    mut hop: Hop,
) -> Hop {
    let random = SystemRandom::new();
    let key = PrivatePkcs8KeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        key.secret_pkcs8_der(),
        &random,
    )
    .unwrap();
    let header = URL_SAFE_NO_PAD.encode(header.to_string());
    let payload = URL_SAFE_NO_PAD.encode(payload(id, trail, &hop));
    let signature = key
        .sign(&random, format!("{header}.{payload}").as_bytes())
        .unwrap();
    hop.signature = format!("{header}..{}", URL_SAFE_NO_PAD.encode(signature));
    hop
}
