//! Ferry's workload identity agent. It mints a short-lived certificate for its pod from the pod's
//! authority, publishes it for Envoy and the app as one file, and replaces it before it expires;
//! see [`agent`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agent;
pub mod authority;
pub mod config;
pub mod http;
pub mod metrics;
pub mod mint;
pub mod publish;
pub mod status;
