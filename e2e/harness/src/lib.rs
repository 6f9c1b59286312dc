//! Brings environments up, proves their messages, and does what each command asks for.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod ops;
pub mod pinhole;
pub mod proof;
pub mod runtime;
pub mod trail;
