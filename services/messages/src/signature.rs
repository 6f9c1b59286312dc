//! Signed trails: each pod signs its hop with its workload identity of that moment, and anybody who has the environment's
//! root can check afterwards who carried a message. `docs/signature.md` describes the format for other languages.

mod canonical;
mod diagnose;
mod error;
mod identity;
mod jws;
mod signer;
mod verifier;

pub use error::{HopProblem, InvalidIdentity, SignError, TrailError, TrailErrors};
pub use signer::Signer;
pub use verifier::{TrailVerifier, verify_trail};
