//! Signed trails. Each pod signs its hop with its current workload identity. With the environment's
//! root, an auditor can verify afterwards which pods carried a message. `docs/signature.md`
//! describes the format for other languages.

mod canonical;
mod diagnose;
mod error;
mod identity;
mod jws;
mod sds;
mod signer;
mod verifier;

pub use error::{HopProblem, InvalidIdentity, SignError, TrailError, TrailErrors};
pub use signer::Signer;
pub use verifier::{TrailVerifier, verify_trail};
