//! Tests on real k3d clusters; `.ci/k3d` runs all of them.
//!
//! `pieces`, `existing` and `bundle` make clusters of their own. All others share the environment that
//! `FERRY_ENVIRONMENT` names, with both two-cluster blueprints; `examples/on_k3d.rs` makes one.

#![allow(clippy::unwrap_used)]

mod broken;
mod bundle;
mod existing;
mod guard;
mod hand;
mod images;
mod live;
mod liveness;
mod manifests;
mod names;
mod nodes;
mod pieces;
mod policies;
mod proxy;
mod scene;
mod stranger;
mod targets;
