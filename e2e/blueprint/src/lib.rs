//! The blueprint: one small YAML file that names clusters, pods and connections, and its
//! checks.
//!
//! A [`Blueprint`] comes out of [`Blueprint::parse`] only, so one that exists has passed every check: names are DNS labels, references resolve, the connections form routes from gateways to sinks.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod check;
mod connections;
pub mod container;
mod draft;
pub mod failure;
pub mod graph;
mod keys;
pub mod names;
pub mod plan;
mod problem;
mod read;
pub mod storage;
mod targets;
pub mod text;
mod tree;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use messages::{InvalidName, Protocol, Role, WorkloadName};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};

pub use names::{DATA_VOLUME, claim_name, pinhole_name, stateful_pod_name};
pub use problem::{Problem, Problems, list, nearest, quote};
pub use storage::Storage;
pub use targets::{
    AksAddress, EksAddress, GenericAddress, GkeAddress, Reserved, Target, Targets, UnknownTarget,
};

pub use check::is_host;
use problem::Collector;

/// Largest blueprint file, in bytes. A larger one is refused by its size, before it is read.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Public ports that a pod may have: an unprivileged process can bind them.
pub const PUBLIC_PORTS: std::ops::RangeInclusive<u16> = 1024..=65535;

/// Most messages that a gateway sends by itself at start.
pub const MAX_MESSAGES: u32 = 10_000;

/// Messages that a gateway sends by itself where the blueprint does not say.
pub const DEFAULT_MESSAGES: u32 = 5;

/// Longest title, in characters.
pub const MAX_TITLE: usize = 100;

/// Most pods on one route from a gateway to a sink: each leaves a hop, and a trail holds no more.
pub const MAX_ROUTE_PODS: usize = messages::limits::MAX_TRAIL_HOPS;

/// Most routes from one gateway to the sinks: each message is delivered once over each of them.
pub const MAX_ROUTES: usize = 256;

/// Name of the file in a blueprint's folder.
pub const FILE_NAME: &str = "blueprint.yaml";

/// Name of the schema in the folder of all blueprints.
pub const SCHEMA_FILE_NAME: &str = "blueprint.schema.json";

const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";
/// A DNS label that begins with a letter, as a Service's name must (RFC 1035).
const LETTER_LABEL: &str = "^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$";

/// A Ferry blueprint: clusters, the pods in them, and the connections that carry messages from gateways to sinks.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Blueprint {
    /// Name of the blueprint, a DNS label; the name of its folder. Namespaces are `<blueprint>-<pod>-ns`, at most 63 characters.
    #[schemars(regex(pattern = DNS_LABEL))]
    pub name: String,
    /// What people call it: one line.
    #[schemars(length(min = 1, max = MAX_TITLE))]
    pub title: String,
    /// How connections carry messages, unless a connection says otherwise.
    #[schemars(schema_with = "protocol_schema")]
    pub protocol: Protocol,
    /// Names of the clusters, DNS labels.
    #[schemars(length(min = 1), inner(regex(pattern = DNS_LABEL)), extend("uniqueItems" = true))]
    pub clusters: Vec<String>,
    /// The workloads.
    #[schemars(length(min = 1))]
    pub pods: Vec<Pod>,
    /// Who sends to whom. Every route begins at a gateway and ends at a sink.
    #[schemars(length(min = 1))]
    pub connections: Vec<Connection>,
    /// Messages that each gateway sends by itself at start.
    #[schemars(range(min = 0, max = MAX_MESSAGES), default = "default_messages")]
    pub messages: u32,
    /// Load balancer addresses that were reserved beforehand, by what the manifests are rendered for.
    #[schemars(default, skip_serializing_if = "Targets::is_empty")]
    pub targets: Targets,
    /// Where it was read from; not part of the file.
    #[schemars(skip)]
    path: PathBuf,
}

/// One workload: a service with its Envoy and its identity agent.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Pod {
    /// Name of the pod, a DNS label that begins with a letter, once in the blueprint. Its deployment and its service carry it too.
    #[schemars(regex(pattern = LETTER_LABEL))]
    pub name: String,
    /// `gateway` makes messages, `processor` passes them on, `sink` stores and acknowledges them.
    #[schemars(schema_with = "role_schema")]
    pub role: Role,
    /// The cluster it runs in.
    pub cluster: String,
    /// Public port of the pod on the load balancer of its cluster.
    #[schemars(range(min = *PUBLIC_PORTS.start(), max = *PUBLIC_PORTS.end()))]
    pub port: u16,
    /// Whether `/trigger` (gateway) or `/output` (sink) answers on the public port, to the bearer of the pod's token.
    #[schemars(default)]
    pub pinhole: bool,
    /// Where a sink keeps its messages on Kubernetes: on a volume claim of the cluster's default class unless given.
    #[schemars(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// Line in the file; not part of it.
    #[schemars(skip)]
    pub line: usize,
}

/// Messages travel from one pod to each of the others.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Connection {
    /// The pod that sends.
    pub from: String,
    /// The pod that receives, or a list of pods that each receive every message.
    #[schemars(schema_with = "one_or_more_schema")]
    pub to: Vec<String>,
    /// How this connection carries messages; the blueprint's `protocol` unless given.
    #[schemars(
        default,
        skip_serializing_if = "Option::is_none",
        schema_with = "protocol_schema"
    )]
    pub protocol: Option<Protocol>,
}

/// A connection between two pods, its protocol resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge<'a> {
    pub from: &'a str,
    pub to: &'a str,
    pub protocol: Protocol,
}

impl Blueprint {
    /// Checks the bytes of a blueprint file, as [`Self::parse`] does.
    ///
    /// # Errors
    ///
    /// All problems of the file; text that is not UTF-8 is one.
    pub fn parse_bytes(bytes: &[u8], path: &Path) -> Result<Self, Problems> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line = tree::line_at(bytes, error.valid_up_to());
            let text = "not UTF-8; write the file again as UTF-8 text".into();
            Problems::new(
                path,
                vec![Problem {
                    line: Some(line),
                    text,
                }],
            )
        })?;
        Self::parse(text, path)
    }

    /// Checks the text of a blueprint. Pure: `path` is for messages, and for the rule that a blueprint at
    /// `manifests/<name>/blueprint.yaml` carries the name of its folder.
    ///
    /// # Errors
    ///
    /// All problems of the text.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Problems> {
        let mut problems = Collector::default();
        let draft = tree::parse(text, &mut problems);
        let draft = read::draft(draft, &mut problems);
        check::check(&draft, path, &mut problems);
        match draft.finish(path) {
            Some(blueprint) if problems.is_empty() => Ok(blueprint),
            _ => Err(Problems::new(path, problems.finish())),
        }
    }

    /// The file it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn pod(&self, name: &str) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.name == name)
    }

    /// Every connection between two pods, in the order of the file.
    pub fn edges(&self) -> impl Iterator<Item = Edge<'_>> {
        self.connections.iter().flat_map(|connection| {
            let protocol = connection.protocol.unwrap_or(self.protocol);
            connection.to.iter().map(move |to| Edge {
                from: &connection.from,
                to,
                protocol,
            })
        })
    }

    /// The full name of one of its pods.
    ///
    /// # Errors
    ///
    /// Only after a name was changed to what is no DNS label.
    pub fn workload(&self, pod: &Pod) -> Result<WorkloadName, InvalidName> {
        WorkloadName::new(&self.name, &pod.cluster, &pod.name)
    }
}

/// The JSON Schema (draft 7, which editors know best) of a blueprint file.
pub fn schema() -> serde_json::Value {
    let schema = SchemaSettings::draft07()
        .into_generator()
        .into_root_schema_for::<Blueprint>();
    serde_json::Value::from(schema)
}

/// [`schema`] as it is checked in at `manifests/blueprint.schema.json`.
pub fn schema_text() -> String {
    format!("{:#}\n", schema())
}

fn default_messages() -> u32 {
    DEFAULT_MESSAGES
}

fn protocol_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": Protocol::ALL.map(Protocol::as_str) })
}

fn role_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": Role::ALL.map(Role::as_str) })
}

fn one_or_more_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" }, "minItems": 1, "uniqueItems": true }
        ]
    })
}
