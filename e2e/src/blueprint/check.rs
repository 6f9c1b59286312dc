//! Whether what was read makes sense. Each check looks only at what is there: what a gap would explain is not said again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use messages::{Role, is_dns_label};

use super::{
    FILE_NAME, MAX_ROUTE_PODS, MAX_ROUTES,
    graph::{self, Successors},
    problem::{Collector, list, quote},
    read::{At, Draft, DraftPod},
};

/// Longest name of a namespace: a DNS label.
const LONGEST_NAMESPACE: usize = 63;

/// Cycles named for one file.
const MOST_CYCLES: usize = 20;

pub(super) fn check(draft: &Draft, path: &Path, problems: &mut Collector) {
    blueprint_name(draft, path, problems);
    clusters(draft, problems);
    pods(draft, problems);
    let connections = Connections::resolve(draft, problems);
    connections.check(problems);
}

fn blueprint_name(draft: &Draft, path: &Path, problems: &mut Collector) {
    let Some(name) = &draft.name else { return };
    label("name of the blueprint", name, problems);
    let mut parts = path.iter().rev().filter_map(|part| part.to_str());
    if let (Some(FILE_NAME), Some(folder), Some("manifests")) =
        (parts.next(), parts.next(), parts.next())
        && folder != name.value
    {
        problems.add(
            name.line,
            format!(
                "the blueprint is named {}, but its folder {}; give both the same name",
                quote(&name.value),
                quote(folder)
            ),
        );
    }
    // Below `<blueprint>-` and `-ns` there must be room for a pod's name.
    let longest = LONGEST_NAMESPACE - "-x-ns".len();
    if is_dns_label(&name.value) && name.value.len() > longest {
        problems.add(
            name.line,
            format!(
                "name of the blueprint {} has {} characters, which leaves no room for a pod's in the namespace `<blueprint>-<pod>-ns`; use at most {longest}",
                quote(&name.value),
                name.value.len(),
            ),
        );
    }
}

fn clusters(draft: &Draft, problems: &mut Collector) {
    let mut seen = BTreeMap::new();
    for cluster in &draft.clusters.items {
        label("cluster", cluster, problems);
        once("cluster", cluster, &mut seen, problems);
    }
    let known = || {
        draft
            .clusters
            .items
            .iter()
            .map(|cluster| cluster.value.as_str())
    };
    let mut inhabited = BTreeSet::new();
    let mut all_known = draft.pods.complete && draft.clusters.complete;
    for pod in &draft.pods.items {
        let Some(cluster) = &pod.cluster else {
            all_known = false;
            continue;
        };
        if seen.contains_key(cluster.value.as_str()) {
            inhabited.insert(cluster.value.as_str());
        } else if draft.clusters.complete {
            all_known = false;
            let fix = match problems.nearest(&cluster.value, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!(
                    "add it to `clusters`, or use one of them: {}",
                    list(known())
                ),
            };
            problems.add(
                cluster.line,
                format!(
                    "{} is in unknown cluster {}; {fix}",
                    called(pod),
                    quote(&cluster.value)
                ),
            );
        }
    }
    for (name, line) in seen {
        if all_known && !inhabited.contains(name) {
            problems.add(
                line,
                format!(
                    "cluster {} has no pods; remove it from `clusters`, or place a pod in it",
                    quote(name)
                ),
            );
        }
    }
}

fn pods(draft: &Draft, problems: &mut Collector) {
    let blueprint = draft
        .name
        .as_ref()
        .map(|name| name.value.as_str())
        .filter(|name| is_dns_label(name) && name.len() + "-x-ns".len() <= LONGEST_NAMESPACE);
    let mut names = BTreeMap::new();
    let mut ports: BTreeMap<(&str, u16), &DraftPod> = BTreeMap::new();
    for pod in &draft.pods.items {
        if let Some(name) = &pod.name {
            let labelled = label("pod", name, problems);
            once("pod", name, &mut names, problems);
            let namespace = blueprint.map(|blueprint| format!("{blueprint}-{}-ns", name.value));
            if let Some(namespace) = namespace
                && labelled
                && namespace.len() > LONGEST_NAMESPACE
            {
                problems.add(
                    name.line,
                    format!(
                        "namespace {} of {} has {} characters, more than {LONGEST_NAMESPACE}; shorten the name of the pod or of the blueprint by {}",
                        quote(&namespace),
                        called(pod),
                        namespace.len(),
                        namespace.len() - LONGEST_NAMESPACE
                    ),
                );
            }
        }
        if let (Some(cluster), Some(port)) = (&pod.cluster, &pod.port)
            && let Some(first) = ports.insert((&cluster.value, port.value), pod)
        {
            problems.add(
                port.line,
                format!(
                    "port {} of cluster {} is taken by {} (line {}); give {} another",
                    port.value,
                    quote(&cluster.value),
                    called(first),
                    first.port.as_ref().map_or(first.line, |port| port.line),
                    called(pod),
                ),
            );
            ports.insert((&cluster.value, port.value), first);
        }
        if let (
            Some(At {
                value: Role::Processor,
                ..
            }),
            Some(At { line, value: true }),
        ) = (&pod.role, &pod.pinhole)
        {
            problems.add(
                *line,
                format!(
                    "{} is a processor and has nothing to reach by a pinhole; remove `pinhole`",
                    called(pod)
                ),
            );
        }
    }
    let roles: Option<Vec<Role>> = draft
        .pods
        .items
        .iter()
        .map(|pod| pod.role.as_ref().map(|role| role.value))
        .collect();
    if let (true, Some(roles)) = (draft.pods.complete, roles) {
        for (role, what) in [(Role::Gateway, "source"), (Role::Sink, "end")] {
            if !roles.contains(&role) {
                problems.add(
                    draft.pods.line,
                    format!("no pod is a {role}, so messages have no {what}; add a pod with `role: {role}`"),
                );
            }
        }
    }
}

/// The connections between pods that exist.
struct Connections<'a> {
    pods: &'a [DraftPod],
    successors: Successors,
    predecessors: Successors,
    lines: BTreeMap<(usize, usize), usize>,
    /// All pods, roles and connections could be read and resolved: what is missing now is missing in the file.
    complete: bool,
}

impl<'a> Connections<'a> {
    fn resolve(draft: &'a Draft, problems: &mut Collector) -> Self {
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

    fn check(&self, problems: &mut Collector) {
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

fn called(pod: &DraftPod) -> String {
    pod.name.as_ref().map_or_else(
        || format!("the pod on line {}", pod.line),
        |name| format!("pod {}", quote(&name.value)),
    )
}

/// True when `name` is a DNS label; a problem otherwise.
fn label(what: &str, name: &At<String>, problems: &mut Collector) -> bool {
    let good = is_dns_label(&name.value);
    if !good {
        let slug: String = name
            .value
            .to_lowercase()
            .chars()
            .map(|letter| {
                if letter.is_ascii_alphanumeric() {
                    letter
                } else {
                    '-'
                }
            })
            .take(63)
            .collect();
        let slug = slug.trim_matches('-');
        let example = if is_dns_label(slug) {
            format!(", for example `{slug}`")
        } else {
            String::new()
        };
        problems.add(
            name.line,
            format!(
                "{what} {} is no DNS label; use 1 to 63 of `a-z`, `0-9` and `-`, with a letter or digit at both ends{example}",
                quote(&name.value)
            ),
        );
    }
    good
}

fn once<'a>(
    what: &str,
    name: &'a At<String>,
    seen: &mut BTreeMap<&'a str, usize>,
    problems: &mut Collector,
) {
    if let Some(first) = seen.get(name.value.as_str()) {
        problems.add(
            name.line,
            format!(
                "{what} {} is named twice (first on line {first}); rename or remove one of them",
                quote(&name.value)
            ),
        );
    } else {
        seen.insert(&name.value, name.line);
    }
}
