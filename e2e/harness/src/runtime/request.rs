//! The request to a runtime, and the record of a planned pod.

use std::collections::BTreeMap;

use blueprint::{
    Blueprint,
    plan::{PodPlan, Ports},
};
use host::{
    binaries::Profile,
    environment::{Draft, Layout, Name, PodRecord, RuntimeKind},
    process::ProcessId,
};

use super::existing;

/// Where the clusters' public ports are on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicAddress {
    /// 127.0.0.1, so that a port can be in use.
    Localhost,
    /// A separate address for each cluster.
    OwnNetwork,
    /// The same by IPv6 on the embedded runtime, pods included: `[::1]`, the only loopback address of that family, where each has
    /// ports of its own.
    OwnNetworkV6,
}

/// Who removes the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// This command; if it is killed, `sweep` does.
    Command,
    /// A later teardown, by `local-down` or `undeploy`.
    Stays,
}

/// What a failed creation does with what it has made so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Nothing is left; the error has the end of the log.
    Remove,
    /// It stays as it is, still owned by this command, which looks at it and then removes it.
    LeaveToCaller,
}

/// Whether the files of an environment outlive it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Remove,
    /// Record, logs and identities stay, for a look at what happened.
    Keep,
    /// All that a later bring-up needs to find the messages of the sinks: they lie where they were.
    Messages,
}

/// An environment in the making.
#[derive(Clone, Debug)]
pub struct UpRequest {
    pub name: Name,
    pub runtime: RuntimeKind,
    pub blueprints: Vec<Blueprint>,
    pub ports: Ports,
    pub public: PublicAddress,
    pub lifetime: Lifetime,
    pub on_failure: OnFailure,
    /// Settings for every `app` and `wosp`: variables of [`messages::env`], such as `FERRY_SESSION_LIFETIME`.
    pub settings: BTreeMap<String, String>,
    /// How the services are built, where the runtime builds them.
    pub profile: Profile,
    /// The clusters, where they are there already.
    pub existing: Option<existing::Destination>,
}

impl UpRequest {
    /// What is written down first of all, owned by this command.
    pub(crate) fn draft(&self) -> Draft {
        let path_of =
            |blueprint: &Blueprint| (blueprint.name.clone(), blueprint.path().to_path_buf());
        Draft {
            runtime: self.runtime,
            owner: ProcessId::current(),
            blueprints: self.blueprints.iter().map(path_of).collect(),
            settings: self.settings.clone(),
        }
    }
}

/// The record of a pod that is planned and not yet started.
pub(super) fn planned(layout: &Layout, pod: &PodPlan) -> PodRecord {
    PodRecord {
        name: pod.name.clone(),
        role: pod.role,
        namespace: pod.name.namespace(),
        stage: pod.stage,
        pod_name: String::new(),
        node: String::new(),
        load_balancer: None,
        peer_address: None,
        local_address: None,
        token_file: pod.pinhole.then(|| layout.token(&pod.name)),
        roots_file: pod
            .pinhole
            .then(|| layout.pinhole(&pod.name).join(identity::ROOTS)),
        auto_trigger: pod.auto_trigger,
        downstreams: pod
            .egress
            .iter()
            .map(|egress| egress.target.clone())
            .collect(),
        started_at: None,
        ready_at: None,
        dialled_at: None,
        processes: vec![],
    }
}

/// How a container is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// SIGTERM, and time to drain.
    Graceful,
    /// SIGKILL.
    Abrupt,
}
