//! The state of a pod and of its containers, the same for every runtime.

use blueprint::{container::Container, plan::PeerAddress};
use messages::{Role, WorkloadName};
use serde::Serialize;

/// What a pod is doing.
#[derive(Clone, Debug, Serialize)]
pub struct PodState {
    pub name: WorkloadName,
    pub role: Role,
    /// The (Kubernetes) pod's own name, as its hops carry it.
    pub pod_name: String,
    pub node: String,
    pub local_address: Option<PeerAddress>,
    pub containers: Vec<ContainerState>,
    pub readiness: Readiness,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContainerState {
    pub container: Container,
    #[serde(flatten)]
    pub state: Liveness,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Liveness {
    Running,
    /// Ended on purpose, or never started.
    Stopped,
    /// Ended by itself; the end of its log.
    Crashed {
        log_tail: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "ready", content = "waiting_for", rename_all = "lowercase")]
pub enum Readiness {
    Ready,
    /// What is missing.
    Waiting(Vec<String>),
    /// It cannot be seen from here; where it runs.
    Elsewhere(String),
}
