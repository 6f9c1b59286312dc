//! The k3d runtime: clusters on this machine; the only caller of `k3d`.
//!
//! Each environment has separate clusters, labelled with its name and state folder. Pods of one
//! cluster reach the other
//! through this machine, as `host.k3d.internal`.

mod bring_up;
mod faults;
mod images;
mod reach;
mod state;
mod tear_down;

pub(crate) use bring_up::{refresh, up};
pub(crate) use faults::signal;
pub(crate) use state::{clusters_down, kubeconfig_of};
pub(crate) use tear_down::{clusters_of, down, orphans, remove_unrecorded};
