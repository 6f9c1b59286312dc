//! Detached JSON Web Signatures: compact serialisation (RFC 7515 section 7.1) with an empty payload
//! part (appendix F), algorithm ES256 (RFC 7518 section 3.4), the certificate chain in `x5c` (RFC
//! 7515 section 4.1.6).

use std::borrow::Cow;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::identity::MAX_CHAIN;
use crate::limits::MAX_SIGNATURE_BYTES;

/// The protected header.
#[derive(Serialize, Deserialize)]
pub(super) struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    /// Base64 of DER, leaf first.
    #[serde(borrow)]
    pub(super) x5c: Vec<Cow<'a, str>>,
    /// Absent from signatures of other implementations. It decides only how an error is worded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ferry: Option<Signed>,
    /// Extensions that a verifier must understand; none is known here.
    #[serde(default, skip_serializing)]
    crit: Option<serde::de::IgnoredAny>,
}

/// A private header parameter: what the signer signed, so that a verifier can report what changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Signed {
    /// SHA-256 of the trail before the hop, base64url.
    pub(super) before: String,
    /// SHA-256 of the hop without its signature, base64url.
    pub(super) hop: String,
    /// Id of the message.
    pub(super) id: Uuid,
}

const ALGORITHM: &str = "ES256";

impl<'a> Header<'a> {
    pub(super) fn new(x5c: &'a [String], signed: Signed) -> Self {
        Self {
            alg: ALGORITHM.into(),
            x5c: x5c.iter().map(|text| text.as_str().into()).collect(),
            ferry: Some(signed),
            crit: None,
        }
    }

    /// Returns the header as it is signed and sent.
    pub(super) fn encode(&self) -> String {
        let text = serde_json::to_string(self).expect("texts can always be written as JSON");
        URL_SAFE_NO_PAD.encode(text)
    }

    pub(super) fn parse(json: &'a [u8]) -> Result<Self, String> {
        let header: Self =
            serde_json::from_slice(json).map_err(|error| format!("header: {error}"))?;
        if header.alg != ALGORITHM {
            let alg: String = header.alg.chars().take(20).collect();
            return Err(format!("header: `alg` is {alg:?}, expected `{ALGORITHM}`"));
        }
        if header.crit.is_some() {
            return Err("header: `crit` asks for unknown extensions".into());
        }
        match header.x5c.len() {
            1..=MAX_CHAIN => Ok(header),
            count => Err(format!(
                "header: `x5c` holds {count} certificates, expected 1 to {MAX_CHAIN}"
            )),
        }
    }

    /// Returns the certificates in DER.
    pub(super) fn chain(&self) -> Result<Vec<Vec<u8>>, String> {
        let decode = |(index, text): (usize, &Cow<'_, str>)| {
            STANDARD
                .decode(text.as_bytes())
                .map_err(|error| format!("header: `x5c[{index}]`: {error}"))
        };
        self.x5c.iter().enumerate().map(decode).collect()
    }
}

/// Returns `x5c` of a chain of DER certificates.
pub(super) fn x5c<'a>(chain: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    chain.into_iter().map(|der| STANDARD.encode(der)).collect()
}

/// Returns the input of ES256: `<header>.<payload>`, both base64url.
pub(super) fn signing_input(header: &str, payload: &str) -> String {
    let mut input = String::with_capacity(header.len() + 1 + payload.len() * 4 / 3 + 4);
    input.push_str(header);
    input.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut input);
    input
}

/// `<header>..<signature>`
pub(super) fn compact(header: &str, signature: &[u8]) -> String {
    let mut text = String::with_capacity(header.len() + 2 + signature.len() * 4 / 3 + 4);
    text.push_str(header);
    text.push_str("..");
    URL_SAFE_NO_PAD.encode_string(signature, &mut text);
    text
}

/// A detached signature, taken apart.
pub(super) struct Detached<'a> {
    /// As it is in the text: this is what is signed.
    pub(super) header: &'a str,
    pub(super) header_json: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl<'a> Detached<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        if text.len() > MAX_SIGNATURE_BYTES {
            return Err(format!(
                "{} bytes are over the limit of {MAX_SIGNATURE_BYTES}",
                text.len()
            ));
        }
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("it is not a compact JWS: expected `<header>..<signature>`".into());
        };
        if !payload.is_empty() {
            return Err("its payload part must be empty: expected `<header>..<signature>`".into());
        }
        let part = |name, text| {
            URL_SAFE_NO_PAD
                .decode(text)
                .map_err(|error| format!("{name}: {error}"))
        };
        Ok(Self {
            header,
            header_json: part("header", header)?,
            signature: part("signature", signature)?,
        })
    }
}
