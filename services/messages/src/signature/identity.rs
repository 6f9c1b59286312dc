//! The owner, key and validity of a certificate chain.

use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;
use x509_parser::{
    certificate::X509Certificate,
    oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY},
    prelude::FromDer,
};

use super::InvalidIdentity;
use crate::{Timestamp, WorkloadName};

/// Most certificates in a chain: the leaf, its authority, and intermediates of an operator's CA.
pub(super) const MAX_CHAIN: usize = 4;

/// A chain as it describes itself, not yet verified.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) name: WorkloadName,
    /// The leaf's public key: an uncompressed point on P-256.
    pub(super) key: Vec<u8>,
    /// When each certificate is valid, the leaf's first.
    pub(super) validity: Vec<Validity>,
}

/// A range of whole seconds that includes both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Validity {
    /// Returns true if `at` is in the range. A certificate is valid to the end of its last second,
    /// as in rustls-webpki.
    pub(super) fn contains(self, at: Timestamp) -> bool {
        let second = |at: Timestamp| at.as_jiff().as_millisecond().div_euclid(1000);
        (second(self.not_before)..=second(self.not_after)).contains(&second(at))
    }
}

impl Identity {
    pub(super) fn of_chain(chain: &[CertificateDer<'_>]) -> Result<Self, InvalidIdentity> {
        let (leaf, _) = match chain {
            [leaf, rest @ ..] if chain.len() <= MAX_CHAIN => (leaf, rest),
            _ => return Err(InvalidIdentity::ChainLength(chain.len())),
        };
        let validity = chain
            .iter()
            .enumerate()
            .map(|(index, certificate)| {
                parse(certificate)
                    .and_then(|certificate| validity(&certificate))
                    .map_err(|cause| InvalidIdentity::Certificate { index, cause })
            })
            .collect::<Result<_, _>>()?;
        let leaf_problem = |cause| InvalidIdentity::Certificate { index: 0, cause };
        Ok(Self {
            name: name(leaf)?,
            key: parse(leaf)
                .and_then(|leaf| p256_key(&leaf))
                .map_err(leaf_problem)?,
            validity,
        })
    }

    /// Returns when the whole chain is valid.
    pub(super) fn valid(&self) -> Validity {
        let latest = self.validity.iter().map(|one| one.not_before).max();
        let earliest = self.validity.iter().map(|one| one.not_after).min();
        Validity {
            not_before: latest.unwrap_or(Timestamp::MAX),
            not_after: earliest.unwrap_or(Timestamp::MIN),
        }
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err("bytes follow the certificate".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn validity(certificate: &X509Certificate<'_>) -> Result<Validity, String> {
    let moment = |seconds| {
        jiff::Timestamp::from_second(seconds)
            .map(Timestamp::from)
            .map_err(|error| error.to_string())
    };
    Ok(Validity {
        not_before: moment(certificate.validity.not_before.timestamp())?,
        not_after: moment(certificate.validity.not_after.timestamp())?,
    })
}

fn p256_key(leaf: &X509Certificate<'_>) -> Result<Vec<u8>, String> {
    let key = leaf.public_key();
    let curve = key
        .algorithm
        .parameters
        .as_ref()
        .and_then(|parameters| parameters.as_oid().ok());
    if key.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY && curve == Some(OID_EC_P256) {
        Ok(key.subject_public_key.data.to_vec())
    } else {
        Err("the key is not one for ECDSA P-256".into())
    }
}

/// Returns the one DNS name of the leaf. With several, the signer would be ambiguous.
fn name(leaf: &CertificateDer<'_>) -> Result<WorkloadName, InvalidIdentity> {
    let leaf = EndEntityCert::try_from(leaf).map_err(|error| InvalidIdentity::Certificate {
        index: 0,
        cause: error.to_string(),
    })?;
    match leaf.valid_dns_names().collect::<Vec<_>>()[..] {
        [name] => Ok(name.parse()?),
        ref names => Err(InvalidIdentity::Names { count: names.len() }),
    }
}
