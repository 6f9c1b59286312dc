//! Real clusters on this machine: the only caller of `k3d`.
//!
//! Each environment has clusters of its own, labelled with its name and state folder. Pods of one cluster reach the other
//! through this machine, as `host.k3d.internal`.

mod bring_up;
mod cli;
mod clusters;
mod creation;
mod deletion;
mod engine;
mod faults;
mod images;
mod kubeconfig;
mod nodes;
mod reach;
mod state;
mod tear_down;

pub(super) use bring_up::{refresh, up};
pub use cli::{MINIMUM_VERSION, TESTED_VERSION, version};
pub use clusters::{Cluster, ClusterSpec, Clusters, HostPort, PortMapping, cluster_name};
pub use engine::too_old_for;
pub(super) use faults::signal;
pub use nodes::{ENVIRONMENT_LABEL, Owner, STATE_LABEL, owners};
pub(super) use state::{clusters_down, kubeconfig_of};
pub(super) use tear_down::{clusters_of, down, orphans, remove_unrecorded};

/// The k3s release that Ferry is tested with.
pub const K3S_IMAGE: &str = "rancher/k3s:v1.34.4-k3s1";

/// What to do where the engine's published ports do not arrive here.
pub(crate) const ENGINE_ELSEWHERE: &str = "use an engine of this machine (unset `DOCKER_HOST`, `docker context use default`), or `--runtime embedded`";

/// Names another k3s image than [`K3S_IMAGE`].
pub const K3S_IMAGE_VARIABLE: &str = "FERRY_K3S_IMAGE";

/// The k3s image that clusters are made from.
pub fn k3s_image() -> String {
    std::env::var(K3S_IMAGE_VARIABLE)
        .ok()
        .filter(|image| !image.is_empty())
        .unwrap_or_else(|| K3S_IMAGE.into())
}
