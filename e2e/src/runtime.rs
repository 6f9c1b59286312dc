//! Where an environment runs.

pub mod k3d;
