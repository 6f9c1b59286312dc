//! What a test of Ferry stands on.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod testing;
