//! Ferry's harness: from a blueprint to messages that are proven to have crossed.
//!
//! The pure middle ([`blueprint`], [`plan`], [`envoy`]) decides; the modules around it each own one thing of the outside world.

#![cfg_attr(test, allow(clippy::unwrap_used))]

/// The wire types, for whoever shows them.
pub use messages as wire;

pub mod bench;
pub mod blueprint;
pub mod bundle;
pub mod clock;
pub mod container;
pub mod deploy;
pub mod docker;
pub mod doctor;
pub mod environment;
pub mod envoy;
pub mod failure;
pub mod http;
pub mod identity;
pub mod image;
pub mod kubeconfig;
pub mod kubernetes;
pub mod local;
pub mod manifests;
pub mod pinhole;
pub mod plan;
pub mod pods;
pub mod ports;
pub mod process;
pub mod proof;
pub mod proxy;
pub mod render;
pub mod report;
pub mod run;
pub mod runtime;
pub mod scaffold;
pub mod select;
pub mod services;
pub mod testing;
pub mod text;
pub mod timeline;
pub mod tools;
pub mod trail;
pub mod wait;
