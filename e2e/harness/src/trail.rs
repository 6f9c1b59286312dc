//! Checks a sink's output against the expected messages: each once over each route, in order,
//! intact, with a trail of running pods that verifies up to the root. Reads no file and no
//! clock.

use std::{collections::BTreeSet, time::Duration};

use blueprint::failure::Failure;
use host::environment::PodRecord;
use messages::{Message, Payload, Role, Timestamp, WorkloadName};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

mod audit;
mod check;
mod proof;
#[cfg(test)]
mod tests;

pub use audit::{Audit, Finding, Scene, audit};
pub use check::check;
pub use proof::{Crossing, Place, Proof};

/// One line of a sink's `/output`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredMessage {
    /// 1, 2, 3 … in the order the sink stored them.
    pub index: u64,
    pub stored_at: Timestamp,
    pub message: Message,
}

impl StoredMessage {
    /// Reads the body of `/output`: one JSON object a line.
    pub fn parse_all(body: &str) -> anyhow::Result<Vec<Self>> {
        lines(body)
            .map(|(number, line)| {
                serde_json::from_str(line).map_err(|error| no_message(number, line, &error))
            })
            .collect()
    }
}

/// What was kept of the output of a sink, to be audited later.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// The sink and its cluster, where the lines tell.
    pub sink: Option<(String, String)>,
    pub output: Vec<StoredMessage>,
}

impl Evidence {
    /// Reads lines of `/output`, and lines of `cargo xtask trail --json`, which name the sink as well: one for each sink.
    pub fn parse_all(text: &str) -> anyhow::Result<Vec<Self>> {
        /// One line of `cargo xtask trail --json`.
        #[derive(Deserialize)]
        struct Named {
            sink: String,
            cluster: String,
            stored: StoredMessage,
        }
        /// Tells them apart: a payload is kept byte for byte, so that no line can be read as the one or the other.
        #[derive(Deserialize)]
        struct Head {
            stored: Option<serde::de::IgnoredAny>,
        }
        let mut all: Vec<Self> = vec![];
        for (number, line) in lines(text) {
            let read = || -> serde_json::Result<_> {
                let head: Head = serde_json::from_str(line)?;
                if head.stored.is_none() {
                    return Ok((None, serde_json::from_str(line)?));
                }
                let named: Named = serde_json::from_str(line)?;
                Ok((Some((named.sink, named.cluster)), named.stored))
            };
            let (sink, stored) = read().map_err(|error| no_message(number, line, &error))?;
            match all.iter_mut().find(|evidence| evidence.sink == sink) {
                Some(evidence) => evidence.output.push(stored),
                None => all.push(Self {
                    sink,
                    output: vec![stored],
                }),
            }
        }
        Ok(all)
    }
}

/// The lines that are not empty, each with its number from 1.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty())
}

fn no_message(number: usize, line: &str, error: &serde_json::Error) -> anyhow::Error {
    // What is shown goes to a terminal, and may come from anywhere.
    let head: String = line
        .chars()
        .take(120)
        .flat_map(char::escape_debug)
        .collect();
    Failure::product(format!(
        "line {number} of the sink's output is not a stored message: {error}: `{head}`"
    ))
    .hint("use services and harness of the same version")
    .into()
}

/// What must be in a sink's output.
#[derive(Clone, Debug)]
pub struct Expectation {
    pub blueprint: String,
    /// What was sent towards the sink; usually one flow per gateway.
    pub flows: Vec<Flow>,
}

/// Messages of one gateway.
#[derive(Clone, Debug)]
pub struct Flow {
    pub sent: Sent,
    /// Every route from the gateway to the sink, see [`Route::all`]: each message must arrive once over each.
    pub routes: Vec<Route>,
}

/// Which messages.
#[derive(Clone, Debug)]
pub enum Sent {
    /// Known by their number only, as those a gateway sends by itself: `seq` from `first`, `count` of them. `took` says how long
    /// each took, in their order, as far as that is known.
    Numbered {
        first: u64,
        count: u64,
        took: Vec<Duration>,
    },
    /// Known by their acknowledgements, in the order they were sent.
    Listed(Vec<SentMessage>),
}

/// A message whose acknowledgement was seen.
#[derive(Clone, Debug)]
pub struct SentMessage {
    pub id: Uuid,
    /// What must arrive, byte for byte; `None` where the sender did not tell.
    pub payload: Option<Payload>,
    /// From its gateway's taking it to its acknowledgement, by the gateway's own clock, where that is known.
    pub took: Option<Duration>,
}

/// A way from a gateway to a sink, both included, in travel order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route(pub Vec<Station>);

/// One workload on a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Station {
    pub name: WorkloadName,
    pub role: Role,
    /// The pods' own names that were alive while messages crossed: more than one if a pod was replaced meanwhile.
    pub pods: BTreeSet<String>,
}

impl Station {
    /// The workload as it runs now.
    pub fn of(pod: &PodRecord) -> Self {
        Self {
            name: pod.name.clone(),
            role: pod.role,
            pods: BTreeSet::from([pod.pod_name.clone()]),
        }
    }
}

impl Route {
    /// All ways from `from` to `to` along `downstreams`; empty where there is none.
    pub fn all(pods: &[PodRecord], from: &WorkloadName, to: &WorkloadName) -> Vec<Self> {
        let mut found = vec![];
        let mut way = vec![];
        walk(pods, from, to, &mut way, &mut found);
        found
    }
}

fn walk<'a>(
    pods: &'a [PodRecord],
    at: &WorkloadName,
    to: &WorkloadName,
    way: &mut Vec<&'a PodRecord>,
    found: &mut Vec<Route>,
) {
    // A blueprint has no cycles; a record that was edited by hand may, and must not hang the harness.
    let Some(pod) = pods
        .iter()
        .find(|pod| pod.name == *at)
        .filter(|pod| !way.iter().any(|seen| seen.name == pod.name))
    else {
        return;
    };
    way.push(pod);
    if at == to {
        found.push(Route(way.iter().map(|pod| Station::of(pod)).collect()));
    } else {
        for next in &pod.downstreams {
            walk(pods, next, to, way, found);
        }
    }
    way.pop();
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        proof::write_route(
            f,
            self.0
                .iter()
                .map(|station| (station.name.pod(), station.name.cluster())),
        )
    }
}
