//! Ferry's harness: from a blueprint to messages that are proven to have crossed.
//!
//! The pure middle ([`blueprint`], [`plan`], [`envoy`]) decides; the modules around it each own one thing of the outside world.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod blueprint;
pub mod deploy;
pub mod environment;
pub mod envoy;
pub mod failure;
pub mod kubernetes;
pub mod plan;
pub mod process;
pub mod render;
pub mod timeline;
pub mod wait;
