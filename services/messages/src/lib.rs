//! Ferry's wire types: messages, acknowledgements, trails, names and the environment variables of a pod.
//!
//! Everything here is a value: no I/O, no state. The two encodings (`json`, `proto`) carry the same fields.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod env;
pub mod limits;
mod message;
mod name;
mod payload;
mod protocol;
mod role;
mod timestamp;

pub use message::{Ack, Hop, Message, Outcome};
pub use name::{InvalidName, WorkloadName, is_dns_label};
pub use payload::{InvalidPayload, Payload};
pub use protocol::{InvalidProtocol, Protocol};
pub use role::{InvalidRole, Role};
pub use timestamp::{InvalidTimestamp, Timestamp};
