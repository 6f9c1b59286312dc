//! The command line: arguments and help texts. Defaults belong to the harness.

use std::path::PathBuf;

use blueprint::{Target, container::Container};
use clap::{Args, Parser, Subcommand};
use harness::{
    ops::choice::RuntimeChoice,
    runtime::existing::{AddressOf, ContextOf, Destination},
};
use messages::Protocol;
use render::{Architecture, GivenAddress};

#[cfg(test)]
mod tests;

/// Carries messages between pods in different clusters through a mutually authenticated tunnel
///
/// BLUEPRINT is a name under `manifests/`, such as `international-ferry`, or a path to any blueprint file.
///
/// Data goes to standard output, everything else to standard error. Only terminals get colours, and never with `NO_COLOR`.
///
/// Exit codes: 0 success; 1 an assertion about the product failed; 2 a usage error or an invalid blueprint; 3 the machine
/// or a tool failed (no Docker, port in use, image missing, timeout); 130, 143, 129 ended by Ctrl-C, SIGTERM, SIGHUP. After
/// the first signal a command removes what it created; the second one ends it immediately.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create an environment, prove that every message arrives, and remove it
    E2e(E2e),
    /// Create or update an environment on this machine, prove it, and leave it running
    LocalUp(LocalUp),
    /// Stop and remove environments that `local-up` or `e2e --keep` left running
    LocalDown(LocalDown),
    /// Create or update a deployment on existing clusters, prove it, and leave it running
    ///
    /// Creates nothing in the clusters except the namespaces of the blueprints' pods.
    Deploy(Deploy),
    /// Remove a deployment: the namespaces of the blueprints' pods, and nothing else
    Undeploy(Undeploy),
    /// Build the image with the services, optimised, on this machine, and print its name
    Image(Image),
    /// Show environments, their pods and the pods' state
    Status(Status),
    /// Send messages through a gateway and show the sinks' acknowledgements
    Trigger(Trigger),
    /// Show the messages stored at the sinks, each with the pods it crossed
    Trail(Trail),
    /// Show identities and permitted connections; replace authorities and roots
    Identity(Identity),
    /// Show the logs of an environment's containers
    Logs(Logs),
    /// Remove the processes, clusters and files that a killed command left behind
    Sweep(Sweep),
    /// Check the requirements on this machine, and print a fix for each problem
    Doctor(Doctor),
    /// Measure latency and throughput on the embedded runtime; compare each scenario with the first
    Bench(Bench),
    /// Create a blueprint, its test and its manifests: a chain of clusters from a gateway to a sink
    New(New),
    /// Write the Kubernetes manifests and the blueprint schema under `manifests/`
    Render(Render),
    /// Print the cloud provider's commands that reserve, show and release a blueprint's addresses; run none of them
    Addresses(Addresses),
    /// Write a folder, or a `.tar.gz`, that deploys a blueprint with nothing but `kubectl`
    ///
    /// The root's key is not part of the bundle; it stays in a separate folder beside it.
    Bundle(Bundle),
}

/// The environment that a command works on.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Name of the environment; `local` by default
    #[arg(long)]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Messages that each scenario sends concurrently; a tenth of them is sent one at a time
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) messages: u32,
    /// Print one JSON object per scenario instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct E2e {
    /// Blueprints to prove; all under `manifests/` by default, on k3d only those with at most two clusters
    #[arg(value_name = "BLUEPRINT")]
    pub(crate) blueprints: Vec<String>,
    /// Runtime: `auto`, `embedded`, `k3d` or `existing`; `auto`, the default, is k3d if Docker and k3d work, else embedded
    #[arg(long)]
    pub(crate) runtime: Option<RuntimeChoice>,
    /// Leave the environment running and print commands to inspect it
    #[arg(long)]
    pub(crate) keep: bool,
    /// Run N times, each time from nothing, and stop at the first failure
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "keep")]
    pub(crate) repeat: Option<u32>,
    /// Print one JSON object per run instead of tables
    #[arg(long)]
    pub(crate) json: bool,
    // Last, as its heading holds for every option after it.
    #[command(flatten)]
    pub(crate) clusters: Clusters,
}

/// Existing clusters.
#[derive(Debug, Args)]
#[command(next_help_heading = "Existing clusters")]
pub(crate) struct Clusters {
    /// Kubeconfig context of a cluster in the blueprint, such as `cluster-a=NAME`; one for each cluster
    #[arg(long = "context", value_name = "CLUSTER=NAME")]
    contexts: Vec<ContextOf>,
    /// Kubeconfig with these contexts; by default the one that `kubectl` uses
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Image with the services, as the nodes pull it
    #[arg(long, value_name = "REGISTRY/NAME:TAG")]
    image: Option<String>,
    #[command(flatten)]
    pull: Pull,
    /// Platform of the clusters: `gke`, `eks`, `aks` or `generic`. Their Services then request the addresses that the
    /// blueprint reserves, and the IP address of each `--address`
    #[arg(long)]
    target: Option<Target>,
    /// Address at which other clusters dial this one's pods, such as `cluster-b=HOST`, or one pod, as
    /// `BLUEPRINT/POD=HOST:PORT`; by default the address of each pod's load balancer
    #[arg(long = "address", value_name = "CLUSTER=HOST[:PORT]")]
    addresses: Vec<AddressOf>,
    /// Address at which this machine dials the pods, in the same form; by default the address of each pod's load balancer
    #[arg(long, value_name = "CLUSTER=HOST[:PORT]")]
    reach: Vec<AddressOf>,
}

/// How nodes pull images.
#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// Envoy image to use
    #[arg(long, value_name = "REGISTRY/NAME:TAG")]
    pub(crate) envoy_image: Option<String>,
    /// Docker `config.json` with the credentials for the images' registries; these become part of the deployment or bundle
    #[arg(long, value_name = "FILE")]
    pub(crate) pull_secret: Option<PathBuf>,
    /// Architectures of the images, as in `kubernetes.io/arch`; pods are scheduled on these nodes only. By default this
    /// machine's architecture, for which `cargo xtask image` builds
    #[arg(long = "arch", value_name = "ARCH,…", value_delimiter = ',')]
    pub(crate) architectures: Vec<Architecture>,
}

impl Clusters {
    /// Returns whether any of these options was given.
    pub(crate) fn are_named(&self) -> bool {
        !self.contexts.is_empty()
            || !self.addresses.is_empty()
            || !self.reach.is_empty()
            || self.target.is_some()
            || !self.pull.architectures.is_empty()
            || [&self.image, &self.pull.envoy_image]
                .iter()
                .any(|image| image.is_some())
            || [&self.kubeconfig, &self.pull.pull_secret]
                .iter()
                .any(|file| file.is_some())
    }

    /// Returns the harness's description of these clusters.
    pub(crate) fn destination(&self) -> Destination {
        Destination {
            kubeconfig: self.kubeconfig.clone(),
            contexts: self.contexts.clone(),
            target: self.target,
            image: self.image.clone(),
            envoy_image: self.pull.envoy_image.clone(),
            pull_secret: self.pull.pull_secret.clone(),
            architectures: self.pull.architectures.clone(),
            addresses: self.addresses.clone(),
            reach: self.reach.clone(),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// Blueprints to deploy; `fast-international-ferry` by default
    #[arg(value_name = "BLUEPRINT")]
    pub(crate) blueprints: Vec<String>,
    #[command(flatten)]
    pub(crate) named: Named,
    #[command(flatten)]
    pub(crate) clusters: Clusters,
}

#[derive(Debug, Args)]
pub(crate) struct Undeploy {
    /// Keep the messages of the sinks: namespaces and volume claims stay, the next `deploy` finds them
    #[arg(long)]
    pub(crate) keep_data: bool,
    #[command(flatten)]
    pub(crate) named: Named,
}

#[derive(Debug, Args)]
pub(crate) struct Image {
    /// Additional name for the image, such as one in a registry
    #[arg(long, value_name = "REGISTRY/NAME:TAG")]
    pub(crate) tag: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LocalUp {
    /// Blueprints to bring up; `fast-international-ferry` by default
    #[arg(value_name = "BLUEPRINT")]
    pub(crate) blueprints: Vec<String>,
    #[command(flatten)]
    pub(crate) named: Named,
    /// Runtime: `auto`, `embedded` or `k3d`; `auto`, the default, is that of a running environment, else k3d if Docker and
    /// k3d work, else embedded
    #[arg(long)]
    pub(crate) runtime: Option<RuntimeChoice>,
    /// Recreate an existing environment; its keys, its tokens and the messages stored by its sinks are lost
    #[arg(long)]
    pub(crate) fresh: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LocalDown {
    /// Keep the messages of the sinks: k3d clusters are stopped, files stay, the next `local-up` finds them
    #[arg(long)]
    pub(crate) keep_data: bool,
    #[command(flatten)]
    pub(crate) named: Named,
    /// Remove every environment that no running command owns
    #[arg(long, conflicts_with = "name")]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Name of the environment; all environments by default
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Print one JSON object per environment
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Trigger {
    #[command(flatten)]
    pub(crate) named: Named,
    /// Gateway to use, as `POD` or `BLUEPRINT/POD`; required if the environment has several
    #[arg(long, value_name = "POD")]
    pub(crate) gateway: Option<String>,
    /// Number of messages to send; 1 by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: Option<u32>,
    /// File with one JSON value to send, or `-` for standard input; by default the gateway generates a small payload
    #[arg(long, value_name = "FILE")]
    pub(crate) payload: Option<PathBuf>,
    /// Print one JSON object per acknowledgement as it arrives, instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Trail {
    #[command(flatten)]
    pub(crate) named: Named,
    /// Verify every signature, chain, name and time up to the environment's root; print each broken hop and exit with code 1
    #[arg(long)]
    pub(crate) verify: bool,
    /// Verify the messages in a file, or `-` for standard input: lines of a sink's `/output`, or of `trail --json`
    #[arg(long, value_name = "FILE", requires = "verify")]
    pub(crate) from: Option<PathBuf>,
    /// PEM file with the root certificates to trust instead of the environment's; `--from` then needs no environment
    #[arg(long, value_name = "FILE", requires = "from", conflicts_with = "name")]
    pub(crate) roots: Option<PathBuf>,
    /// Print one JSON object per line instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Only this pod, as `POD` or `BLUEPRINT/POD`; all pods by default
    pub(crate) pod: Option<String>,
    /// Print new lines as they are written, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only this container: `app`, `envoy` or `wosp`
    #[arg(long)]
    pub(crate) container: Option<Container>,
    #[command(flatten)]
    pub(crate) named: Named,
}

#[derive(Debug, Args)]
#[command(flatten_help = true, disable_help_subcommand = true)]
pub(crate) struct Identity {
    #[command(subcommand)]
    pub(crate) action: IdentityAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IdentityAction {
    /// Show permitted connections, and the age and expiry of every identity, authority and root
    Show(IdentityShow),
    /// Replace the authorities of pods under traffic, and wait until the pods use them
    Rotate(IdentityRotate),
    /// Write requests (PKCS #10) for a CA of your own to sign; the keys stay in the state folder
    Export(IdentityExport),
    /// Check the certificates that your CA has signed, and switch the pods to them under traffic
    Import(IdentityImport),
}

#[derive(Debug, Args)]
pub(crate) struct IdentityShow {
    /// Only this pod, as `POD` or `BLUEPRINT/POD`; all pods by default
    pub(crate) pod: Option<String>,
    #[command(flatten)]
    pub(crate) named: Named,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct IdentityRotate {
    /// Only this pod, as `POD` or `BLUEPRINT/POD`; all pods by default
    #[arg(conflicts_with = "root")]
    pub(crate) pod: Option<String>,
    /// Replace the root, too: pods trust the new one first, then all authorities move to it, then the old one is removed
    #[arg(long)]
    pub(crate) root: bool,
    #[command(flatten)]
    pub(crate) named: Named,
}

#[derive(Debug, Args)]
pub(crate) struct IdentityExport {
    /// Only these pods, as `POD` or `BLUEPRINT/POD`; all pods by default
    #[arg(value_name = "POD")]
    pub(crate) pods: Vec<String>,
    /// Folder for the requests, one `<blueprint>.<cluster>.<pod>.csr` per pod
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) named: Named,
}

#[derive(Debug, Args)]
pub(crate) struct IdentityImport {
    /// Folder with `root.crt` and one `<blueprint>.<cluster>.<pod>.crt` per pod, in PEM
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) named: Named,
}

#[derive(Debug, Args)]
pub(crate) struct Sweep {}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Runtime to check for: `auto`, `embedded`, `k3d` or `existing`; `auto`, the default, is k3d if Docker and k3d work,
    /// else embedded
    #[arg(long)]
    pub(crate) runtime: Option<RuntimeChoice>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct New {
    /// Name of the blueprint, such as `island-ferry`
    pub(crate) name: String,
    /// Protocol of the connections: `websocket` or `grpc`
    #[arg(long)]
    pub(crate) protocol: Protocol,
    /// At least two clusters in travel order, such as `mainland,island,skerry`: the first gets the gateway, the last the
    /// sink, each cluster between them a processor
    #[arg(long, value_delimiter = ',', required = true)]
    pub(crate) clusters: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Render {
    /// Blueprints to render; all under `manifests/` by default
    #[arg(value_name = "BLUEPRINT")]
    pub(crate) blueprints: Vec<String>,
    /// Write nothing; list the differences and exit with code 1 if there are any
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Addresses {
    /// Platform of the clusters: `gke`, `eks`, `aks` or `generic`
    pub(crate) target: Target,
    /// Blueprint whose pods need addresses
    #[arg(value_name = "BLUEPRINT")]
    pub(crate) blueprint: String,
}

#[derive(Debug, Args)]
pub(crate) struct Bundle {
    /// Blueprint to deploy
    #[arg(value_name = "BLUEPRINT")]
    pub(crate) blueprint: String,
    /// Platform of the clusters: `gke`, `eks`, `aks` or `generic`
    #[arg(long)]
    pub(crate) target: Target,
    /// Address at which other clusters dial this one's pods: an IP address, which the pod's Service then requests, or a host
    /// name. If neither this option nor the blueprint has one, the scripts look it up when they deploy
    #[arg(long = "address", value_name = "CLUSTER[/POD]=HOST")]
    pub(crate) addresses: Vec<GivenAddress>,
    /// Image with the services, as the nodes pull it
    #[arg(long, value_name = "REGISTRY/NAME:TAG")]
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) pull: Pull,
    /// Folder to write, or file if it ends with `.tar.gz`; `BLUEPRINT-TARGET` in the current folder by default
    #[arg(long, value_name = "DIR|FILE.tar.gz")]
    pub(crate) out: Option<PathBuf>,
    /// Folder with the root, its key and the pods' authorities, created if missing; by default the bundle's name with
    /// `.identity` appended. The same folder and arguments make the same bundle
    #[arg(long, value_name = "DIR")]
    pub(crate) identity: Option<PathBuf>,
}
