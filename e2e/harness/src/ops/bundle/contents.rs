//! Builds the files of a bundle. Does no I/O except for copying the blueprint's file.

use std::{collections::BTreeMap, fs};

use anyhow::Context as _;
use blueprint::{
    self,
    plan::{PeerAddress, PodPlan},
};
use messages::WorkloadName;
use render::{self, Manifest, Object, Options, PEERS_CONFIG_MAP};

use super::{
    Bundle, Entry, Files, Mode, PEERS_FILE, PEERS_TEMPLATE, SECRETS_FILE, identities::Identities,
    page, scripts::Scripts, template::key,
};

const IGNORED: &str = "\
# Keys of the pods, and what the scripts write down.
03-secrets.yaml
/addresses
/contexts
";

impl Bundle<'_> {
    pub(super) fn files(&self, identities: &Identities) -> anyhow::Result<Files> {
        let mut files = Files::new();
        let mut put = |path: String, text: String, mode: Mode| {
            files.insert(path, Entry { text, mode });
        };
        let path = self.blueprint.path();
        let blueprint = fs::read_to_string(path)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
        put(blueprint::FILE_NAME.into(), blueprint, Mode::Plain);
        put(".gitignore".into(), IGNORED.into(), Mode::Plain);
        for pod in &self.plan.pods {
            for (file, text) in self.pod(pod, identities)? {
                let mode = match file.as_str() {
                    SECRETS_FILE => Mode::Secret,
                    _ => Mode::Plain,
                };
                put(format!("{}/{file}", pod.name.pod()), text, mode);
            }
        }
        for (file, text) in Scripts::of(self, &identities.label).all()? {
            put(file, text, Mode::Script);
        }
        put(
            "README.md".into(),
            page::page(self, identities)?,
            Mode::Plain,
        );
        Ok(files)
    }

    /// The manifests of one pod. A separate file has its peers' addresses, so that only this one
    /// changes with them.
    fn pod(
        &self,
        pod: &PodPlan,
        identities: &Identities,
    ) -> anyhow::Result<BTreeMap<String, String>> {
        let secrets = identities
            .secrets
            .get(&pod.name)
            .with_context(|| format!("{} has no identity", pod.name))?;
        let settings = BTreeMap::new();
        let options = |peers| Options {
            environment: &identities.label,
            target: self.target,
            images: &self.images,
            peers,
            secrets,
            settings: &settings,
        };
        let mut groups: Vec<(String, Vec<Object>)> = vec![];
        for Manifest { file, objects } in render::pod(pod, &options(&self.peers))? {
            let kind = file.split_once('-').map_or(file.as_str(), |(_, kind)| kind);
            let (peers, mut others): (Vec<_>, Vec<_>) = objects.into_iter().partition(is_peers);
            if others
                .iter()
                .any(|object| matches!(object, Object::Secret(_)))
            {
                let credentials = self.credentials.iter();
                let secret =
                    credentials.map(|text| render::pull_secret(pod, &options(&self.peers), text));
                others.extend(secret.map(Object::Secret));
            }
            groups.push((kind.to_owned(), others));
            if !peers.is_empty() {
                groups.push(("peers.yaml".into(), peers));
            }
        }
        let mut files = BTreeMap::new();
        for ((kind, objects), number) in groups.into_iter().zip(1..) {
            files.insert(format!("{number:02}-{kind}"), render::yaml(&objects)?);
        }
        for expected in [SECRETS_FILE, PEERS_FILE] {
            anyhow::ensure!(files.contains_key(expected), "no `{expected}` was rendered");
        }
        if !pod.egress.is_empty() {
            let marks = marks(pod);
            let peers = render::peers(pod, &options(&marks))?;
            let text = render::yaml(&[Object::ConfigMap(peers)])?;
            files.insert(PEERS_TEMPLATE.into(), text);
        }
        Ok(files)
    }
}

fn is_peers(object: &Object) -> bool {
    matches!(object, Object::ConfigMap(map) if map.metadata.name.as_deref() == Some(PEERS_CONFIG_MAP))
}

/// What stands for each address in a template: no host name can look like that.
fn marks(pod: &PodPlan) -> BTreeMap<WorkloadName, PeerAddress> {
    pod.egress
        .iter()
        .map(|out| {
            let address = PeerAddress {
                host: format!("@{}@", key(&out.target)),
                port: out.public_port,
            };
            (out.target.clone(), address)
        })
        .collect()
}
