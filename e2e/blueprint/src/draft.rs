//! A blueprint with gaps for the values that could not be read.

use std::path::Path;

use messages::{Protocol, Role};

use super::{
    Blueprint, Connection, DEFAULT_MESSAGES, Pod, Storage,
    problem::quote,
    targets::{AksAddress, EksAddress, GenericAddress, GkeAddress, Targets},
};

/// A value and its line.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) line: usize,
    pub(super) value: T,
}

/// What could be read of a list; not `complete` when something of it could not, or could not be found.
#[derive(Debug)]
pub(super) struct Listed<T> {
    pub(super) line: usize,
    pub(super) items: Vec<T>,
    pub(super) complete: bool,
}

/// What could be read of a file. A gap is already reported; `None` for a key with a default means that it is absent.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) name: Option<At<String>>,
    pub(super) title: Option<At<String>>,
    pub(super) protocol: Option<At<Protocol>>,
    pub(super) clusters: Listed<At<String>>,
    pub(super) pods: Listed<DraftPod>,
    pub(super) connections: Listed<DraftConnection>,
    pub(super) messages: Option<At<u32>>,
    pub(super) targets: DraftTargets,
}

/// What could be read of the reserved addresses.
#[derive(Debug, Default)]
pub(super) struct DraftTargets {
    pub(super) gke: Listed<At<GkeAddress>>,
    pub(super) eks: Listed<At<EksAddress>>,
    pub(super) aks: Listed<At<AksAddress>>,
    pub(super) generic: Listed<At<GenericAddress>>,
}

#[derive(Debug)]
pub(super) struct DraftPod {
    pub(super) line: usize,
    pub(super) name: Option<At<String>>,
    pub(super) role: Option<At<Role>>,
    pub(super) cluster: Option<At<String>>,
    pub(super) port: Option<At<u16>>,
    pub(super) pinhole: Option<At<bool>>,
    pub(super) storage: Option<At<DraftStorage>>,
}

#[derive(Debug)]
pub(super) struct DraftStorage {
    pub(super) size: Option<At<String>>,
    pub(super) class: Option<At<String>>,
    pub(super) ephemeral: Option<At<bool>>,
}

#[derive(Debug)]
pub(super) struct DraftConnection {
    pub(super) from: Option<At<String>>,
    pub(super) to: Listed<At<String>>,
    pub(super) protocol: Option<At<Protocol>>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self {
            line: 1,
            items: Vec::new(),
            complete: false,
        }
    }
}

impl DraftStorage {
    fn finish(self) -> Storage {
        Storage {
            size: self.size.map(|size| size.value),
            class: self.class.map(|class| class.value),
            ephemeral: self.ephemeral.is_some_and(|ephemeral| ephemeral.value),
        }
    }
}

impl Draft {
    /// The blueprint, where nothing is missing.
    pub(super) fn finish(self, path: &Path) -> Option<Blueprint> {
        let pods = self.pods.items.into_iter().map(|pod| {
            Some(Pod {
                name: pod.name?.value,
                role: pod.role?.value,
                cluster: pod.cluster?.value,
                port: pod.port?.value,
                pinhole: pod.pinhole.is_some_and(|pinhole| pinhole.value),
                storage: pod.storage.map(|storage| storage.value.finish()),
                line: pod.line,
            })
        });
        let connections = self.connections.items.into_iter().map(|connection| {
            Some(Connection {
                from: connection.from?.value,
                to: connection.to.items.into_iter().map(|to| to.value).collect(),
                protocol: connection.protocol.map(|protocol| protocol.value),
            })
        });
        Some(Blueprint {
            name: self.name?.value,
            title: self.title?.value,
            protocol: self.protocol?.value,
            clusters: self
                .clusters
                .items
                .into_iter()
                .map(|cluster| cluster.value)
                .collect(),
            pods: pods.collect::<Option<_>>()?,
            connections: connections.collect::<Option<_>>()?,
            messages: self
                .messages
                .map_or(DEFAULT_MESSAGES, |messages| messages.value),
            targets: Targets {
                gke: values(self.targets.gke),
                eks: values(self.targets.eks),
                aks: values(self.targets.aks),
                generic: values(self.targets.generic),
            },
            path: path.to_path_buf(),
        })
    }
}

fn values<T>(listed: Listed<At<T>>) -> Vec<T> {
    listed.items.into_iter().map(|item| item.value).collect()
}

pub(super) fn called(pod: &DraftPod) -> String {
    pod.name.as_ref().map_or_else(
        || format!("the pod on line {}", pod.line),
        |name| format!("pod {}", quote(&name.value)),
    )
}
