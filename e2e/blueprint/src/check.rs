//! Checks a draft for consistency. A check skips gaps, so that one mistake is reported once.

mod storage;
mod targets;

pub use targets::is_host;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use messages::Role;

use super::{
    FILE_NAME,
    connections::Connections,
    draft::{At, Draft, DraftPod, called},
    names,
    problem::{Collector, list, quote},
};

pub(super) fn check(draft: &Draft, path: &Path, problems: &mut Collector) {
    names::check(draft, problems);
    folder(draft, path, problems);
    clusters(draft, problems);
    pods(draft, problems);
    storage::check(draft, problems);
    targets::check(draft, problems);
    Connections::resolve(draft, problems).check(problems);
}

fn folder(draft: &Draft, path: &Path, problems: &mut Collector) {
    let Some(name) = &draft.name else { return };
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
}

fn clusters(draft: &Draft, problems: &mut Collector) {
    let mut seen = BTreeMap::new();
    for cluster in &draft.clusters.items {
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
    let mut names = BTreeMap::new();
    let mut ports: BTreeMap<(&str, u16), &DraftPod> = BTreeMap::new();
    for pod in &draft.pods.items {
        if let Some(name) = &pod.name {
            once("pod", name, &mut names, problems);
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
