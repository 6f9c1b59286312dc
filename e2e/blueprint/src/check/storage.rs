//! Whether the `storage` of the pods makes sense.

use messages::Role;

use super::super::{
    draft::{At, Draft, DraftPod, DraftStorage, called},
    names::{LONGEST_DNS_NAME, Shape},
    problem::{Collector, quote},
    storage::{self, LEAST_BYTES},
};

pub(super) fn check(draft: &Draft, problems: &mut Collector) {
    for pod in &draft.pods.items {
        if let Some(At { line, value }) = &pod.storage {
            role(pod, *line, problems);
            size(value, problems);
            class(value, problems);
            either(pod, value, problems);
        }
    }
}

fn role(pod: &DraftPod, line: usize, problems: &mut Collector) {
    if let Some(role) = &pod.role
        && role.value != Role::Sink
    {
        problems.add(
            line,
            format!(
                "{} is a {} and stores nothing; remove `storage`",
                called(pod),
                role.value
            ),
        );
    }
}

fn size(storage: &DraftStorage, problems: &mut Collector) {
    let Some(At { line, value: text }) = &storage.size else {
        return;
    };
    match storage::bytes(text) {
        None => problems.add(
            *line,
            format!(
                "`size` must be a quantity of Kubernetes, not {}; write for example `size: 10Gi`",
                quote(text)
            ),
        ),
        Some(bytes) if bytes < LEAST_BYTES => problems.add(
            *line,
            format!(
                "`size` is {}, less than twice what a sink keeps at most; write at least `size: {}`",
                quote(text),
                storage::least_size()
            ),
        ),
        Some(_) => {}
    }
}

fn class(storage: &DraftStorage, problems: &mut Collector) {
    let Some(At { line, value: text }) = &storage.class else {
        return;
    };
    if text.len() > LONGEST_DNS_NAME || !Shape::Dotted.fits(text) {
        problems.add(
            *line,
            format!(
                "`class` must be the name of a storage class, not {}; `kubectl get storageclass` lists those of a cluster",
                quote(text)
            ),
        );
    }
}

/// What ends with its pod has no claim, and so neither size nor class.
fn either(pod: &DraftPod, storage: &DraftStorage, problems: &mut Collector) {
    if !storage
        .ephemeral
        .as_ref()
        .is_some_and(|ephemeral| ephemeral.value)
    {
        return;
    }
    for (key, field) in [("size", &storage.size), ("class", &storage.class)] {
        if let Some(field) = field {
            problems.add(
                field.line,
                format!(
                    "{} is `ephemeral` and has no claim that `{key}` could be of; remove one of the two",
                    called(pod)
                ),
            );
        }
    }
}
