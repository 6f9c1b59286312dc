//! Ferry's wire types: messages, acknowledgements, trails, names and the environment variables of a
//! pod.
//!
//! Everything here is a value: no I/O, no state. The two encodings (`json`, `proto`) carry the same
//! fields.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod check;
mod decode_error;
pub mod der;
pub mod env;
pub mod json;
mod key;
pub mod limits;
pub mod listen;
mod message;
mod name;
mod payload;
#[cfg(feature = "grpc")]
pub mod proto;
mod protocol;
mod readiness;
mod report;
mod role;
#[cfg(test)]
mod samples;
pub mod signature;
mod timestamp;

pub use check::Rejection;
pub use decode_error::DecodeError;
pub use key::{KeyProblem, PrivateKey};
pub use message::{Ack, Hop, Message, Outcome};
pub use name::{InvalidName, WorkloadName, is_dns_label};
pub use payload::{InvalidPayload, Payload};
pub use protocol::{InvalidProtocol, PEER_TLV, Protocol, TIME_HEADER};
pub use readiness::Readiness;
pub use report::{CertificateReport, IDENTITY_REPORT_PATH, IdentityReport};
pub use role::{InvalidRole, Role};
pub use timestamp::{InvalidTimestamp, Timestamp};
