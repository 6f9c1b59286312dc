//! Clusters: their API servers, the images on their nodes, and those that `k3d` makes.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod image;
pub mod k3d;
pub mod kubeconfig;
pub mod kubernetes;
pub mod proxy;
