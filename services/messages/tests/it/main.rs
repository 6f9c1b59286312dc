//! The tests of `messages` from outside, in one binary: one link.
//!
//! `FERRY_UPDATE_GOLDEN=1 cargo test -p messages --features grpc` rewrites the files under
//! `tests/golden`.

#![allow(clippy::unwrap_used)]

mod documents;
mod golden;
mod independent;
mod mint;
mod properties;
mod signer;
mod trail;
mod vectors;
