//! Runs a command on an environment of two k3d clusters and removes it, whatever the command comes
//! to: `on_k3d COMMAND`, a line for `sh`, with `FERRY_ENVIRONMENT` set.

use std::{
    path::PathBuf,
    process::{ExitCode, ExitStatus},
};

use anyhow::{Context as _, ensure};
use blueprint::{failure::Failure, plan::Ports};
use cluster::k3d::ENVIRONMENT_LABEL;
use e2e::testing::{ENVIRONMENT_VARIABLE, QUICK_IDENTITIES, show};
use harness::{
    ops::run::Run,
    proof,
    runtime::request::{Lifetime, OnFailure, PublicAddress, State, UpRequest},
};
use host::{
    binaries::{Profile, is_of_the_outer_cargo},
    docker,
    environment::{Environment, Name, RuntimeKind, STATE_VARIABLE, Store, workspace_root},
    manifests,
    timeline::Timeline,
};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

/// Label of containers that tests start outside the clusters: the name of the environment.
const STRANGER_LABEL: &str = "ferry.stranger";

/// The blueprints that need two clusters, by both protocols.
const BLUEPRINTS: [&str; 2] = ["fast-international-ferry", "international-ferry"];

#[tokio::main]
async fn main() -> ExitCode {
    let Some(command) = std::env::args().nth(1) else {
        show("usage: on_k3d COMMAND");
        return ExitCode::from(2);
    };
    match on_environment(&command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            show(&format!("error: {error:#}"));
            ExitCode::from(Failure::exit_code(&error))
        }
    }
}

/// Owns the environment; in the state root of every command, so that `sweep` finds what SIGKILL leaves.
async fn on_environment(command: &str) -> anyhow::Result<()> {
    let users_files = users_files();
    let store = Store::find()?;
    let mut run = Run::new(store.clone(), Name::unique("test")?, Timeline::default());
    let outcome = tokio::select! {
        outcome = run_all(&mut run, command) => outcome,
        signal = ended() => Err(signal.map_or_else(Into::into, |signal| anyhow::anyhow!("ended by {signal}"))),
    };
    let remains = match store.load(run.name()) {
        Ok(environment) => Some(Remains::of(&environment).await?),
        Err(_) => None,
    };
    let mut problems = vec![];
    if let Err(error) = outcome {
        if let Ok(Some(folder)) = run.evidence(&error).await {
            show(&format!("evidence: `{}`", folder.display()));
        }
        problems.push(error);
    }
    // What a failure shows is kept, as of every test.
    let state = match problems.is_empty() {
        true => State::Remove,
        false => State::Keep,
    };
    if let Err(error) = run.end(state).await {
        problems.push(error.context("the environment cannot be removed"));
    }
    if let Some(remains) = remains {
        if problems.is_empty() && remains.volumes.is_empty() {
            problems.push(anyhow::anyhow!("the nodes must have had volumes"));
        }
        problems.extend(
            remains
                .left(state)
                .await?
                .into_iter()
                .map(anyhow::Error::msg),
        );
    }
    if self::users_files() != users_files {
        problems.push(anyhow::anyhow!("a kubeconfig of the user's was changed"));
    }
    let mut problems = problems.into_iter();
    match problems.next() {
        None => Ok(()),
        Some(first) => Err(problems.fold(first, |first, next| first.context(format!("{next:#}")))),
    }
}

async fn run_all(run: &mut Run, command: &str) -> anyhow::Result<()> {
    let environment = run.up(request(run.name())?).await?;
    for blueprint in BLUEPRINTS {
        proof::auto_trigger(&environment, blueprint, &Timeline::default()).await?;
    }
    let status = run_one(run, command).await?;
    ensure!(status.success(), "`{command}` failed: {status}");
    Ok(())
}

/// Runs a line of `sh`, which ends with this function, dropped or not.
async fn run_one(run: &Run, line: &str) -> anyhow::Result<ExitStatus> {
    /// In a group of its own, so that Ctrl-C reaches this process alone, which ends the group.
    struct Group(Child);
    impl Drop for Group {
        fn drop(&mut self) {
            let id = self
                .0
                .id()
                .and_then(|id| Pid::from_raw(id.try_into().ok()?));
            if let Some(id) = id {
                let _ = kill_process_group(id, Signal::KILL);
            }
        }
    }
    let mut command = Command::new("sh");
    command
        .args(["-euc", line])
        .env(ENVIRONMENT_VARIABLE, run.name().as_str())
        .env(STATE_VARIABLE, run.store().root())
        .stdin(std::process::Stdio::null())
        .process_group(0);
    // A build must not see what the build of this program was given, or it would build again.
    for (name, _) in std::env::vars().filter(|(name, _)| is_of_the_outer_cargo(name)) {
        command.env_remove(name);
    }
    let mut group = Group(command.spawn().context("cannot start `sh`")?);
    Ok(group.0.wait().await?)
}

/// Waits until a signal asks this process to end.
async fn ended() -> std::io::Result<&'static str> {
    let [mut interrupt, mut terminate, mut hang_up] = [
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    ];
    Ok(tokio::select! {
        _ = interrupt.recv() => "Ctrl-C",
        _ = terminate.recv() => "SIGTERM",
        _ = hang_up.recv() => "SIGHUP",
    })
}

fn request(name: &Name) -> anyhow::Result<UpRequest> {
    let manifests = workspace_root()?.join("manifests");
    let settings = QUICK_IDENTITIES.iter();
    Ok(UpRequest {
        name: name.clone(),
        runtime: RuntimeKind::K3d,
        blueprints: manifests::select(&manifests, &BLUEPRINTS.map(str::to_owned))?,
        ports: Ports::Spread,
        public: PublicAddress::OwnNetwork,
        lifetime: Lifetime::Command,
        on_failure: OnFailure::LeaveToCaller,
        settings: settings
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        existing: None,
        profile: Profile::Dev,
    })
}

/// What an environment has on this machine.
struct Remains {
    folder: PathBuf,
    labels: Vec<String>,
    clusters: Vec<String>,
    volumes: Vec<String>,
}

impl Remains {
    async fn of(environment: &Environment) -> anyhow::Result<Self> {
        let name = environment.name();
        let label = format!("{ENVIRONMENT_LABEL}={name}");
        let containers = docker::containers(std::slice::from_ref(&label)).await?;
        let clusters = environment.record.clusters.iter();
        Ok(Self {
            folder: environment.layout().root().into(),
            labels: vec![label, format!("{STRANGER_LABEL}={name}")],
            clusters: clusters.map(|cluster| cluster.reference.clone()).collect(),
            volumes: containers
                .into_iter()
                .flat_map(|node| node.volumes)
                .collect(),
        })
    }

    /// A sentence for each thing that is still there; files may be, unless they are removed.
    async fn left(&self, state: State) -> anyhow::Result<Vec<String>> {
        let mut left = vec![];
        let of_cluster = self
            .clusters
            .iter()
            .map(|name| format!("k3d.cluster={name}"));
        for label in self.labels.iter().cloned().chain(of_cluster) {
            for container in docker::containers(&[label]).await? {
                left.push(format!("container {} is left", container.name));
            }
        }
        let ours = |name: &str| self.clusters.iter().any(|cluster| name.contains(cluster));
        for network in docker::networks().await? {
            if ours(&network.name) {
                left.push(format!("network {} is left", network.name));
            }
        }
        for volume in docker::volumes().await? {
            if ours(&volume) || self.volumes.contains(&volume) {
                left.push(format!("volume {volume} is left"));
            }
        }
        if state == State::Remove && self.folder.exists() {
            left.push(format!("folder `{}` is left", self.folder.display()));
        }
        Ok(left)
    }
}

/// What the user's own kubeconfig and k3d's folder hold.
fn users_files() -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let named = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let mut files: Vec<_> = std::env::split_paths(&named).collect();
    files.push(home.join(".kube/config"));
    let entries = std::fs::read_dir(home.join(".config/k3d"));
    let entries = entries.into_iter().flatten().flatten();
    files.extend(entries.map(|entry| entry.path()));
    let read = |path: PathBuf| (path.clone(), std::fs::read(path).ok());
    files.into_iter().map(read).collect()
}
