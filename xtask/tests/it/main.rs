//! The command line as somebody uses it: the real program, its output, its exit code, and what it leaves behind.

#![allow(clippy::unwrap_used)]

mod bench;
mod clocks;
mod e2e;
mod endings;
mod existing;
mod failures;
mod fake_api;
mod identity;
mod local;
mod proxies;
mod repair;
mod repair_k3d;
mod report;
mod state;
mod streams;
mod usage;
