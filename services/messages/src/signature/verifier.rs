//! Verifies signed trails.

use std::{borrow::Cow, collections::HashMap, time::Duration};

use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime, pem::PemObject as _};
use uuid::Uuid;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::{
    HopProblem, InvalidIdentity, TrailError, TrailErrors,
    canonical::{TrailHash, hop_hash, payload},
    diagnose::diagnose,
    identity::Identity,
    jws::{Detached, Header, signing_input},
    sds,
};
use crate::{Hop, Timestamp, WorkloadName, decode_error::shorten, limits::MAX_TRAIL_HOPS};

/// Most chains in the cache, which is cleared when it is full. A pod has a new one every ten
/// seconds.
const MAX_KNOWN_CHAINS: usize = 4096;

/// Verifies trails against the roots of an environment. It caches verified certificate chains:
/// thousands of trails share few of them.
pub struct TrailVerifier {
    roots: Vec<TrustAnchor<'static>>,
    /// By the text of the leaf in `x5c`.
    known: HashMap<String, KnownChain>,
}

/// A chain that ends at a root. Only the validity of its certificates depends on time; it is
/// checked for each hop.
struct KnownChain {
    /// The rest of `x5c`.
    issuers: Vec<String>,
    identity: Identity,
}

/// Verifies one trail, see [`TrailVerifier::verify`].
///
/// # Errors
///
/// Returns the first problem of the roots or of the trail.
pub fn verify_trail(
    id: Uuid,
    trail: &[Hop],
    roots: &[CertificateDer<'_>],
) -> Result<Vec<WorkloadName>, TrailError> {
    TrailVerifier::new(roots)?.verify(id, trail)
}

impl TrailVerifier {
    /// Returns a verifier that trusts `roots`. The validity of a root itself is not checked.
    ///
    /// # Errors
    ///
    /// Returns [`TrailError::NoRoot`] or [`TrailError::Root`] if a root is missing or cannot be
    /// used.
    pub fn new(roots: &[CertificateDer<'_>]) -> Result<Self, TrailError> {
        if roots.is_empty() {
            return Err(TrailError::NoRoot);
        }
        let anchor = |(index, root)| {
            anchor_from_trusted_cert(root)
                .map(|anchor| anchor.to_owned())
                .map_err(|error| TrailError::Root {
                    index,
                    cause: error.to_string(),
                })
        };
        Ok(Self {
            roots: roots
                .iter()
                .enumerate()
                .map(anchor)
                .collect::<Result<_, _>>()?,
            known: HashMap::new(),
        })
    }

    /// Returns a verifier that trusts the roots of [`crate::env::ROOTS_FILE`], an Envoy SDS
    /// resource named `roots` with the certificates inline as PEM.
    ///
    /// # Errors
    ///
    /// Returns why the text holds no usable roots.
    pub fn from_roots_file(text: &str) -> Result<Self, TrailError> {
        let roots = CertificateDer::pem_slice_iter(sds::roots(text)?.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TrailError::NotRoots(error.to_string()))?;
        Self::new(&roots)
    }

    /// Verifies that each hop of message `id` was signed by the pod it names, with an identity that
    /// was valid at that moment, after exactly the hops before it. Times of two hops are not
    /// compared: they are of two clocks. Returns the pods in travel order.
    ///
    /// A trail that is cut off at its end passes: the caller, who knows the path, checks that it is
    /// complete.
    ///
    /// # Errors
    ///
    /// Returns the first problem of the trail.
    pub fn verify(&mut self, id: Uuid, trail: &[Hop]) -> Result<Vec<WorkloadName>, TrailError> {
        self.examine(id, trail).map_err(|problems| problems.first)
    }

    /// Verifies a trail as [`Self::verify`] does, and does not stop at the first broken hop.
    ///
    /// # Errors
    ///
    /// Returns every problem of the trail. A hop that only follows a broken one is not broken
    /// itself.
    pub fn examine(&mut self, id: Uuid, trail: &[Hop]) -> Result<Vec<WorkloadName>, TrailErrors> {
        // The last pod adds its hop to a trail of the longest length.
        let limit = MAX_TRAIL_HOPS + 1;
        if trail.len() > limit {
            let hops = trail.len();
            return Err(TrailError::TooLong { hops, limit }.into());
        }
        let mut before = TrailHash::new();
        let mut names = Vec::with_capacity(trail.len());
        let mut broken = vec![];
        for (index, hop) in trail.iter().enumerate() {
            match self.verify_hop(id, &before, hop) {
                Ok(name) => names.push(name),
                Err(problem) => broken.push((index, problem)),
            }
            before.push(hop);
        }
        let errors = diagnose(trail, broken)
            .into_iter()
            .map(|(index, problem)| TrailError::Hop {
                index,
                pod: trail
                    .get(index)
                    .map_or_else(String::new, |hop| shorten(&hop.pod, 80)),
                problem: Box::new(problem),
            });
        match TrailErrors::of(errors) {
            None => Ok(names),
            Some(errors) => Err(errors),
        }
    }

    fn verify_hop(
        &mut self,
        id: Uuid,
        before: &TrailHash,
        hop: &Hop,
    ) -> Result<WorkloadName, HopProblem> {
        if hop.signature.is_empty() {
            return Err(HopProblem::Unsigned);
        }
        let jws = Detached::parse(&hop.signature).map_err(HopProblem::Malformed)?;
        let header = Header::parse(&jws.header_json).map_err(HopProblem::Malformed)?;

        // The signature is checked first, so that an altered hop is reported as altered, whatever
        // else no longer fits.
        let before = before.text();
        let check = |identity: &Identity| {
            check_signature(identity, id, &before, hop, &jws, &header)?;
            check_times(identity, hop.at)
        };
        if let Some(identity) = self.known_chain(&header.x5c) {
            check(identity)?;
            return check_name(&identity.name, hop);
        }
        let chain: Vec<CertificateDer<'_>> = header
            .chain()
            .map_err(HopProblem::Malformed)?
            .into_iter()
            .map(Into::into)
            .collect();
        let identity = Identity::of_chain(&chain).map_err(|error| match error {
            InvalidIdentity::Name(_) | InvalidIdentity::Names { .. } => {
                HopProblem::NoIdentity(error.to_string())
            }
            _ => HopProblem::Malformed(error.to_string()),
        })?;
        check(&identity)?;
        self.check_chain(&chain, &identity, hop.at)?;
        let name = check_name(&identity.name, hop)?;
        self.remember(&header.x5c, identity);
        Ok(name)
    }

    fn known_chain(&self, x5c: &[Cow<'_, str>]) -> Option<&Identity> {
        let (leaf, issuers) = x5c.split_first()?;
        let known = self.known.get(leaf.as_ref())?;
        (known.issuers == issuers).then_some(&known.identity)
    }

    fn remember(&mut self, x5c: &[Cow<'_, str>], identity: Identity) {
        if self.known.len() >= MAX_KNOWN_CHAINS {
            self.known.clear();
        }
        if let Some((leaf, issuers)) = x5c.split_first() {
            let issuers = issuers.iter().map(|text| text.to_string()).collect();
            self.known
                .insert(leaf.to_string(), KnownChain { issuers, identity });
        }
    }

    /// Verifies signatures, path length, name constraints and key usage from the leaf to a root.
    fn check_chain(
        &self,
        chain: &[CertificateDer<'_>],
        identity: &Identity,
        at: Timestamp,
    ) -> Result<(), HopProblem> {
        let signer = || identity.name.clone();
        let broken = |cause: String| HopProblem::Chain {
            signer: signer(),
            cause,
        };
        let [leaf, issuers @ ..] = chain else {
            return Err(broken("it is empty".into()));
        };
        let seconds = u64::try_from(at.as_jiff().as_second())
            .map_err(|_| broken("the hop is of before 1970".into()))?;
        EndEntityCert::try_from(leaf)
            .and_then(|leaf| {
                leaf.verify_for_usage(
                    ALL_VERIFICATION_ALGS,
                    &self.roots,
                    issuers,
                    UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
                    KeyUsage::client_auth(),
                    None,
                    None,
                )
                .map(drop)
            })
            .map_err(|error| match error {
                // A root of the same name may have another key: then the signature fails.
                webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
                    HopProblem::NotOfThisRoot { signer: signer() }
                }
                webpki::Error::NameConstraintViolation => {
                    HopProblem::NameNotPermitted { signer: signer() }
                }
                other => broken(other.to_string()),
            })
    }
}

/// Verifies the ES256 signature. If it does not fit, finds out why.
fn check_signature(
    identity: &Identity,
    id: Uuid,
    before: &str,
    hop: &Hop,
    jws: &Detached<'_>,
    header: &Header<'_>,
) -> Result<(), HopProblem> {
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &identity.key);
    let fits = |id: Uuid, before: &str| {
        let input = signing_input(jws.header, &payload(id, before, hop));
        key.verify(input.as_bytes(), &jws.signature).is_ok()
    };
    if fits(id, before) {
        return Ok(());
    }
    let signer = identity.name.clone();
    Err(match &header.ferry {
        Some(signed) if signed.hop != hop_hash(hop) => HopProblem::Altered { signer },
        Some(signed) if fits(signed.id, &signed.before) => {
            if signed.id == id {
                // Only the whole trail shows which of the hops before it was changed: see
                // `diagnose`.
                HopProblem::Dropped { signer }
            } else {
                HopProblem::Replayed {
                    signer,
                    signed: signed.id,
                    found: id,
                }
            }
        }
        Some(_) | None => HopProblem::Forged { signer },
    })
}

fn check_times(identity: &Identity, at: Timestamp) -> Result<(), HopProblem> {
    let name = &identity.name;
    let what = |index| match index {
        0 => format!("the identity of {name}"),
        _ => format!("authority {index} of {name}"),
    };
    for (index, validity) in identity.validity.iter().enumerate() {
        if !validity.contains(at) {
            return Err(HopProblem::NotValidAt {
                what: what(index),
                at,
                not_before: validity.not_before,
                not_after: validity.not_after,
            });
        }
    }
    // RFC 5280 permits it, but `wosp` makes no such identity: an attacker with a stolen key does.
    for (index, (one, issuer)) in identity
        .validity
        .iter()
        .zip(identity.validity.iter().skip(1))
        .enumerate()
    {
        if one.not_after > issuer.not_after {
            return Err(HopProblem::Outlives {
                what: what(index),
                not_after: one.not_after,
                issuer: issuer.not_after,
            });
        }
    }
    Ok(())
}

fn check_name(signer: &WorkloadName, hop: &Hop) -> Result<WorkloadName, HopProblem> {
    if hop.cluster == signer.cluster() && hop.namespace == signer.namespace() {
        Ok(signer.clone())
    } else {
        Err(HopProblem::WrongIdentity {
            signer: signer.clone(),
            cluster: shorten(&hop.cluster, 80),
            namespace: shorten(&hop.namespace, 80),
        })
    }
}
