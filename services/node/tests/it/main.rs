//! Real pods, started as the services start them, talking to each other on free ports.
#![allow(clippy::unwrap_used)]

mod chain;
mod clocks;
mod faults;
mod identity;
mod logs;
mod output;
mod refusals;
mod support;
mod trails;
mod wire;
