//! Assigns the public ports of pods on their clusters' load balancers.

use std::collections::BTreeMap;

use super::{Ports, at};
use crate::{Blueprint, PUBLIC_PORTS, failure::Failure};

/// The public port of every pod, in the order of the blueprints and of their pods.
pub(super) fn assign(blueprints: &[Blueprint], ports: Ports) -> anyhow::Result<Vec<u16>> {
    let pods = blueprints
        .iter()
        .flat_map(|blueprint| blueprint.pods.iter().map(move |pod| (blueprint, pod)));
    // Whoever wants a port first has it, also before one that has to move: so as few pods as possible move.
    let mut owners = BTreeMap::new();
    let mut given = Vec::new();
    for (blueprint, pod) in pods.clone() {
        let wanted = (pod.cluster.as_str(), pod.port);
        match owners.get(&wanted) {
            None => {
                owners.insert(wanted, (blueprint, pod));
                given.push(Some(pod.port));
            }
            Some((first_blueprint, first)) if ports == Ports::AsWritten => {
                return Err(Failure::usage(format!(
                    "port {} of cluster `{}` is used by both {} and {}",
                    pod.port,
                    pod.cluster,
                    at(first_blueprint, first),
                    at(blueprint, pod)
                ))
                .hint(
                    "change `port` of one of them, or run the blueprints in separate \
                       environments",
                )
                .into());
            }
            Some(_) => given.push(None),
        }
    }
    pods.zip(given)
        .map(|((blueprint, pod), given)| {
            if let Some(port) = given {
                return Ok(port);
            }
            let port = (pod.port..=*PUBLIC_PORTS.end())
                .chain(PUBLIC_PORTS)
                .find(|port| !owners.contains_key(&(pod.cluster.as_str(), *port)))
                .ok_or_else(|| {
                    Failure::usage(format!(
                        "cluster `{}` has no public port left for {}",
                        pod.cluster,
                        at(blueprint, pod)
                    ))
                    .hint("run the blueprints in several environments")
                })?;
            owners.insert((&pod.cluster, port), (blueprint, pod));
            Ok(port)
        })
        .collect()
}
