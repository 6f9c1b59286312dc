//! Clusters that `k3d` makes on this machine: the only caller of `k3d`.
//!
//! Each cluster is labelled with the name and the state folder of its environment.

mod cli;
mod clusters;
mod creation;
mod deletion;
mod engine;
mod kubeconfig;
mod nodes;

pub use cli::{MINIMUM_VERSION, TESTED_VERSION, version};
pub use clusters::{
    Cluster, ClusterSpec, Clusters, HostPort, PortMapping, cluster_name, fitting, network,
};
pub use engine::too_old_for;
pub use host::docker::{ENVIRONMENT_LABEL, Owner, STATE_LABEL};
pub use nodes::owners;

/// The k3s release that Ferry is tested with.
pub const K3S_IMAGE: &str = "rancher/k3s:v1.34.4-k3s1";

/// What to do where the engine's published ports do not arrive here.
pub const ENGINE_ELSEWHERE: &str = "use an engine of this machine (unset `DOCKER_HOST`, `docker context use default`), or `--runtime embedded`";

/// Names another k3s image than [`K3S_IMAGE`].
pub const K3S_IMAGE_VARIABLE: &str = "FERRY_K3S_IMAGE";

/// The k3s image that clusters are made from.
pub fn k3s_image() -> String {
    std::env::var(K3S_IMAGE_VARIABLE)
        .ok()
        .filter(|image| !image.is_empty())
        .unwrap_or_else(|| K3S_IMAGE.into())
}
