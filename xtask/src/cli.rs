//! The command line: its shape and its help texts. Defaults belong to the harness.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use e2e::{
    blueprint::Target,
    render::{Architecture, GivenAddress},
    runtime::{
        Container, RuntimeChoice,
        existing::{AddressOf, ContextOf, Destination},
    },
    wire::Protocol,
};

/// Carries messages between pods of different clusters through a mutually authenticated tunnel, and proves that it did
///
/// BLUEPRINT is a name under `manifests/`, such as `international-ferry`, or a path to any blueprint file.
///
/// Data goes to standard output, everything else to standard error. Colours are for terminals only, and never with
/// `NO_COLOR`.
///
/// Exit codes: 0 all good; 1 an assertion about the product failed; 2 wrong usage or a bad blueprint; 3 the machine or a
/// tool failed (no Docker, port taken, image missing, time-out); 130, 143, 129 ended by Ctrl-C, SIGTERM, SIGHUP. After the first of these
/// a command removes what it made; after the second it does so at once, without grace.
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
    /// Bring blueprints up from nothing, prove that every message crossed, and remove everything
    E2e(E2e),
    /// Bring blueprints up, prove them, and leave them running
    LocalUp(LocalUp),
    /// Stop and remove what `local-up` or `e2e --keep` left running
    LocalDown(LocalDown),
    /// Bring blueprints up on clusters that are there, prove them, and leave them running
    ///
    /// Nothing is created there but the namespaces of the blueprints' pods. Done again, it brings what is deployed up to date.
    Deploy(Deploy),
    /// Remove what `deploy` made: the namespaces of the blueprints' pods, and nothing else
    Undeploy(Undeploy),
    /// Build the image with the services on this machine, and print its name
    Image(Image),
    /// Show what runs where
    Status(Status),
    /// Send messages through a gateway and show what the far end acknowledged
    Trigger(Trigger),
    /// Show the messages stored at the sinks, each with every pod it crossed
    Trail(Trail),
    /// Show who may speak to whom and with what identity; replace authorities and roots
    Identity(Identity),
    /// Show the logs of an environment's containers
    Logs(Logs),
    /// Remove what a killed run left behind
    Sweep(Sweep),
    /// Check this machine, and say how to fix what is wrong
    Doctor(Doctor),
    /// Measure how fast messages cross on the embedded runtime, each scenario held against the first
    Bench(Bench),
    /// Write a new blueprint, its test and its manifests: a chain over clusters, from a gateway to a sink
    New(New),
    /// Write the Kubernetes manifests and the schema of blueprints that are checked in under `manifests/`
    Render(Render),
    /// Print the provider's commands that reserve, show and release the addresses of a blueprint; nothing is run
    Addresses(Addresses),
    /// Write a folder, or a `.tar.gz`, from which a blueprint is deployed with nothing but `kubectl`
    ///
    /// The key of the root is not in it, but in a folder of its own beside it, which stays with you.
    Bundle(Bundle),
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Messages that each scenario sends at once; a tenth of them goes one at a time
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) messages: u32,
    /// One JSON object a scenario
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct E2e {
    /// Blueprints to prove; all under `manifests/` if none is given, but on k3d only those with at most two clusters
    #[arg(value_name = "BLUEPRINT")]
    pub(crate) blueprints: Vec<String>,
    /// Where to run: `auto`, `embedded`, `k3d` or `existing`; `auto` takes k3d where Docker and k3d answer
    #[arg(long)]
    pub(crate) runtime: Option<RuntimeChoice>,
    #[command(flatten)]
    pub(crate) clusters: Clusters,
    /// Leave everything running at the end and say how to look around
    #[arg(long)]
    pub(crate) keep: bool,
    /// Do the whole N times, each from nothing, and stop at the first failure
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "keep")]
    pub(crate) repeat: Option<u32>,
    /// Print one JSON object a run instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

/// Clusters that are there
#[derive(Debug, Args)]
#[command(next_help_heading = "Clusters that exist already")]
pub(crate) struct Clusters {
    /// The kubeconfig context of a blueprint's cluster, such as `cluster-a=NAME`; one for each
    #[arg(long = "context", value_name = "CLUSTER=NAME")]
    contexts: Vec<ContextOf>,
    /// The kubeconfig with these contexts; what `kubectl` takes unless given
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The image with the services, as the nodes pull it
    #[arg(long, value_name = "REGISTRY/NAME:TAG")]
    image: Option<String>,
    /// Another image with Envoy
    #[arg(long, value_name = "REGISTRY/NAME:TAG")]
    envoy_image: Option<String>,
    /// A Docker `config.json` with the credentials that the nodes need for the images
    #[arg(long, value_name = "FILE")]
    pull_secret: Option<PathBuf>,
    /// The architectures that the images are for, as `kubernetes.io/arch` names them: pods go to nodes of these. Unless given,
    /// this machine's, for which `cargo xtask image` builds
    #[arg(long = "arch", value_name = "ARCH,…", value_delimiter = ',')]
    architectures: Vec<Architecture>,
    /// What the clusters are, `gke`, `eks`, `aks` or `generic`: their Services then ask for the addresses that the blueprint
    /// reserves, and for each `--address`
    #[arg(long)]
    target: Option<Target>,
    /// Where pods of other clusters dial this one's, such as `cluster-b=HOST`, or one pod, as `BLUEPRINT/POD=HOST:PORT`; the
    /// address of each pod's load balancer unless given
    #[arg(long = "address", value_name = "CLUSTER=HOST[:PORT]")]
    addresses: Vec<AddressOf>,
    /// Where this machine asks, the same way; the address of each pod's load balancer unless given
    #[arg(long, value_name = "CLUSTER=HOST[:PORT]")]
    reach: Vec<AddressOf>,
}

impl Clusters {
    /// True where something of it was said.
    pub(crate) fn are_named(&self) -> bool {
        !self.contexts.is_empty()
            || !self.addresses.is_empty()
            || !self.reach.is_empty()
            || self.target.is_some()
            || !self.architectures.is_empty()
            || [&self.image, &self.envoy_image]
                .iter()
                .any(|image| image.is_some())
            || [&self.kubeconfig, &self.pull_secret]
                .iter()
                .any(|file| file.is_some())
    }

    pub(crate) fn destination(&self) -> Destination {
        Destination {
            kubeconfig: self.kubeconfig.clone(),
            contexts: self.contexts.clone(),
            target: self.target,
            image: self.image.clone(),
            envoy_image: self.envoy_image.clone(),
            pull_secret: self.pull_secret.clone(),
            architectures: self.architectures.clone(),
            addresses: self.addresses.clone(),
            reach: self.reach.clone(),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// Blueprints to deploy; the WebSocket one, `fast-international-ferry`, if none is given
    #[arg(value_name = "BLUEPRINT")]
    pub(crate) blueprints: Vec<String>,
    /// Name of the environment; `local` unless given
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) clusters: Clusters,
}

#[derive(Debug, Args)]
pub(crate) struct Undeploy {
    /// Name of the environment; `local` unless given
    #[arg(long)]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Image {
    /// Another name for it, such as one in a registry to push it to
    #[arg(long, value_name = "REGISTRY/NAME:TAG")]
    pub(crate) tag: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LocalUp {
    /// Blueprints to bring up; the WebSocket one, `fast-international-ferry`, if none is given
    #[arg(value_name = "BLUEPRINT")]
    pub(crate) blueprints: Vec<String>,
    /// Name of the environment; `local` unless given
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Where to run: `auto`, `embedded` or `k3d`; `auto` takes k3d where Docker and k3d answer
    #[arg(long)]
    pub(crate) runtime: Option<RuntimeChoice>,
    /// Make it anew, whatever is there: keys, tokens and all that its sinks have stored are lost
    #[arg(long)]
    pub(crate) fresh: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LocalDown {
    /// Name of the environment; `local` unless given
    #[arg(long, conflicts_with = "all")]
    pub(crate) name: Option<String>,
    /// Every environment that no running command owns
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Only this environment; all if not given
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Trigger {
    /// Name of the environment; `local` unless given
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The gateway to use, as `POD` or `BLUEPRINT/POD`; needed where the environment has several
    #[arg(long, value_name = "POD")]
    pub(crate) gateway: Option<String>,
    /// How many messages to send; 1 unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: Option<u32>,
    /// File with one JSON value to send, or `-` for standard input; a small payload of the gateway's own if not given
    #[arg(long, value_name = "FILE")]
    pub(crate) payload: Option<PathBuf>,
    /// Print one JSON object a line instead of a table, as acknowledgements arrive
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Trail {
    /// Name of the environment; `local` unless given
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Check every signature, chain, name and time up to the environment's root; a line for each broken hop, and exit code 1
    #[arg(long)]
    pub(crate) verify: bool,
    /// Verify what a file holds, or `-` for standard input: lines of a sink's `/output`, or of `trail --json`
    #[arg(long, value_name = "FILE", requires = "verify")]
    pub(crate) from: Option<PathBuf>,
    /// PEM file with the root certificates to trust, instead of the environment's; with `--from` no environment is needed
    #[arg(long, value_name = "FILE", requires = "from", conflicts_with = "name")]
    pub(crate) roots: Option<PathBuf>,
    /// Print one JSON object a line instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Only this pod, as `POD` or `BLUEPRINT/POD`; all if not given
    pub(crate) pod: Option<String>,
    /// Go on as lines are written, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only this container: `app`, `envoy` or `wosp`
    #[arg(long)]
    pub(crate) container: Option<Container>,
    /// Name of the environment; `local` unless given
    #[arg(long)]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
#[command(flatten_help = true, disable_help_subcommand = true)]
pub(crate) struct Identity {
    #[command(subcommand)]
    pub(crate) action: IdentityAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IdentityAction {
    /// Show who may speak to whom, and the age and end of every identity, authority and root
    Show(IdentityShow),
    /// Give pods new authorities while messages flow, and wait until they are in force
    Rotate(IdentityRotate),
    /// Write requests for authorities (PKCS #10) that a CA of your own signs; the keys stay in the state folder
    Export(IdentityExport),
    /// Check the certificates that your CA has signed, and put them in force while messages flow
    Import(IdentityImport),
}

#[derive(Debug, Args)]
pub(crate) struct IdentityShow {
    /// Only this pod, as `POD` or `BLUEPRINT/POD`; all if not given
    pub(crate) pod: Option<String>,
    /// Name of the environment; `local` unless given
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct IdentityRotate {
    /// Only this pod, as `POD` or `BLUEPRINT/POD`; all if not given
    #[arg(conflicts_with = "root")]
    pub(crate) pod: Option<String>,
    /// Replace the root too: the new one is trusted first, then signs all authorities, then the old one goes
    #[arg(long)]
    pub(crate) root: bool,
    /// Name of the environment; `local` unless given
    #[arg(long)]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct IdentityExport {
    /// Only these pods, as `POD` or `BLUEPRINT/POD`; all if none is given
    #[arg(value_name = "POD")]
    pub(crate) pods: Vec<String>,
    /// Folder for the requests, one `<blueprint>.<cluster>.<pod>.csr` a pod
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Name of the environment; `local` unless given
    #[arg(long)]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct IdentityImport {
    /// Folder with `root.crt` and one `<blueprint>.<cluster>.<pod>.crt` a pod, PEM
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Name of the environment; `local` unless given
    #[arg(long)]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Sweep {}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Which runtime to check for: `auto`, `embedded`, `k3d` or `existing`; `auto` takes k3d where Docker and k3d answer
    #[arg(long)]
    pub(crate) runtime: Option<RuntimeChoice>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct New {
    /// Name of the blueprint, such as `island-ferry`
    pub(crate) name: String,
    /// How messages are carried: `websocket` or `grpc`
    #[arg(long)]
    pub(crate) protocol: Protocol,
    /// Two clusters or more in travel order, such as `mainland,island,skerry`: the first gets the gateway, the last the sink,
    /// each between them a processor
    #[arg(long, value_delimiter = ',', required = true)]
    pub(crate) clusters: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Render {
    /// Blueprints to render; all under `manifests/` if none is given
    #[arg(value_name = "BLUEPRINT")]
    pub(crate) blueprints: Vec<String>,
    /// Write nothing; list what differs and end with exit code 1 if something does
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Addresses {
    /// Where the clusters are: `gke`, `eks`, `aks` or `generic`
    pub(crate) target: Target,
    /// The blueprint whose pods need addresses
    #[arg(value_name = "BLUEPRINT")]
    pub(crate) blueprint: String,
}

#[derive(Debug, Args)]
pub(crate) struct Bundle {
    /// The blueprint to deploy
    #[arg(value_name = "BLUEPRINT")]
    pub(crate) blueprint: String,
    /// Where the clusters are: `gke`, `eks`, `aks` or `generic`
    #[arg(long)]
    pub(crate) target: Target,
    /// Where pods of other clusters dial this one's: an IP address, which its Service then asks for, or a host name. Without
    /// one, and with none in the blueprint, the scripts find it out when they deploy
    #[arg(long = "address", value_name = "CLUSTER[/POD]=HOST")]
    pub(crate) addresses: Vec<GivenAddress>,
    /// The image with the services, as the nodes pull it
    #[arg(long, value_name = "REGISTRY/NAME:TAG")]
    pub(crate) image: String,
    /// Another image with Envoy
    #[arg(long, value_name = "REGISTRY/NAME:TAG")]
    pub(crate) envoy_image: Option<String>,
    /// A Docker `config.json` with the credentials that the nodes need for the images; those go into the bundle
    #[arg(long, value_name = "FILE")]
    pub(crate) pull_secret: Option<PathBuf>,
    /// The architectures that the images are for, as `kubernetes.io/arch` names them: pods go to nodes of these. Unless given,
    /// this machine's, for which `cargo xtask image` builds
    #[arg(long = "arch", value_name = "ARCH,…", value_delimiter = ',')]
    pub(crate) architectures: Vec<Architecture>,
    /// The folder to write, or the file if it ends with `.tar.gz`; `BLUEPRINT-TARGET` here unless given
    #[arg(long, value_name = "DIR|FILE.tar.gz")]
    pub(crate) out: Option<PathBuf>,
    /// The folder with the root, its key and the pods' authorities, made where missing; beside the bundle, with `.identity`
    /// at the end of its name, unless given. The same folder and arguments make the same bundle
    #[arg(long, value_name = "DIR")]
    pub(crate) identity: Option<PathBuf>,
}
