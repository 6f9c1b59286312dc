//! The agent with real authorities: its parts, and the program itself.

#![allow(clippy::unwrap_used)]

mod agent;
mod mint;
mod program;
mod publish;
mod support;
