//! Mints one identity from the pod authority. It depends only on its arguments and on random keys.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use messages::{CertificateReport, WorkloadName, limits::BACKDATE};
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::authority::{Authority, AuthorityError};

/// A leaf, its authority's certificate and the leaf's key.
pub struct Identity {
    /// Leaf, then authority, PEM.
    pub chain_pem: String,
    /// PKCS #8 PEM: a secret.
    pub key_pem: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// The leaf.
    pub certificate: CertificateReport,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Why no identity was minted.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("cannot sign an identity: {0}")]
    Sign(#[from] rcgen::Error),
}

/// Mints an identity for `name`, valid from [`BACKDATE`] before `now` until `lifetime` after it.
///
/// # Errors
/// Fails if the identity would outlive its authority, or if peers would not accept it. A returned
/// identity was verified against the roots, for both ends of a connection, and for the pod's DNS
/// name.
pub fn mint(
    authority: &Authority,
    name: &WorkloadName,
    lifetime: Duration,
    now: Timestamp,
) -> Result<Identity, MintError> {
    let end = authority.covers(now, lifetime)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut parameters = CertificateParams::default();
    // An empty subject: a common name holds 64 characters, fewer than a pod's DNS name may have.
    // The serial number is rcgen's: 159 bits of the hash of the fresh public key, so random and
    // never repeated.
    parameters.distinguished_name = DistinguishedName::new();
    parameters.subject_alt_names = vec![
        SanType::DnsName(name.to_string().try_into()?),
        SanType::URI(name.spiffe_id().try_into()?),
    ];
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    parameters.use_authority_key_identifier_extension = true;
    // Certificates know whole seconds. Both ends are rounded down, so that the leaf never outlives
    // `lifetime`.
    let start = whole_seconds(now.saturating_sub(BACKDATE).unwrap_or(now));
    let end = whole_seconds(end);
    // rcgen's time type is of a crate that is not a dependency; addition makes one.
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    parameters.not_before = epoch + since_epoch(start);
    parameters.not_after = epoch + since_epoch(end);
    let issuer = Issuer::from_ca_cert_der(authority.certificate(), &authority.key)?;
    let leaf = parameters.signed_by(&key, &issuer)?;
    verify(leaf.der(), authority, name, now)?;
    let certificate =
        CertificateReport::of(leaf.der()).ok_or(rcgen::Error::CouldNotParseCertificate)?;
    Ok(Identity {
        chain_pem: leaf.pem() + &authority.chain_pem,
        key_pem: key.serialize_pem(),
        not_before: start,
        not_after: end,
        certificate,
    })
}

/// Verifies the leaf as a peer does. A failure here has a reason; in a handshake it would not.
fn verify(
    leaf: &CertificateDer<'_>,
    authority: &Authority,
    name: &WorkloadName,
    now: Timestamp,
) -> Result<(), AuthorityError> {
    let check = || -> Result<(), webpki::Error> {
        let anchors: Vec<_> = authority
            .roots
            .iter()
            .filter_map(|root| anchor_from_trusted_cert(root).ok())
            .collect();
        let end = EndEntityCert::try_from(leaf)?;
        for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
            end.verify_for_usage(
                // The leaf's issuer has a P-256 key; an operator's root may have another.
                ALL_VERIFICATION_ALGS,
                &anchors,
                &authority.chain,
                UnixTime::since_unix_epoch(since_epoch(now)),
                usage,
                None,
                None,
            )?;
        }
        let dns = ServerName::try_from(name.to_string()).map_err(|_| webpki::Error::BadDer)?;
        end.verify_is_valid_for_subject_name(&dns)
    };
    check().map_err(|error| {
        AuthorityError::Refused(format!(
            "the authority makes no identity of `{name}` that peers accept: \
             {error:?} when verified against its roots"
        ))
    })
}

fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn since_epoch(at: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0))
}
