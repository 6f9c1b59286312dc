//! Whether what was read makes sense. Each check looks only at what is there: what a gap would explain is not said again.

mod targets;

pub(crate) use targets::is_host;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use messages::{Role, is_dns_label};

use super::{
    FILE_NAME,
    connections::Connections,
    draft::{At, Draft, DraftPod},
    problem::{Collector, list, quote},
};

/// Longest name of a namespace: a DNS label.
const LONGEST_NAMESPACE: usize = 63;

pub(super) fn check(draft: &Draft, path: &Path, problems: &mut Collector) {
    blueprint_name(draft, path, problems);
    clusters(draft, problems);
    pods(draft, problems);
    targets::check(draft, problems);
    Connections::resolve(draft, problems).check(problems);
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

pub(super) fn called(pod: &DraftPod) -> String {
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
