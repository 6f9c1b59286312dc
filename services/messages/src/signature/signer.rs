//! Signs hops with a workload identity.

use std::{fmt, time::Duration};

use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};
use uuid::Uuid;

use super::{
    InvalidIdentity, SignError,
    canonical::{TrailHash, hop_hash, payload},
    identity::Identity,
    jws::{Header, Signed, compact, signing_input, x5c},
    sds,
};
use crate::{
    Hop, Timestamp, WorkloadName,
    limits::{BACKDATE, MAX_SIGNATURE_BYTES},
};

/// Signs hops with one workload identity. A rotated identity is a new `Signer`.
pub struct Signer {
    identity: Identity,
    x5c: Vec<String>,
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl fmt::Debug for Signer {
    /// Shows the owner and the validity, never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("name", &format_args!("{}", self.identity.name))
            .field("not_before", &format_args!("{}", self.not_before()))
            .field("not_after", &format_args!("{}", self.not_after()))
            .finish_non_exhaustive()
    }
}

impl Signer {
    /// Reads the text of [`crate::env::IDENTITY_FILE`]: an Envoy SDS resource named `identity` with
    /// the chain (leaf first) and the PKCS #8 key inline as PEM.
    ///
    /// # Errors
    ///
    /// Returns why the identity cannot sign. The error never holds a key.
    pub fn from_identity_file(text: &str) -> Result<Self, InvalidIdentity> {
        let identity = sds::identity(text)?;
        Self::from_pem(
            &identity.certificate_chain.inline_string,
            &identity.private_key.inline_string,
        )
    }

    /// Returns a signer of a certificate chain (leaf first) and its PKCS #8 key, both PEM.
    ///
    /// # Errors
    ///
    /// Returns why the identity cannot sign. The error never holds a key.
    pub fn from_pem(certificate_chain: &str, private_key: &str) -> Result<Self, InvalidIdentity> {
        let chain = CertificateDer::pem_slice_iter(certificate_chain.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| InvalidIdentity::Pem(error.to_string()))?;
        let identity = Identity::of_chain(&chain)?;
        let random = SystemRandom::new();
        // The causes are omitted: an error must not repeat the content of the key.
        let key = PrivatePkcs8KeyDer::from_pem_slice(private_key.as_bytes())
            .map_err(|_| InvalidIdentity::Key)?;
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            key.secret_pkcs8_der(),
            &random,
        )
        .map_err(|_| InvalidIdentity::Key)?;
        if key.public_key().as_ref() != identity.key {
            return Err(InvalidIdentity::KeyMismatch);
        }
        Ok(Self {
            x5c: x5c(chain.iter().map(AsRef::as_ref)),
            identity,
            key,
            random,
        })
    }

    /// Returns the owner of the identity.
    pub const fn name(&self) -> &WorkloadName {
        &self.identity.name
    }

    /// Returns from when the whole chain is valid.
    pub fn not_before(&self) -> Timestamp {
        self.identity.valid().not_before
    }

    /// Returns until when the whole chain is valid.
    pub fn not_after(&self) -> Timestamp {
        self.identity.valid().not_after
    }

    /// Returns the life of the identity from its minting, which is [`BACKDATE`] after the start of
    /// its validity. For an identity that is not backdated, it is the whole validity.
    pub fn life(&self) -> Duration {
        let valid = self.identity.valid();
        let whole = valid
            .not_after
            .as_jiff()
            .duration_since(valid.not_before.as_jiff());
        let whole = Duration::try_from(whole).unwrap_or_default();
        match whole.checked_sub(BACKDATE) {
            Some(life) if !life.is_zero() => life,
            _ => whole,
        }
    }

    /// Signs `hop`, this pod's entry on message `id`, as the one after the trail `before`. Its
    /// `signature` is replaced.
    ///
    /// The hop keeps the time of its pod's clock, though a hop before it may be later by another
    /// clock. The order of hops follows from what they have signed.
    ///
    /// # Errors
    ///
    /// Returns [`SignError`] if the hop is of another pod, the identity is not valid at its time,
    /// or the signature is too long.
    pub fn sign(&self, id: Uuid, before: &[Hop], mut hop: Hop) -> Result<Hop, SignError> {
        let name = self.name();
        if hop.cluster != name.cluster() || hop.namespace != name.namespace() {
            return Err(SignError::OtherPod {
                name: name.clone(),
                cluster: hop.cluster,
                namespace: hop.namespace,
            });
        }
        let valid = self.identity.valid();
        if !valid.contains(hop.at) {
            return Err(SignError::NotValidAt {
                name: name.clone(),
                at: hop.at,
                not_before: valid.not_before,
                not_after: valid.not_after,
            });
        }
        let before = TrailHash::of(before).text();
        let payload = payload(id, &before, &hop);
        let signed = Signed {
            before,
            hop: hop_hash(&hop),
            id,
        };
        let header = Header::new(&self.x5c, signed).encode();
        let signature = self
            .key
            .sign(&self.random, signing_input(&header, &payload).as_bytes())
            .map_err(|_| SignError::Random)?;
        hop.signature = compact(&header, signature.as_ref());
        match hop.signature.len() {
            length if length > MAX_SIGNATURE_BYTES => Err(SignError::TooLong(length)),
            _ => Ok(hop),
        }
    }
}
