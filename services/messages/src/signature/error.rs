//! Errors of identities, signatures and trails.

use uuid::Uuid;

use crate::{InvalidName, Timestamp, WorkloadName, limits::MAX_SIGNATURE_BYTES};

/// Why an identity cannot be used to sign. No text holds a key.
#[derive(Debug, thiserror::Error)]
pub enum InvalidIdentity {
    #[error("the identity file is not an SDS resource: {0}; `wosp` writes it")]
    NotSds(serde_json::Error),
    #[error(
        "the identity file holds no resource named `identity` with a certificate and a key; \
         `wosp` writes it"
    )]
    NoIdentity,
    #[error("the certificate chain is not PEM: {0}")]
    Pem(String),
    #[error(
        "the certificate chain holds {0} certificates, expected 1 to 4: \
         the leaf first, then its authority"
    )]
    ChainLength(usize),
    #[error("certificate {index} of the chain: {cause}")]
    Certificate { index: usize, cause: String },
    #[error("the leaf names {count} DNS names, expected exactly one")]
    Names { count: usize },
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error("the private key is not a PKCS #8 key for ECDSA P-256")]
    Key,
    #[error("the private key is not the one of the leaf certificate")]
    KeyMismatch,
}

/// Why a hop was not signed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SignError {
    #[error(
        "the identity of {name} is valid from {not_before} to {not_after}, not at {at}; \
         is `wosp` running, and are the clocks right?"
    )]
    NotValidAt {
        name: WorkloadName,
        at: Timestamp,
        not_before: Timestamp,
        not_after: Timestamp,
    },
    #[error(
        "the identity is that of {name}, \
         and cannot sign for namespace `{namespace}` in cluster `{cluster}`"
    )]
    OtherPod {
        name: WorkloadName,
        cluster: String,
        namespace: String,
    },
    #[error(
        "the signature of {0} bytes is over the limit of {MAX_SIGNATURE_BYTES}: \
         the certificate chain is too long"
    )]
    TooLong(usize),
    #[error("the random number generator of the system failed")]
    Random,
}

/// Why a trail is not valid.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum TrailError {
    #[error("root certificate {index} cannot be used: {cause}")]
    Root { index: usize, cause: String },
    #[error("the file of the roots is not an SDS resource with PEM: {0}; `wosp` writes it")]
    NotRoots(String),
    #[error("no root certificate was given to check the trail against")]
    NoRoot,
    #[error("a trail of {hops} hops is over the limit of {limit}")]
    TooLong { hops: usize, limit: usize },
    /// `index` counts from 0, as in the JSON.
    #[error("trail[{index}] ({pod:?}): {problem}")]
    Hop {
        index: usize,
        pod: String,
        problem: Box<HopProblem>,
    },
}

impl TrailError {
    /// Returns the problem of the hop, if the error concerns one.
    pub fn problem(&self) -> Option<&HopProblem> {
        match self {
            Self::Hop { problem, .. } => Some(problem),
            Self::Root { .. } | Self::NotRoots(_) | Self::NoRoot | Self::TooLong { .. } => None,
        }
    }
}

/// Every problem of one trail: at least one error, in travel order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrailErrors {
    pub first: TrailError,
    pub others: Vec<TrailError>,
}

impl TrailErrors {
    pub(super) fn of(errors: impl IntoIterator<Item = TrailError>) -> Option<Self> {
        let mut errors = errors.into_iter();
        let first = errors.next()?;
        let others = errors.collect();
        Some(Self { first, others })
    }

    /// Returns every error, in travel order.
    pub fn iter(&self) -> impl Iterator<Item = &TrailError> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl From<TrailError> for TrailErrors {
    fn from(first: TrailError) -> Self {
        let others = vec![];
        Self { first, others }
    }
}

/// Why one hop is not valid.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HopProblem {
    #[error("it is not signed")]
    Unsigned,
    #[error("its signature cannot be read: {0}")]
    Malformed(String),
    #[error("forged: the signature is not by the key of {signer}")]
    Forged { signer: WorkloadName },
    #[error("altered: its fields are not the ones that {signer} signed")]
    Altered { signer: WorkloadName },
    #[error("replayed: {signer} signed it for message {signed}, not for {found}")]
    Replayed {
        signer: WorkloadName,
        signed: Uuid,
        found: Uuid,
    },
    #[error(
        "dropped: hash of the trail before it: \
         {signer} signed a trail with a hop that is not here, or not as it was"
    )]
    Dropped { signer: WorkloadName },
    /// `extra` counts from 1.
    #[error(
        "added: hash of the trail before it: \
         {signer} signed the trail without hop {extra}, which was put in later"
    )]
    Added { signer: WorkloadName, extra: usize },
    /// `place` counts from 1.
    #[error("reordered: hash of the trail before it: {signer} signed it as hop {place}")]
    Reordered { signer: WorkloadName, place: usize },
    /// `first` counts from 1.
    #[error("repeated: hash of the trail before it: it is hop {first} of {signer} once more")]
    Repeated { signer: WorkloadName, first: usize },
    #[error("the certificate names no pod: {0}")]
    NoIdentity(String),
    #[error(
        "wrong identity: {signer} signed it, \
         which is not the pod of namespace `{namespace}` in cluster `{cluster}`"
    )]
    WrongIdentity {
        signer: WorkloadName,
        cluster: String,
        namespace: String,
    },
    #[error(
        "not valid at that moment: {what} is valid from {not_before} to {not_after}, \
         the hop is of {at}"
    )]
    NotValidAt {
        what: String,
        at: Timestamp,
        not_before: Timestamp,
        not_after: Timestamp,
    },
    #[error(
        "outlives its authority: {what} is valid until {not_after}, what issued it until {issuer}"
    )]
    Outlives {
        what: String,
        not_after: Timestamp,
        issuer: Timestamp,
    },
    #[error("not of this root: the chain of {signer} does not end at a root that was given")]
    NotOfThisRoot { signer: WorkloadName },
    #[error("name not permitted: the authority that made the identity may not speak for {signer}")]
    NameNotPermitted { signer: WorkloadName },
    #[error("the certificate chain of {signer} is not valid: {cause}")]
    Chain { signer: WorkloadName, cause: String },
}

impl HopProblem {
    /// Returns the problem in one word, the same in every implementation: see `docs/signature.md`.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::Malformed(_) => "malformed",
            Self::Forged { .. } => "forged",
            Self::Altered { .. } => "altered",
            Self::Replayed { .. } => "replayed",
            Self::Dropped { .. } => "dropped",
            Self::Added { .. } => "added",
            Self::Reordered { .. } => "reordered",
            Self::Repeated { .. } => "repeated",
            Self::NoIdentity(_) => "no-identity",
            Self::WrongIdentity { .. } => "wrong-identity",
            Self::NotValidAt { .. } => "not-valid-then",
            Self::Outlives { .. } => "outlives-authority",
            Self::NotOfThisRoot { .. } => "other-root",
            Self::NameNotPermitted { .. } => "name-not-permitted",
            Self::Chain { .. } => "bad-chain",
        }
    }
}
