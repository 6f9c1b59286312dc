//! The operator's identity folder: the root with its key, and the authority of each pod.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context as _;
use host::environment::{Layout, private_folder, replace_file};
use identity::{AUTHORITY_KEY, AUTHORITY_LIFETIME, Authority, Clients, ROOT_CERTIFICATE, Root};
use jiff::Timestamp;
use messages::WorkloadName;
use render::PodSecrets;

use super::Bundle;
use crate::runtime::clusters::secrets_in;

/// Characters of a label's value, by the rules of Kubernetes.
const LONGEST_LABEL: usize = 63;
/// Characters of the root's fingerprint that tell it from others.
const FINGERPRINT: usize = 12;

/// What a bundle's pods are given.
pub(super) struct Identities {
    /// Value of the label on all objects: one for each root, so that bundles of other roots leave each other alone.
    pub(super) label: String,
    pub(super) secrets: BTreeMap<WorkloadName, PodSecrets>,
    /// When the first of the authorities ends.
    pub(super) ends: Timestamp,
}

/// Makes what is missing in the folder and renews authorities that have less than a third of their life left.
pub(super) fn keep(layout: &Layout, bundle: &Bundle<'_>) -> anyhow::Result<Identities> {
    private_folder(layout.root())?;
    // Nothing of it belongs under version control.
    replace_file(&layout.root().join(".gitignore"), b"*\n", 0o600)?;
    let name = &bundle.blueprint.name;
    if layout.identity().join(ROOT_CERTIFICATE).exists() {
        let root = Root::load(&layout.identity())?;
        for pod in &bundle.plan.pods {
            renew(&root, &pod.name, &layout.authority(&pod.name))?;
        }
    }
    let secrets = secrets_in(layout, name, &bundle.plan, Clients::Others)?;
    let root = Root::load(&layout.identity())?;
    let ends = bundle.plan.pods.iter().map(|pod| {
        let report = Authority::load(&layout.authority(&pod.name))?.report()?;
        anyhow::Ok(report.not_after.as_jiff())
    });
    let ends = ends.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Identities {
        label: label(name, &root.report()?.fingerprint),
        secrets,
        ends: ends.into_iter().min().context("a blueprint has pods")?,
    })
}

fn renew(root: &Root, pod: &WorkloadName, folder: &Path) -> anyhow::Result<()> {
    if !root.has_key() || !folder.join(AUTHORITY_KEY).exists() {
        return Ok(());
    }
    let end = Authority::load(folder)?
        .report()?
        .not_after
        .as_jiff()
        .as_second();
    let third = i64::try_from(AUTHORITY_LIFETIME.as_secs() / 3)?;
    if end - Timestamp::now().as_second() < third {
        root.authority(pod)?.save(folder)?;
    }
    Ok(())
}

fn label(name: &str, fingerprint: &str) -> String {
    let short: String = fingerprint.chars().take(FINGERPRINT).collect();
    let room = LONGEST_LABEL - FINGERPRINT - 1;
    let name = name[..name.len().min(room)].trim_end_matches('-');
    format!("{name}-{short}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_fits_and_tells_roots_apart() {
        let (long, short) = ("a".repeat(63), "x");
        for name in [long.as_str(), short] {
            let label = label(name, &"0123456789abcdef".repeat(4));
            assert!(
                label.len() <= LONGEST_LABEL && messages::is_dns_label(&label),
                "{label}"
            );
        }
        assert_ne!(label("x", &"a".repeat(64)), label("x", &"b".repeat(64)));
    }
}
