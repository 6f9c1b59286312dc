//! Who has taken the gateway's Secret has its authority: what that can speak for, and what it cannot.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use cluster::{k3d::Clusters, kubernetes::Cluster};
use e2e::testing::{Ferry, Metric, with_environment};
use host::environment::{PodRecord, RuntimeKind};
use identity::{Authority, AuthorityRequest, LeafRequest, Validity};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, api::ListParams};
use messages::WorkloadName;
use render::AUTHORITY_SECRET;
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};

use crate::attackers::{
    attack::{Attack, Errand, Sign, attack, errand, withstand},
    door::{Door, Version, root},
    strangers::{CHAIN, ingress},
};

pub(crate) const TEST: &str = "e2e/tests/it/thief.rs::stolen_authority_speaks_for_its_pod_alone";

/// What the pin on the exact DNS name counts.
const PIN: Metric = ingress("envoy_listener_ssl_fail_verify_san");

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

pub(crate) const ATTACKS: &[Attack] = &[
    constrained(
        "a leaf with the sink's name",
        errand!(async |ferry| { named(&ferry, &ferry.sink()?.name).await }),
    ),
    constrained(
        "a leaf with the name of another pod of its cluster",
        errand!(async |ferry| { named(&ferry, &neighbour(&ferry)?).await }),
    ),
    constrained(
        "the gateway's URI with another pod's DNS name",
        errand!(async |ferry| {
            let mut request = LeafRequest::of(&neighbour(&ferry)?);
            request.uris = vec![ferry.gateway()?.name.spiffe_id()];
            minted(&ferry, &request).await
        }),
    ),
    pinned(
        "a leaf with a name below its own",
        errand!(async |ferry| {
            let name = ferry.gateway()?.name;
            let mut request = LeafRequest::of(&name);
            request.dns_names = vec![format!("admin.{name}")];
            minted(&ferry, &request).await
        }),
    ),
    pinned(
        "the gateway's URI without a DNS name",
        errand!(async |ferry| {
            let mut request = LeafRequest::of(&ferry.gateway()?.name);
            request.dns_names.clear();
            minted(&ferry, &request).await
        }),
    ),
    attack!(
        "a leaf of a second authority below the stolen one",
        "the sink's Envoy: no authority below an authority",
        [Sign::Rises(CHAIN), Sign::Envoy("CERTIFICATE_VERIFY_FAILED")],
        async |ferry| {
            let name = ferry.gateway()?.name;
            let mut below = LeafRequest::of(&name);
            below.kind = identity::CertificateKind::Authority;
            below.key_usages = vec![identity::KeyUsagePurpose::KeyCertSign];
            below.common_name = Some("second".into());
            let second = stolen(&ferry).await?.subordinate(&below)?;
            let leaf = second.leaf(&LeafRequest::of(&name))?;
            Door::of_sink(&ferry)?
                .refused(Some(&leaf), Version::Tls13)
                .await
        }
    ),
    attack!(
        "a leaf of ten years, once the authority it was minted from has expired",
        "the sink's Envoy: every certificate of the chain must be valid",
        [Sign::Rises(CHAIN), Sign::Envoy("certificate_has_expired")],
        async |ferry| {
            let name = ferry.gateway()?.name;
            let now = Timestamp::now();
            // What the stolen one will be when its time is over.
            let over = Validity {
                not_before: now - Duration::from_secs(60 * 60),
                not_after: now - Duration::from_secs(2),
            };
            let authority = root(&ferry)?.authority_as_asked(&AuthorityRequest::of(&name, over))?;
            let mut request = LeafRequest::of(&name);
            request.validity = Validity::lasting(10 * YEAR);
            Door::of_sink(&ferry)?
                .refused(Some(&authority.leaf(&request)?), Version::Tls13)
                .await
        }
    ),
];

const fn constrained(name: &'static str, run: Errand) -> Attack {
    Attack {
        name,
        refused_by: "the sink's Envoy: the authority's critical name constraint",
        seen_in: &[
            Sign::Rises(CHAIN),
            Sign::Envoy("permitted_subtree_violation"),
        ],
        run,
    }
}

const fn pinned(name: &'static str, run: Errand) -> Attack {
    Attack {
        name,
        refused_by: "the sink's Envoy: the pin on the gateway's exact DNS name",
        seen_in: &[Sign::Rises(PIN), Sign::Envoy("SAN_matcher")],
        run,
    }
}

/// A pod that could be there.
fn neighbour(ferry: &Ferry) -> anyhow::Result<WorkloadName> {
    let gateway = ferry.gateway()?.name;
    Ok(WorkloadName::new(
        gateway.blueprint(),
        gateway.cluster(),
        "stowaway",
    )?)
}

async fn named(ferry: &Ferry, name: &WorkloadName) -> anyhow::Result<String> {
    minted(ferry, &LeafRequest::of(name)).await
}

/// Shows what the stolen authority signs, and must be refused.
async fn minted(ferry: &Ferry, request: &LeafRequest) -> anyhow::Result<String> {
    let leaf = stolen(ferry).await?.leaf(request)?;
    Door::of_sink(ferry)?
        .refused(Some(&leaf), Version::Tls13)
        .await
}

/// The gateway's authority, from where the pod has it.
async fn stolen(ferry: &Ferry) -> anyhow::Result<Authority> {
    let gateway = ferry.gateway()?;
    let environment = ferry.environment()?;
    if environment.record.runtime == RuntimeKind::Embedded {
        let folder = ferry.pod(gateway.name.pod()).folder()?.join("authority");
        return Authority::load(&folder);
    }
    let cluster = cluster(ferry, gateway.name.cluster()).await?;
    let secrets = Api::<Secret>::namespaced(cluster.client(), &gateway.namespace);
    let secret = secrets.get(AUTHORITY_SECRET).await?;
    let folder = tempfile::tempdir()?;
    for (file, content) in secret.data.unwrap_or_default() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder.path().join(file);
        std::fs::write(&path, content.0)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    }
    Authority::load(folder.path())
}

async fn cluster(ferry: &Ferry, name: &str) -> anyhow::Result<Cluster> {
    let environment = ferry.environment()?;
    let mut clusters = environment.record.clusters.iter();
    let record = clusters.find(|cluster| cluster.name == name);
    let reference = &record.context("no such cluster")?.reference;
    let files = Clusters::new(environment.name().as_str(), environment.layout().root());
    Cluster::connect(name, &files.kubeconfig_of(reference)).await
}

#[tokio::test]
async fn stolen_authority_speaks_for_its_pod_alone() -> anyhow::Result<()> {
    with_environment("fast-international-ferry", |ferry| async move {
        // What a thief does get: to be the gateway, as long as the authority is valid.
        let authority = stolen(&ferry).await?;
        let mut request = LeafRequest::of(&ferry.gateway()?.name);
        let own = authority.leaf(&request)?;
        Door::of_sink(&ferry)?.admitted(&own).await?;
        // No handshake compares how long a leaf and its authority are valid; that it ends with it is one of the attacks.
        request.validity = Validity::lasting(10 * YEAR);
        let long = authority.leaf(&request)?;
        Door::of_sink(&ferry)?.admitted(&long).await?;
        withstand(&ferry, ATTACKS).await
    })
    .await
}

#[tokio::test]
async fn clusters_hold_no_key_of_root_or_other_pod() -> anyhow::Result<()> {
    with_environment("fast-international-ferry", |ferry| async move {
        let environment = ferry.environment()?;
        let (gateway, sink) = (ferry.gateway()?, ferry.sink()?);
        let root_key = environment.layout().identity().join(identity::ROOT_KEY);
        let root_key = key_bytes(&std::fs::read_to_string(root_key)?)?;
        let gateways = key_bytes(&stolen(&ferry).await?.key_pem())?;
        for (pod, wanted) in [(&gateway, 1), (&sink, 0)] {
            let within = what_is_within(&ferry, pod).await?;
            assert_eq!(
                holders(&within, &gateways).len(),
                wanted,
                "the gateway's authority key must be with the gateway alone: {:?}",
                holders(&within, &gateways)
            );
            let found = holders(&within, &root_key);
            assert!(
                found.is_empty(),
                "{}: the root's key must not be here: {found:?}",
                pod.name
            );
        }
        Ok(())
    })
    .await
}

/// The private number of a PKCS #8 key: it is in every form that the key can be stored in.
fn key_bytes(pem: &str) -> anyhow::Result<Vec<u8>> {
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes())?;
    // RFC 5915: version 1, then the number as an octet string of 32 bytes.
    let marker = [0x02, 0x01, 0x01, 0x04, 0x20];
    let der = der.secret_der();
    let at = der
        .windows(marker.len())
        .position(|window| window == marker);
    let start = at.context("no EC private key")? + marker.len();
    Ok(der.get(start..start + 32).context("a short key")?.to_vec())
}

/// Where the key is, as bytes or inside PEM.
fn holders<'a>(within: &'a BTreeMap<String, Vec<u8>>, key: &[u8]) -> Vec<&'a str> {
    let has = |content: &[u8]| content.windows(key.len()).any(|window| window == key);
    let holder = |(place, content): (&'a String, &'a Vec<u8>)| {
        let decoded = decoded(content);
        (has(content) || decoded.iter().any(|block| has(block))).then_some(place.as_str())
    };
    within.iter().filter_map(holder).collect()
}

/// What stands in a text as base64, in lines that belong together.
fn decoded(content: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(content).replace("\\n", "\n");
    let is_base64 = |line: &&str| {
        !line.is_empty()
            && line
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
    };
    let mut blocks = vec![String::new()];
    for line in text.lines().map(str::trim) {
        match (is_base64(&line), blocks.last_mut()) {
            (true, Some(block)) => block.push_str(line),
            _ => blocks.push(String::new()),
        }
    }
    let blocks = blocks.iter().filter(|block| !block.is_empty());
    blocks
        .filter_map(|block| BASE64_STANDARD.decode(block).ok())
        .collect()
}

/// Everything that is stored for a pod, by its place: its files, or the Secrets and ConfigMaps of its whole cluster.
async fn what_is_within(
    ferry: &Ferry,
    pod: &PodRecord,
) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut within = BTreeMap::new();
    if ferry.environment()?.record.runtime == RuntimeKind::Embedded {
        for path in files(&ferry.pod(pod.name.pod()).folder()?)? {
            within.insert(path.display().to_string(), std::fs::read(&path)?);
        }
        return Ok(within);
    }
    let client = cluster(ferry, pod.name.cluster()).await?.client();
    let all = ListParams::default();
    for secret in Api::<Secret>::all(client.clone()).list(&all).await? {
        let place = place("Secret", &secret.metadata);
        for (key, value) in secret.data.unwrap_or_default() {
            within.insert(format!("{place}/{key}"), value.0);
        }
    }
    for map in Api::<ConfigMap>::all(client).list(&all).await? {
        let place = place("ConfigMap", &map.metadata);
        for (key, value) in map.data.unwrap_or_default() {
            within.insert(format!("{place}/{key}"), value.into_bytes());
        }
    }
    Ok(within)
}

fn place(kind: &str, meta: &kube::api::ObjectMeta) -> String {
    format!(
        "{kind} {}/{}",
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default()
    )
}

/// Plain files below `folder`; not the sockets.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut all = vec![];
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            all.extend(files(&entry.path())?);
        } else if kind.is_file() {
            all.push(entry.path());
        }
    }
    Ok(all)
}
