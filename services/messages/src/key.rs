//! Private keys as other tools write them, in PEM: PKCS #8, SEC1 and PKCS #1. `openssl ecparam` and
//! cert-manager write SEC1 for elliptic curves and PKCS #1 for RSA; Ferry writes PKCS #8.

use std::fmt;

use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, RsaKeyPair,
    },
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use x509_parser::{
    asn1_rs::{Any, FromDer as _},
    x509::SubjectPublicKeyInfo,
};

use crate::der::tagged;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OID: u8 = 0x06;
/// `[0]` and `[1]`, constructed.
const CONTEXT_0: u8 = 0xa0;
const CONTEXT_1: u8 = 0xa1;

/// Contents of object identifiers: 1.2.840.10045.2.1, 1.2.840.10045.3.1.7, 1.3.132.0.34,
/// 1.2.840.113549.1.1.1.
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// A private key of any kind. Never shown.
pub struct PrivateKey(PrivateKeyDer<'static>);

/// Why a text is not a key, or not the expected key. The text completes a sentence that begins with
/// the file: "`tls.key` …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    #[error("holds no private key in PEM")]
    Missing,
    #[error("holds a certificate and no private key")]
    Certificate,
    #[error("holds a public key and no private key")]
    Public,
    #[error("holds a private key that is locked by a passphrase, which no pod can type")]
    Encrypted,
    #[error("holds a key of OpenSSH, which TLS does not know")]
    OpenSsh,
    #[error("holds {0} private keys, and one is needed")]
    Several(usize),
    #[error("holds a private key that cannot be read")]
    Broken,
    #[error(
        "holds a private key of an unsupported kind: \
         use ECDSA P-256, ECDSA P-384 or RSA of 2048 to 4096 bits"
    )]
    Kind,
    #[error("is not the private key of the certificate")]
    Mismatch,
}

impl KeyProblem {
    /// Returns the command that converts `file` to a usable key, if there is one.
    pub fn remedy(self, file: &dyn fmt::Display) -> Option<String> {
        matches!(self, Self::Encrypted | Self::Broken)
            .then(|| format!("openssl pkcs8 -topk8 -nocrypt -in {file} -out {file}.pkcs8"))
    }
}

impl PrivateKey {
    /// Returns the one private key of a PEM text. Other blocks (`EC PARAMETERS`, certificates) and
    /// comments are ignored.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the text.
    pub fn from_pem(text: &str) -> Result<Self, KeyProblem> {
        let blocks: Vec<&str> = text
            .lines()
            .filter_map(|line| {
                let line = line.trim_start_matches('\u{feff}').trim();
                line.strip_prefix("-----BEGIN ")?.strip_suffix("-----")
            })
            .collect();
        let is_key = |block: &&&str| block.ends_with("PRIVATE KEY");
        match blocks.iter().filter(is_key).count() {
            0 if blocks.iter().any(|block| block.ends_with("CERTIFICATE")) => {
                return Err(KeyProblem::Certificate);
            }
            0 if blocks.iter().any(|block| block.ends_with("PUBLIC KEY")) => {
                return Err(KeyProblem::Public);
            }
            0 => return Err(KeyProblem::Missing),
            1 => {}
            several => return Err(KeyProblem::Several(several)),
        }
        let kind = blocks.iter().find(|block| is_key(block)).copied();
        match kind {
            Some("ENCRYPTED PRIVATE KEY") => return Err(KeyProblem::Encrypted),
            Some("OPENSSH PRIVATE KEY") => return Err(KeyProblem::OpenSsh),
            // The header of RFC 1421 that openssl wrote before PKCS #8.
            _ if text.contains("Proc-Type: 4,ENCRYPTED") => return Err(KeyProblem::Encrypted),
            Some("PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY") => {}
            _ => return Err(KeyProblem::Kind),
        }
        let text = text.trim_start_matches('\u{feff}');
        PrivateKeyDer::from_pem_slice(text.as_bytes())
            .map(Self)
            .map_err(|_| KeyProblem::Broken)
    }

    /// The key as PKCS #8, if it is the one of this public key: a `SubjectPublicKeyInfo` in DER, as
    /// a certificate has it.
    ///
    /// # Errors
    ///
    /// Returns [`KeyProblem::Mismatch`] if it is of another certificate, [`KeyProblem::Kind`] if
    /// either is of a kind that is not taken.
    pub fn of(&self, public_key: &[u8]) -> Result<PrivatePkcs8KeyDer<'static>, KeyProblem> {
        let (_, public) =
            SubjectPublicKeyInfo::from_der(public_key).map_err(|_| KeyProblem::Kind)?;
        let algorithm = public.algorithm.algorithm.as_bytes();
        let bits = public.subject_public_key.data.as_ref();
        if algorithm == EC_PUBLIC_KEY {
            let curve = public.algorithm.parameters.as_ref().map(|any| any.data);
            self.of_curve(curve.unwrap_or_default(), bits)
        } else if algorithm == RSA {
            self.of_rsa(bits)
        } else {
            Err(KeyProblem::Kind)
        }
    }

    fn of_curve(
        &self,
        curve: &[u8],
        public: &[u8],
    ) -> Result<PrivatePkcs8KeyDer<'static>, KeyProblem> {
        let (signing, bytes): (&'static EcdsaSigningAlgorithm, usize) = match curve {
            P256 => (&ECDSA_P256_SHA256_ASN1_SIGNING, 32),
            P384 => (&ECDSA_P384_SHA384_ASN1_SIGNING, 48),
            _ => return Err(KeyProblem::Kind),
        };
        let (own_curve, inner) = match &self.0 {
            PrivateKeyDer::Sec1(key) => (None, key.secret_sec1_der().to_vec()),
            PrivateKeyDer::Pkcs8(key) => {
                let info = Info::read(key.secret_pkcs8_der()).ok_or(KeyProblem::Broken)?;
                match info.algorithm {
                    EC_PUBLIC_KEY => (info.parameters, info.key.to_vec()),
                    _ => return Err(KeyProblem::Mismatch),
                }
            }
            _ => return Err(KeyProblem::Mismatch),
        };
        let inner = EcKey::read(&inner).ok_or(KeyProblem::Broken)?;
        if own_curve.or(inner.curve).is_some_and(|own| own != curve) {
            return Err(KeyProblem::Mismatch);
        }
        let scalar = padded(inner.scalar, bytes).ok_or(KeyProblem::Mismatch)?;
        // It computes the public key of the private one and compares.
        EcdsaKeyPair::from_private_key_and_public_key(
            signing,
            &scalar,
            public,
            &SystemRandom::new(),
        )
        .map_err(|_| KeyProblem::Mismatch)?;
        let bit_string = [&[0], public].concat();
        let ec = [
            tagged(INTEGER, &[1]),
            tagged(OCTET_STRING, &scalar),
            tagged(CONTEXT_1, &tagged(BIT_STRING, &bit_string)),
        ];
        let algorithm = [tagged(OID, EC_PUBLIC_KEY), tagged(OID, curve)].concat();
        Ok(info(&algorithm, &tagged(SEQUENCE, &ec.concat())))
    }

    fn of_rsa(&self, public: &[u8]) -> Result<PrivatePkcs8KeyDer<'static>, KeyProblem> {
        let (key, pkcs8) = match &self.0 {
            PrivateKeyDer::Pkcs1(key) => {
                let der = key.secret_pkcs1_der();
                let algorithm = [tagged(OID, RSA), tagged(NULL, &[])].concat();
                (RsaKeyPair::from_der(der), info(&algorithm, der))
            }
            PrivateKeyDer::Pkcs8(key) => {
                let der = key.secret_pkcs8_der();
                let info = Info::read(der).ok_or(KeyProblem::Broken)?;
                if info.algorithm != RSA {
                    return Err(KeyProblem::Mismatch);
                }
                (RsaKeyPair::from_pkcs8(der), der.to_vec().into())
            }
            _ => return Err(KeyProblem::Mismatch),
        };
        let key = key.map_err(|_| KeyProblem::Kind)?;
        if key.public().as_ref() != public {
            return Err(KeyProblem::Mismatch);
        }
        Ok(pkcs8)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// The fields of a `PrivateKeyInfo` (RFC 5958, 2).
struct Info<'a> {
    algorithm: &'a [u8],
    /// The object identifier of the curve, if the parameters are one.
    parameters: Option<&'a [u8]>,
    key: &'a [u8],
}

impl<'a> Info<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        let (content, _) = element(der, SEQUENCE)?;
        let (_, rest) = element(content, INTEGER)?;
        let (algorithm, rest) = element(rest, SEQUENCE)?;
        let (key, _) = element(rest, OCTET_STRING)?;
        let (algorithm, parameters) = element(algorithm, OID)?;
        Some(Self {
            algorithm,
            parameters: element(parameters, OID).map(|(oid, _)| oid),
            key,
        })
    }
}

/// The fields of an `ECPrivateKey` (RFC 5915, 3).
struct EcKey<'a> {
    scalar: &'a [u8],
    curve: Option<&'a [u8]>,
}

impl<'a> EcKey<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        let (content, _) = element(der, SEQUENCE)?;
        let (_, rest) = element(content, INTEGER)?;
        let (scalar, rest) = element(rest, OCTET_STRING)?;
        let curve = element(rest, CONTEXT_0)
            .and_then(|(parameters, _)| element(parameters, OID))
            .map(|(oid, _)| oid);
        Some(Self { scalar, curve })
    }
}

/// Returns the content of the element at the start of `der` if it has this tag, and the rest.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    if der.first() != Some(&tag) {
        return None;
    }
    let (rest, any) = Any::from_der(der).ok()?;
    Some((any.data, rest))
}

/// A number of exactly so many bytes: some tools leave out zeros in front.
fn padded(number: &[u8], bytes: usize) -> Option<Vec<u8>> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let digits = &number[zeros..];
    let missing = bytes.checked_sub(digits.len())?;
    Some([&vec![0; missing][..], digits].concat())
}

/// `PrivateKeyInfo` (RFC 5958, 2) of version 0.
fn info(algorithm: &[u8], key: &[u8]) -> PrivatePkcs8KeyDer<'static> {
    let content = [
        tagged(INTEGER, &[0]),
        tagged(SEQUENCE, algorithm),
        tagged(OCTET_STRING, key),
    ];
    tagged(SEQUENCE, &content.concat()).into()
}

#[cfg(test)]
mod tests;
