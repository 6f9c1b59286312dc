//! Ferry's harness: from a blueprint to messages that are proven to have crossed.
//!
//! The pure middle ([`blueprint`], [`plan`], [`envoy`]) decides; the modules around it each own one thing of the outside world.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod docker;
pub mod doctor;
pub mod environment;
pub mod failure;
pub mod http;
pub mod image;
pub mod plan;
pub mod process;
pub mod runtime;
pub mod services;
pub mod timeline;
pub mod wait;
