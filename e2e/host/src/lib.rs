//! This machine: processes, files, the Docker engine, HTTP, and what stays of an environment.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod binaries;
pub mod clock;
pub mod docker;
pub mod environment;
pub mod envoy_binary;
pub mod http;
pub mod manifests;
pub mod pods;
pub mod ports;
pub mod process;
pub mod select;
pub mod text;
pub mod timeline;
pub mod wait;
