//! A pod's files and processes.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use anyhow::Context as _;
use blueprint::{
    container::Container,
    plan::{PeerAddress, PodPlan, Sockets},
};
use host::{
    binaries::Binaries,
    environment::{Environment, Layout, PodRecord, ProcessRecord, private_folder, replace_file},
    process::Launch,
};
use identity::{self, Clients, Root, Server};
use messages::{WorkloadName, env};
use render::envoy::{self, EnvoyPaths};
use serde::{Deserialize, Serialize};

use super::network::Placed;

/// In a pod's folder: what is known of the pod beyond its record.
const POD_FILE: &str = "pod.json";
/// Envoy's bootstrap.
const ENVOY_FILE: &str = "envoy.json";
/// What a sink stores.
const DATA_FOLDER: &str = "data";

/// `pod.json`: where the pod answers, and how each of its containers is started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PodFile {
    pub(super) http: SocketAddr,
    pub(super) wosp: SocketAddr,
    pub(super) envoy_stats: SocketAddr,
    /// Where else it listens; older versions did not write it down.
    #[serde(default)]
    others: Option<Others>,
    containers: BTreeMap<Container, Launch>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Others {
    relay: SocketAddr,
    ingress: SocketAddr,
    /// In the order of its connections.
    egress: Vec<SocketAddr>,
}

impl PodFile {
    fn path(layout: &Layout, name: &WorkloadName) -> std::path::PathBuf {
        layout.pod(name).join(POD_FILE)
    }

    pub(super) fn load(layout: &Layout, name: &WorkloadName) -> anyhow::Result<Self> {
        let path = Self::path(layout, name);
        let read = || anyhow::Ok(serde_json::from_slice(&std::fs::read(&path)?)?);
        read().with_context(|| format!("cannot read `{}`", path.display()))
    }

    /// Where the pod listens, where that is known.
    pub(super) fn placed(&self) -> Option<Placed> {
        let others = self.others.as_ref()?;
        Some(Placed {
            sockets: Sockets {
                http: self.http,
                relay: others.relay,
                ingress: others.ingress,
                envoy_stats: self.envoy_stats,
                wosp: self.wosp,
                egress_host: self.http.ip(),
            },
            egress: others.egress.clone(),
        })
    }

    pub(super) fn launch(&self, container: Container) -> anyhow::Result<&Launch> {
        self.containers
            .get(&container)
            .with_context(|| format!("no recorded command to start {container}"))
    }
}

/// Hash of what a container is started with, see [`Launch::made_of`].
pub(super) fn made_of(container: Container, launch: &Launch) -> anyhow::Result<String> {
    let configuration = match container {
        Container::Envoy => {
            let path = launch.folder.join(ENVOY_FILE);
            std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?
        }
        Container::App | Container::Wosp => vec![],
    };
    launch.made_of(&configuration)
}

/// What all pods of an environment are made with.
pub(super) struct Workshop<'a> {
    pub(super) layout: &'a Layout,
    pub(super) binaries: &'a Binaries,
    pub(super) envoy: &'a Path,
    pub(super) root: &'a Root,
    /// Settings for every `app` and `wosp`.
    pub(super) settings: &'a BTreeMap<String, String>,
}

impl Workshop<'_> {
    /// Writes a pod's files: identity, token and server certificate, Envoy's configuration, the way to start it. What is
    /// there already of the first three stays, as does what a sink has stored.
    pub(super) fn prepare(&self, plan: &PodPlan, record: &PodRecord) -> anyhow::Result<PodFile> {
        let name = &plan.name;
        let folder = self.layout.pod(name);
        let paths = EnvoyPaths::in_working_directory();
        private_folder(&folder.join(DATA_FOLDER))?;
        private_folder(&folder.join(&paths.identity_dir))?;
        if let Some(peers) = paths.peers_file.parent() {
            private_folder(&folder.join(peers))?;
        }
        let authority = self.layout.authority(name);
        if !authority.join(identity::AUTHORITY_KEY).exists() {
            self.root.authority(name)?.save(&authority)?;
        }
        if let Some(token_file) = &record.token_file {
            if !token_file.exists() {
                replace_file(token_file, identity::token().as_bytes(), 0o600)?;
            }
            let pinhole = self.layout.pinhole(name);
            Server::keep(self.root, name, &pinhole, Clients::Commands)?;
            let pinhole = serde_json::to_vec_pretty(&envoy::pinhole(&paths))?;
            replace_where_different(&folder.join(&paths.pinhole_file), &pinhole)?;
        }
        let bootstrap = serde_json::to_vec_pretty(&envoy::bootstrap(plan, &paths))?;
        replace_where_different(&folder.join(ENVOY_FILE), &bootstrap)?;
        let launch = |container: Container, program: &Path, args, env| {
            let launch = Launch {
                program: program.into(),
                args,
                env,
                folder: folder.clone(),
                log: self.layout.pod_log(name, container.as_str()),
            };
            (container, launch)
        };
        let file = PodFile {
            http: plan.sockets.http,
            wosp: plan.sockets.wosp,
            envoy_stats: plan.sockets.envoy_stats,
            others: Some(Others {
                relay: plan.sockets.relay,
                ingress: plan.sockets.ingress,
                egress: plan.egress.iter().map(|egress| egress.listen).collect(),
            }),
            containers: BTreeMap::from([
                launch(
                    Container::Wosp,
                    self.binaries.wosp(),
                    vec![],
                    self.wosp_variables(plan),
                ),
                launch(
                    Container::App,
                    self.binaries.app(plan.role),
                    vec![],
                    self.app_variables(plan, record),
                ),
                launch(
                    Container::Envoy,
                    self.envoy,
                    envoy::arguments(Path::new(ENVOY_FILE)),
                    BTreeMap::new(),
                ),
            ]),
        };
        let text = serde_json::to_vec_pretty(&file)?;
        replace_where_different(&PodFile::path(self.layout, name), &text)?;
        Ok(file)
    }

    /// What `app` and `wosp` both read.
    fn variables(&self, plan: &PodPlan) -> BTreeMap<String, String> {
        let name = &plan.name;
        let identity = self
            .layout
            .pod(name)
            .join(EnvoyPaths::in_working_directory().identity_dir);
        let mut variables = set([
            (env::BLUEPRINT, name.blueprint().to_owned()),
            (env::WORKLOAD, name.pod().to_owned()),
            (env::CLUSTER, name.cluster().to_owned()),
            (env::IDENTITY_DIR, identity.display().to_string()),
            (env::LOG_FORMAT, "human".to_owned()),
        ]);
        if let Ok(filter) = std::env::var(env::LOG) {
            variables.insert(env::LOG.into(), filter);
        }
        variables.extend(self.settings.clone());
        variables
    }

    fn wosp_variables(&self, plan: &PodPlan) -> BTreeMap<String, String> {
        let authority = self.layout.authority(&plan.name);
        let mut variables = self.variables(plan);
        variables.extend(set([
            (env::AUTHORITY_DIR, authority.display().to_string()),
            (env::WOSP_LISTEN, plan.sockets.wosp.to_string()),
        ]));
        variables
    }

    fn app_variables(&self, plan: &PodPlan, record: &PodRecord) -> BTreeMap<String, String> {
        let data = self.layout.pod(&plan.name).join(DATA_FOLDER);
        let downstream: Vec<_> = plan
            .egress
            .iter()
            .map(|egress| {
                let (pod, scheme) = (egress.target.pod(), egress.protocol.scheme());
                format!("{pod}={scheme}://{}", egress.listen)
            })
            .collect();
        let mut variables = self.variables(plan);
        variables.extend(set([
            (env::ROLE, plan.role.to_string()),
            (env::POD_NAME, record.pod_name.clone()),
            (env::NAMESPACE, record.namespace.clone()),
            (env::NODE, record.node.clone()),
            (env::HTTP_LISTEN, plan.sockets.http.to_string()),
            (env::RELAY_LISTEN, plan.sockets.relay.to_string()),
            (env::CONNECTIONS, plan.connections()),
            (env::DOWNSTREAM, downstream.join(",")),
            (env::DATA_DIR, data.display().to_string()),
            (env::AUTO_TRIGGER, plan.auto_trigger.to_string()),
        ]));
        if let Some(token_file) = &record.token_file {
            variables.insert(env::TOKEN_FILE.into(), token_file.display().to_string());
        }
        variables
    }
}

fn set<const N: usize>(variables: [(&str, String); N]) -> BTreeMap<String, String> {
    variables
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Writes where a pod's peers are; Envoy takes it from there, running or not.
pub(super) fn write_peers(
    layout: &Layout,
    plan: &PodPlan,
    addresses: &BTreeMap<WorkloadName, PeerAddress>,
) -> anyhow::Result<()> {
    let paths = EnvoyPaths::in_working_directory();
    let peers = envoy::peers(plan, addresses, &paths);
    let path = layout.pod(&plan.name).join(&paths.peers_file);
    replace_where_different(&path, &serde_json::to_vec_pretty(&peers)?)
}

/// Writes a file of mode 0600, unless its content is the same: Envoy may watch it.
pub(super) fn replace_where_different(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    if std::fs::read(path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    replace_file(path, content, 0o600)
}

/// Starts a container and records its process before anything else happens.
pub(super) fn start(
    environment: &mut Environment,
    pod: &WorkloadName,
    container: Container,
    launch: &Launch,
) -> anyhow::Result<ProcessRecord> {
    let log_start = launch.log_length();
    let started = made_of(container, launch).and_then(|made_of| Ok((made_of, launch.start()?)));
    let (made_of, id) =
        started.with_context(|| format!("{}: {container} of `{}`", pod.cluster(), pod.pod()))?;
    let process = ProcessRecord {
        container: container.as_str().into(),
        id,
        log: launch.log.clone(),
        log_start,
        made_of: Some(made_of),
    };
    let record = environment.record.pod_mut(pod);
    let record = record.with_context(|| format!("{pod} is not recorded"))?;
    record
        .processes
        .retain(|other| other.container != process.container);
    record.processes.push(process.clone());
    environment.save()?;
    Ok(process)
}

pub(super) fn process_of(pod: &PodRecord, container: Container) -> Option<&ProcessRecord> {
    pod.processes
        .iter()
        .find(|process| process.container == container.as_str())
}
