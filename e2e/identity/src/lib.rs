//! Certificates of an environment: its root, an authority for each pod, a server certificate
//! for each pinhole. In a running pod only `wosp` mints leaves; tests mint them here.
//!
//! All keys are ECDSA P-256. An authority's certificate has path length 0 and critical name constraints (RFC 5280, 4.2.1.10)
//! that permit its own pod's DNS name only, so that a stolen authority cannot speak for another pod.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::time::Duration;

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SerialNumber};
use ring::rand::{SecureRandom as _, SystemRandom};

mod authority;
mod files;
mod import;
mod request;
mod root;
mod sample;
mod server;
mod server_check;
mod succession;
#[cfg(test)]
mod tests;

pub use authority::{Authority, AuthorityRequest, CertificateKind, Leaf, LeafRequest};
pub use files::{AUTHORITY_CERTIFICATE, AUTHORITY_KEY, ROOTS};
pub use import::{IMPORT_ROOT, Signed, certificate_file};
pub use messages::{CertificateReport, IDENTITY_REPORT_PATH, IdentityReport};
pub use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose};
pub use request::{drop_request, request, request_file};
pub use root::{ROOT_CERTIFICATE, ROOT_KEY, Root};
pub use server::{Clients, Server};
pub use succession::{Succession, trusted_roots};

/// How long a root is valid: one year.
pub const ROOT_LIFETIME: Duration = days(365);
/// How long a pod authority is valid: 90 days, or as long as its root where that is less.
pub const AUTHORITY_LIFETIME: Duration = days(90);
/// How long the certificate of a pinhole's HTTPS is valid: 90 days, or as long as its root where that is less.
pub const SERVER_LIFETIME: Duration = days(90);
/// How long a test's leaf is valid: one hour. `wosp` gives its own 60 s.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// How far a certificate's validity begins in the past, for machines whose clocks differ.
pub const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

const fn days(count: u64) -> Duration {
    Duration::from_secs(count * 24 * 60 * 60)
}

/// When a certificate is valid, both ends included; certificates know whole seconds only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl Validity {
    /// From [`CLOCK_SKEW`] ago until `lifetime` from now.
    pub fn lasting(lifetime: Duration) -> Self {
        let now = Timestamp::now();
        Self {
            not_before: now.saturating_sub(CLOCK_SKEW).unwrap_or(now),
            not_after: now.saturating_add(lifetime).unwrap_or(Timestamp::MAX),
        }
    }
}

/// A bearer token for `/trigger` and `/output`: 32 random bytes as base64url without padding (43 characters).
pub fn token() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(random::<32>())
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the kernel must give random bytes");
    bytes
}

fn new_key() -> anyhow::Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot generate an ECDSA P-256 key")
}

/// What all certificates share: a random serial number of 127 bits, the validity, the issuer's key identifier.
fn parameters(subject: DistinguishedName, validity: Validity) -> anyhow::Result<CertificateParams> {
    let mut serial = random::<16>();
    // A serial number is positive (RFC 5280, 4.1.2.2), and its first byte not 0, so that all have the same length.
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut parameters = CertificateParams::default();
    parameters.serial_number = Some(SerialNumber::from_slice(&serial));
    parameters.distinguished_name = subject;
    // rcgen's clock type belongs to a crate that is no dependency of ours; it can be reached by addition.
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    parameters.not_before = epoch + since_epoch(validity.not_before);
    parameters.not_after = epoch + since_epoch(validity.not_after);
    parameters.use_authority_key_identifier_extension = true;
    Ok(parameters)
}

fn since_epoch(at: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0))
}
