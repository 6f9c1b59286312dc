//! The state folder of an environment: its record under one name, for later commands to find.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use blueprint::plan::PeerAddress;
use jiff::Timestamp;
use messages::{Role, WorkloadName};
use render::envoy::EnvoyPaths;
use serde::{Deserialize, Serialize};

use crate::process::ProcessId;

mod filesystem;
mod folder;
mod lock;
mod name;
mod schema;
mod seat;
mod store;

pub use filesystem::{Content, check as check_file_system, check_state};
pub use folder::{private_folder, replace_file};
pub use lock::Lock;
pub use name::random_hex;
pub use name::{InvalidName, Name};
pub use seat::{Place, Seat};
pub use store::{Damage, Draft, Environment, Found, STATE_VARIABLE, Store, workspace_root};

/// Version of [`Record`]'s shape. Records of older versions are read, those of newer ones are left alone.
pub const SCHEMA_VERSION: u32 = 2;

/// Where an environment runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    Embedded,
    K3d,
    /// Clusters that were there before, and stay.
    Existing,
}

/// `environment.json`. Holds no secrets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub schema_version: u32,
    pub name: String,
    pub runtime: RuntimeKind,
    pub created_at: Timestamp,
    /// Where the numbers of its processes mean something; `None` where an older version did not write it down.
    #[serde(default)]
    pub seat: Option<Seat>,
    /// The command that owns the environment and removes it at its end; `None` for one that stays (`local-up`, `--keep`).
    pub owner: Option<ProcessId>,
    /// Blueprint name → the file it was read from.
    pub blueprints: BTreeMap<String, PathBuf>,
    /// What every `app` and `wosp` is set to beside the defaults: variables of [`messages::env`].
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    pub clusters: Vec<ClusterRecord>,
    /// What its pods run; `None` where they are processes.
    #[serde(default)]
    pub images: Option<ImagesRecord>,
    /// How its clusters are reached, where they were there before.
    #[serde(default)]
    pub existing: Option<ExistingRecord>,
    /// In deploy order.
    pub pods: Vec<PodRecord>,
}

/// Names of the images on the nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagesRecord {
    pub services: String,
    pub envoy: String,
    /// Name → what the nodes run under it (`…@sha256:…`), where they got it from a registry: one where all agree.
    #[serde(default)]
    pub digests: BTreeMap<String, BTreeSet<String>>,
}

/// Existing clusters. Only paths and names are recorded, no credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExistingRecord {
    /// The user's kubeconfig files, absolute, merged as `kubectl` does. A cluster's `reference` is its context there.
    pub kubeconfig: Vec<PathBuf>,
    /// Value of the label that its namespaces carry: an environment of the same name made elsewhere has another.
    pub label: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterRecord {
    pub name: String,
    /// The runtime's own name for it: the k3d cluster, the loopback network (`127.81.7.0/24`), or the kubeconfig context.
    pub reference: String,
    /// Processes of the cluster itself: its load balancer. Empty where there are containers instead.
    #[serde(default)]
    pub processes: Vec<ProcessRecord>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodRecord {
    pub name: WorkloadName,
    pub role: Role,
    pub namespace: String,
    pub stage: usize,
    /// The (Kubernetes) pod's own name, as its hops carry it.
    pub pod_name: String,
    pub node: String,
    /// What its cluster's load balancer got: an IP address or a host name. `None` where there is no cluster.
    #[serde(default)]
    pub load_balancer: Option<String>,
    /// Where upstream pods dial it, once its load balancer has an address.
    pub peer_address: Option<PeerAddress>,
    /// Where this machine reaches the same port.
    pub local_address: Option<PeerAddress>,
    /// File with the bearer token of its pinhole.
    pub token_file: Option<PathBuf>,
    /// File with the roots that its pinhole's HTTPS goes back to. `None`: the pinhole is asked in plaintext.
    #[serde(default)]
    pub roots_file: Option<PathBuf>,
    pub auto_trigger: u32,
    /// Names of the pods that it sends to.
    pub downstreams: Vec<WorkloadName>,
    /// When its containers were started, and when it was first seen ready.
    pub started_at: Option<Timestamp>,
    pub ready_at: Option<Timestamp>,
    /// When every upstream cluster had got an answer of it.
    #[serde(default)]
    pub dialled_at: Option<Timestamp>,
    #[serde(default)]
    pub processes: Vec<ProcessRecord>,
}

/// A process of the embedded runtime.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// `app`, `wosp`, `envoy`, or `load-balancer`.
    pub container: String,
    pub id: ProcessId,
    pub log: PathBuf,
    /// Bytes that the log had when it was started: what it says itself comes after them.
    #[serde(default)]
    pub log_start: u64,
    /// Hash of all that it was started with but its program: what is wanted now is held against it. `None` where an older
    /// version did not write it down.
    #[serde(default)]
    pub made_of: Option<String>,
}

impl Record {
    /// What [`render::ENVIRONMENT_LABEL`] is on its objects.
    pub fn label(&self) -> &str {
        self.existing
            .as_ref()
            .map_or(&self.name, |existing| &existing.label)
    }

    /// Where its processes are, as seen by this command.
    pub fn place(&self) -> Place {
        let seat = self.seat.as_ref();
        seat.map_or(Place::Here, |seat| seat.seen_from(Seat::here()))
    }

    /// Where it runs, if that cannot be judged from here. Clusters of others are the same from everywhere: of those only a
    /// command that owns them may be elsewhere.
    pub fn elsewhere(&self) -> Option<String> {
        let judged = self.runtime == RuntimeKind::Existing && self.owner.is_none();
        match self.place() {
            Place::Elsewhere(place) if !judged => Some(place),
            _ => None,
        }
    }

    /// Forgets the numbers of processes that mean nothing here: something else may have them.
    fn disown(&mut self) {
        let clusters = self
            .clusters
            .iter_mut()
            .flat_map(|cluster| &mut cluster.processes);
        let pods = self.pods.iter_mut().flat_map(|pod| &mut pod.processes);
        for process in clusters.chain(pods) {
            process.id = ProcessId::NONE;
        }
        if let Some(owner) = &mut self.owner {
            *owner = ProcessId::NONE;
        }
    }

    /// Every process that is recorded, of clusters and of pods.
    pub fn processes(&self) -> impl Iterator<Item = &ProcessRecord> {
        let clusters = self.clusters.iter().flat_map(|cluster| &cluster.processes);
        clusters.chain(self.pods.iter().flat_map(|pod| &pod.processes))
    }

    pub fn pod_mut(&mut self, name: &WorkloadName) -> Option<&mut PodRecord> {
        self.pods.iter_mut().find(|pod| pod.name == *name)
    }

    pub fn pod(&self, name: &WorkloadName) -> Option<&PodRecord> {
        self.pods.iter().find(|pod| pod.name == *name)
    }

    /// The clusters of each two pods of which the first sends to the second, by their names.
    pub fn connections(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pods.iter().flat_map(|pod| {
            let targets = pod.downstreams.iter();
            targets.map(|target| (pod.name.cluster(), target.cluster()))
        })
    }

    pub fn pods_of<'a>(&'a self, blueprint: &'a str) -> impl Iterator<Item = &'a PodRecord> {
        self.pods
            .iter()
            .filter(move |pod| pod.name.blueprint() == blueprint)
    }
}

/// The files of one environment below its state folder.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn record(&self) -> PathBuf {
        self.root.join("environment.json")
    }

    pub fn timeline(&self) -> PathBuf {
        self.root.join("timeline.json")
    }

    /// Root and authorities, mode 0700.
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    /// The kubeconfig of all clusters, mode 0600.
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The log of one container of a pod: `logs/<blueprint>.<cluster>.<pod>.<container>.log`.
    pub fn pod_log(&self, name: &WorkloadName, container: &str) -> PathBuf {
        self.logs().join(format!(
            "{}.{}.{}.{container}.log",
            name.blueprint(),
            name.cluster(),
            name.pod()
        ))
    }

    /// The log of a cluster's own process.
    pub fn cluster_log(&self, cluster: &str, container: &str) -> PathBuf {
        self.logs().join(format!("{cluster}.{container}.log"))
    }

    /// The embedded runtime's folder of one pod: working directory of its processes.
    pub fn pod(&self, name: &WorkloadName) -> PathBuf {
        self.root.join("pods").join(format!(
            "{}.{}.{}",
            name.blueprint(),
            name.cluster(),
            name.pod()
        ))
    }

    /// The pod's current or next authority: the files that `wosp` reads, or from which its Secret
    /// is made.
    pub fn authority(&self, name: &WorkloadName) -> PathBuf {
        self.pod(name).join("authority")
    }

    /// The bearer token of a boundary pod.
    pub fn token(&self, name: &WorkloadName) -> PathBuf {
        self.pod(name).join("token")
    }

    /// The certificate that a boundary pod's HTTPS has, and the roots that its clients trust.
    pub fn pinhole(&self, name: &WorkloadName) -> PathBuf {
        self.pod(name)
            .join(EnvoyPaths::in_working_directory().pinhole_dir)
    }

    /// The embedded runtime's folder of one cluster's load balancer.
    pub fn cluster(&self, name: &str) -> PathBuf {
        self.root.join("clusters").join(name)
    }
}
