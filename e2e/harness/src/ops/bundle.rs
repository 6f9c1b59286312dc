//! Bundles: a folder or `.tar.gz` with manifests, the pods' keys, a README and scripts, which
//! deploys a blueprint with nothing but `kubectl`.
//!
//! The key of the root is never in it. It is in a folder of its own, laid out as an environment's state folder, which stays with
//! the operator; the same folder and the same request make the same bundle, byte for byte.

mod archive;
mod contents;
mod folder;
mod identities;
mod page;
mod scripts;
mod steps;
mod template;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use blueprint::{
    Blueprint, Target,
    failure::Failure,
    plan::{PeerAddress, Plan, Ports, Sockets, at},
};
use host::environment::{Content, Layout, check_file_system};
use messages::WorkloadName;
use render::{self, Architecture, GivenAddress, Images};

use crate::runtime::existing::pulled_images;

/// The file with the keys in each pod's folder, mode 0600.
pub const SECRETS_FILE: &str = "03-secrets.yaml";
/// The file with the addresses of a pod's downstreams, in its folder.
const PEERS_FILE: &str = "05-peers.yaml";
/// The same with a mark in the place of each address, which a script fills.
const PEERS_TEMPLATE: &str = "05-peers.yaml.template";
/// What scripts write down: addresses that load balancers got, and the contexts they were given.
const RECORDS: [&str; 2] = ["addresses", "contexts"];
/// How the name of an archive ends.
const ARCHIVE: &str = ".tar.gz";

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Request {
    pub blueprint: Blueprint,
    pub target: Target,
    /// Where pods are dialled, in place of what the blueprint reserves.
    pub addresses: Vec<GivenAddress>,
    /// Image with the services, as the nodes pull it.
    pub image: String,
    /// Another Envoy image than [`render::ENVOY_IMAGE`].
    pub envoy_image: Option<String>,
    /// Docker's `config.json` with the credentials for the images.
    pub pull_secret: Option<PathBuf>,
    /// What the images are for; none are named where that is this machine's architecture.
    pub architectures: Vec<Architecture>,
    /// A folder, or a file that ends with `.tar.gz`; `None` for `<blueprint>-<target>` in the working folder.
    pub out: Option<PathBuf>,
    /// The operator's folder; `None` for `<out>.identity`.
    pub identity: Option<PathBuf>,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Written {
    pub path: PathBuf,
    /// The operator's folder, with the root and its key.
    pub identity: PathBuf,
    /// How many files the bundle has.
    pub files: usize,
}

/// A file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    text: String,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Plain,
    Script,
    /// It holds keys.
    Secret,
}

impl Mode {
    const fn bits(self) -> u32 {
        match self {
            Self::Plain => 0o644,
            Self::Script => 0o755,
            Self::Secret => 0o600,
        }
    }
}

/// Path in the bundle → file.
type Files = BTreeMap<String, Entry>;

/// What a bundle is made of, everything settled. No `Debug`: it may hold credentials.
struct Bundle<'a> {
    blueprint: &'a Blueprint,
    target: Target,
    /// With the addresses that Services ask for.
    plan: Plan,
    /// Where pods are dialled, as far as that is known.
    peers: BTreeMap<WorkloadName, PeerAddress>,
    images: Images,
    /// For the Secret that the pods name, where the images need one.
    credentials: Option<String>,
}

/// Writes a bundle. A folder that an earlier call wrote is replaced, and what its scripts have recorded stays.
///
/// # Errors
///
/// A [`Failure::usage`] for what cannot be bundled and for a place that holds something else.
pub fn write(request: &Request) -> anyhow::Result<Written> {
    let bundle = settle(request)?;
    let path = request
        .out
        .clone()
        .unwrap_or_else(|| format!("{}-{}", request.blueprint.name, request.target).into());
    let path = std::path::absolute(path).context("cannot find the working folder")?;
    let archive = is_archive(&path);
    let identity = match &request.identity {
        Some(folder) => std::path::absolute(folder).context("cannot find the working folder")?,
        None => beside(&path)?,
    };
    if !archive && identity.starts_with(&path) {
        return Err(Failure::usage(format!(
            "identity folder `{}` is inside the bundle, but holds the root's key",
            identity.display()
        ))
        .hint("pass a folder outside the bundle with `--identity`")
        .into());
    }
    let place = if archive {
        folder::Place::File
    } else {
        folder::look(&path)?
    };
    let elsewhere = "name a folder on a file system of Linux with `--identity`";
    check_file_system(&identity, Content::State, elsewhere)?;
    if !archive {
        let elsewhere = "name a folder on a file system of Linux with `--out`";
        check_file_system(&path, Content::Keys, elsewhere)?;
    }
    let identities = identities::keep(&Layout::new(&identity), &bundle)?;
    let files = bundle.files(&identities)?;
    if archive {
        archive::write(&path, &root_folder(&path), &files)?;
    } else {
        folder::write(&path, place, &identities.label, &files)?;
    }
    Ok(Written {
        path,
        identity,
        files: files.len(),
    })
}

fn settle(request: &Request) -> anyhow::Result<Bundle<'_>> {
    let Request {
        blueprint, target, ..
    } = request;
    if *target == Target::K3d {
        return Err(
            Failure::usage("a bundle cannot target `k3d`: it needs existing clusters")
                .hint(
                    "pass `--target generic`, which works for any cluster, including those of \
                       k3d",
                )
                .into(),
        );
    }
    if let Some(pod) = blueprint
        .pods
        .iter()
        .find(|pod| RECORDS.contains(&pod.name.as_str()))
    {
        return Err(Failure::usage(format!(
            "{} has the same name as a file of the bundle",
            at(blueprint, pod)
        ))
        .hint("rename it in the blueprint")
        .into());
    }
    let (images, credentials) = pulled_images(
        request.image.clone(),
        request.envoy_image.clone(),
        request.pull_secret.as_deref(),
        &request.architectures,
    )?;
    let mut plan = Plan::of(std::slice::from_ref(blueprint), Ports::AsWritten, &|_| {
        Sockets::in_pod()
    })?;
    let mut dialled = plan.clone();
    render::give(&mut dialled, *target, &request.addresses)?;
    // A Service asks for an IP address. A host name comes from the operator's DNS, or from a load
    // balancer of AWS.
    let asked: Vec<_> = request
        .addresses
        .iter()
        .filter(|given| *target == Target::Eks || given.host.parse::<IpAddr>().is_ok())
        .cloned()
        .collect();
    render::give(&mut plan, *target, &asked)?;
    Ok(Bundle {
        blueprint,
        target: *target,
        peers: render::reserved_peers(&dialled, *target),
        plan,
        images,
        credentials,
    })
}

fn is_archive(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().ends_with(ARCHIVE))
}

/// The folder that an archive unpacks to: its own name without the ending.
fn root_folder(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.trim_end_matches(ARCHIVE).to_owned()
}

fn beside(path: &Path) -> anyhow::Result<PathBuf> {
    let name = root_folder(path);
    if name.is_empty() {
        return Err(
            Failure::usage(format!("invalid bundle name `{}`", path.display()))
                .hint("pass a folder, or a file that ends with `.tar.gz`")
                .into(),
        );
    }
    Ok(path.with_file_name(name + ".identity"))
}
