//! Checks the connections: known pods, directions that fit the roles, routes from gateways to
//! sinks.

use std::collections::BTreeMap;

use messages::Role;

use super::{
    MAX_ROUTE_PODS, MAX_ROUTES,
    draft::{At, Draft, DraftPod, called},
    graph::{self, Successors},
    problem::{Collector, list, quote},
};

/// Cycles named for one file.
const MOST_CYCLES: usize = 20;

/// The connections between pods that exist.
pub(super) struct Connections<'a> {
    pods: &'a [DraftPod],
    successors: Successors,
    predecessors: Successors,
    lines: BTreeMap<(usize, usize), usize>,
    /// All pods, roles and connections could be read and resolved: what is missing now is missing in the file.
    complete: bool,
}

impl<'a> Connections<'a> {
    pub(super) fn resolve(draft: &'a Draft, problems: &mut Collector) -> Self {
        let pods = &draft.pods.items[..];
        let mut known = BTreeMap::new();
        for (index, pod) in pods.iter().enumerate() {
            if let Some(name) = &pod.name {
                known.entry(name.value.as_str()).or_insert(index);
            }
        }
        let all_named = draft.pods.complete && pods.iter().all(|pod| pod.name.is_some());
        let mut found = Self {
            pods,
            successors: vec![Vec::new(); pods.len()],
            predecessors: vec![Vec::new(); pods.len()],
            lines: BTreeMap::new(),
            complete: draft.connections.complete
                && all_named
                && known.len() == pods.len()
                && pods.iter().all(|pod| pod.role.is_some()),
        };
        for connection in &draft.connections.items {
            found.complete &= connection.from.is_some() && connection.to.complete;
            let index = |name: &At<String>, problems: &mut Collector| {
                let index = known.get(name.value.as_str()).copied();
                if index.is_none() && all_named {
                    let names = || {
                        pods.iter()
                            .filter_map(|pod| Some(pod.name.as_ref()?.value.as_str()))
                    };
                    let fix = match problems.nearest(&name.value, names()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("add it to `pods`, or use one of them: {}", list(names())),
                    };
                    problems.add(
                        name.line,
                        format!("connection with unknown pod {}; {fix}", quote(&name.value)),
                    );
                }
                index
            };
            let from = connection.from.as_ref().map(|from| index(from, problems));
            for to in &connection.to.items {
                match (from.flatten(), index(to, problems)) {
                    (Some(from), Some(to_index)) => found.add(from, to_index, to.line, problems),
                    _ => found.complete = false,
                }
            }
        }
        found
    }

    fn add(&mut self, from: usize, to: usize, line: usize, problems: &mut Collector) {
        let (source, target) = (called(&self.pods[from]), called(&self.pods[to]));
        if from == to {
            self.complete = false;
            problems.add(
                line,
                format!(
                    "{source} is connected to itself; name another pod, or remove the connection"
                ),
            );
        } else if let Some(first) = self.lines.get(&(from, to)) {
            problems.add(
                line,
                format!("the connection from {source} to {target} is listed twice (first on line {first}); keep one of them"),
            );
        } else {
            self.lines.insert((from, to), line);
            self.successors[from].push(to);
            self.predecessors[to].push(from);
        }
    }

    pub(super) fn check(&self, problems: &mut Collector) {
        for ((from, to), line) in &self.lines {
            let (source, target) = (called(&self.pods[*from]), called(&self.pods[*to]));
            if self.role(*to) == Some(Role::Gateway) {
                problems.add(
                    *line,
                    format!("{target} is a gateway and takes no incoming connection; make it a processor, or remove the connection from {source}"),
                );
            }
            if self.role(*from) == Some(Role::Sink) {
                problems.add(
                    *line,
                    format!("{source} is a sink and takes no outgoing connection; make it a processor, or remove the connection to {target}"),
                );
            }
        }
        let cycles = graph::cycles(&self.successors, MOST_CYCLES);
        for cycle in &cycles {
            let (first, last) = (cycle[0], cycle[cycle.len() - 1]);
            let names: Vec<_> = cycle
                .iter()
                .chain([&first])
                .map(|pod| {
                    self.pods[*pod]
                        .name
                        .as_ref()
                        .map_or("?", |name| &name.value)
                })
                .collect();
            problems.add(
                self.lines.get(&(last, first)).copied().unwrap_or(1),
                format!(
                    "messages would go round in a cycle: {}; remove one of these connections",
                    names.join(" -> ")
                ),
            );
        }
        if self.complete {
            self.dead_ends(&cycles, problems);
            if cycles.is_empty() {
                self.limits(problems);
            }
        }
    }

    /// Pods that no message reaches or leaves. What follows from one that was named already is not named again.
    fn dead_ends(&self, cycles: &[Vec<usize>], problems: &mut Collector) {
        let mut explained_from: Vec<usize> = cycles.concat();
        let mut explained_to = explained_from.clone();
        for (index, pod) in self.pods.iter().enumerate() {
            let incoming = !self.predecessors[index].is_empty();
            let outgoing = !self.successors[index].is_empty();
            if self.role(index) == Some(Role::Processor) {
                for (present, direction, word) in
                    [(incoming, "incoming", "to"), (outgoing, "outgoing", "from")]
                {
                    if !present {
                        problems.add(
                            pod.line,
                            format!("{} is a processor and has no {direction} connection; add one {word} it", called(pod)),
                        );
                    }
                }
                if !incoming {
                    explained_from.push(index);
                }
                if !outgoing {
                    explained_to.push(index);
                }
            }
        }
        let with = |role| (0..self.pods.len()).filter(move |pod| self.role(*pod) == Some(role));
        let (gateways, sinks) = (with(Role::Gateway), with(Role::Sink));
        if gateways.clone().next().is_some() {
            let reached =
                graph::reachable(&self.successors, gateways.clone().chain(explained_from));
            for (pod, _) in self
                .pods
                .iter()
                .zip(&reached)
                .filter(|(_, reached)| !**reached)
            {
                problems.add(
                    pod.line,
                    format!("{} is unreachable: no route leads to it from a gateway; add a connection to it", called(pod)),
                );
            }
        }
        if sinks.clone().next().is_some() {
            let reached = graph::reachable(&self.predecessors, sinks.chain(explained_to));
            for gateway in gateways.filter(|gateway| !reached[*gateway]) {
                let pod = &self.pods[gateway];
                problems.add(
                    pod.line,
                    format!(
                        "{} is a gateway that reaches no sink; add a connection from it",
                        called(pod)
                    ),
                );
            }
        }
    }

    fn limits(&self, problems: &mut Collector) {
        let stages = graph::stages(&self.successors);
        let routes = graph::routes(&self.successors);
        for (index, pod) in self.pods.iter().enumerate() {
            if self.role(index) != Some(Role::Gateway) {
                continue;
            }
            let longest = stages[index].map_or(0, |stage| stage + 1);
            if longest > MAX_ROUTE_PODS {
                problems.add(
                    pod.line,
                    format!("the longest route from {} has {longest} pods, and a trail holds {MAX_ROUTE_PODS} hops; shorten it", called(pod)),
                );
            }
            if routes[index] > MAX_ROUTES {
                problems.add(
                    pod.line,
                    format!("more than {MAX_ROUTES} routes lead from {} to the sinks, and each delivers every message; remove connections", called(pod)),
                );
            }
        }
    }

    fn role(&self, pod: usize) -> Option<Role> {
        self.pods[pod].role.as_ref().map(|role| role.value)
    }
}
