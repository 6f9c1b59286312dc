//! One pod of a ferry: its state, logs, metrics, sessions and files.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use blueprint::{container::Container, plan};
use futures_util::TryStreamExt as _;
use harness::{
    ops::lifecycle,
    runtime::{self, Follow, clusters},
};
use host::{
    environment::{PodRecord, RuntimeKind},
    http::{Endpoint, Request},
    pods::{PodState, Readiness},
    process::Launch,
    select,
    wait::{Seen, Wait},
};
use messages::{WorkloadName, env};
use tokio::{io::AsyncRead, net::TcpStream};

use super::{Counters, Samples, TunnelSession, ferry::Ferry, sessions::End};

/// Longest wait for an answer that takes no time, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// What of `pod.json` is of use here.
#[derive(serde::Deserialize)]
pub(super) struct PodFile {
    pub(super) http: SocketAddr,
    containers: BTreeMap<Container, Launch>,
}

/// A pod by its name in the blueprint.
#[derive(Clone, Copy, Debug)]
pub struct Pod<'a> {
    pub(super) ferry: &'a Ferry,
    pub(super) pod: &'a str,
}

impl Pod<'_> {
    /// The record of the pod.
    pub fn record(&self) -> anyhow::Result<PodRecord> {
        let environment = self.ferry.environment()?;
        let wanted = format!("{}/{}", self.ferry.blueprint(), self.pod);
        let found = select::pods(&environment.record, Some(&wanted))?;
        Ok(found[0].clone())
    }

    /// Its full name.
    pub fn name(&self) -> anyhow::Result<WorkloadName> {
        Ok(self.record()?.name)
    }

    /// What it is doing at this moment.
    pub async fn state(&self) -> anyhow::Result<PodState> {
        let name = self.name()?;
        let pods = lifecycle::status(&self.ferry.environment()?).await?;
        pods.into_iter()
            .find(|state| state.name == name)
            .context("the pod has no state")
    }

    /// Waits until it says that it is not ready, and what it waits for: proof that a fault is in force.
    pub async fn not_ready(&self) -> anyhow::Result<Vec<String>> {
        Wait::until(format!("{} to notice", self.pod))
            .poll(|| async {
                Ok(match self.state().await?.readiness {
                    Readiness::Waiting(missing) => Seen::Ready(missing),
                    Readiness::Ready => Seen::Waiting("it is ready".into()),
                    Readiness::Elsewhere(place) => Seen::Waiting(format!("it runs {place}")),
                })
            })
            .await
    }

    /// The sessions that have come to it through the tunnel, oldest first.
    pub async fn sessions_to(&self) -> anyhow::Result<Vec<TunnelSession>> {
        self.sessions(End::Server).await
    }

    /// The sessions that it has begun with those downstream, oldest first.
    pub async fn sessions_from(&self) -> anyhow::Result<Vec<TunnelSession>> {
        self.sessions(End::Client).await
    }

    async fn sessions(&self, wanted: End) -> anyhow::Result<Vec<TunnelSession>> {
        let log = self.envoy_log().await?;
        let told = log.iter().filter_map(|line| TunnelSession::of_line(line));
        let mut sessions: Vec<_> = told
            .filter_map(|(end, session)| (end == wanted).then_some(session))
            .collect();
        sessions.sort_by_key(|session| session.began_at);
        Ok(sessions)
    }

    /// What its `app` answers to `GET /ready`, whatever the other containers are: `None` where it is ready.
    pub async fn app_lacks(&self) -> anyhow::Result<Option<String>> {
        let inside = self.ferry.inside().await?;
        let address = inside.pod(self.pod).record()?.local_address;
        let address = address.with_context(|| format!("{} has no address inside", self.pod))?;
        let request = Request::get(address, "/ready").within(PATIENCE);
        let answer = request.send().await?;
        Ok((answer.status != 200).then(|| answer.text()))
    }

    /// How long ago its identity was made, in seconds, by its `wosp`; on every runtime.
    pub async fn identity_age(&self) -> anyhow::Result<f64> {
        const METRIC: &str = "ferry_wosp_identity_age_seconds ";
        let (environment, name) = (self.ferry.environment()?, self.name()?);
        let text = runtime::of(environment.record.runtime)
            .pods()
            .metrics(&environment, &name, Container::Wosp)
            .await?;
        let age = text
            .lines()
            .find_map(|line| line.strip_prefix(METRIC)?.trim().parse().ok());
        age.with_context(|| {
            let pod = self.pod;
            format!("`wosp` of {pod} does not say how old its identity is:\n{text}")
        })
    }

    /// A connection to where its Envoy takes what goes to the only pod downstream.
    pub async fn egress(&self) -> anyhow::Result<Box<dyn AsyncRead + Unpin + Send>> {
        let (environment, record) = (self.ferry.environment()?, self.record()?);
        anyhow::ensure!(
            record.downstreams.len() == 1,
            "{} must have one pod downstream, but has {:?}",
            self.pod,
            record.downstreams
        );
        if environment.record.runtime != RuntimeKind::Embedded {
            let cluster = clusters::connect(&environment, record.name.cluster()).await?;
            let stream = cluster.connect_to(&record.name, plan::FIRST_EGRESS_PORT);
            return Ok(Box::new(stream.await?));
        }
        let file = self.file()?;
        let launch = file.containers.get(&Container::App);
        let downstream = launch.and_then(|app| app.env.get(env::DOWNSTREAM));
        let address = downstream.and_then(|text| text.rsplit_once("://")?.1.parse().ok());
        let address: SocketAddr =
            address.with_context(|| format!("no address downstream: {downstream:?}"))?;
        Ok(Box::new(TcpStream::connect(address).await?))
    }

    /// What its Envoy counts, by its statistics port; on every runtime.
    pub async fn counters(&self) -> anyhow::Result<Samples> {
        self.metrics(Container::Envoy).await
    }

    /// What a container counts; on every runtime.
    pub async fn metrics(&self, container: Container) -> anyhow::Result<Samples> {
        let (environment, name) = (self.ferry.environment()?, self.name()?);
        let runtime = runtime::of(environment.record.runtime);
        let text = runtime
            .pods()
            .metrics(&environment, &name, container)
            .await?;
        Ok(Samples::parse(&text))
    }

    /// The log of a container as it is now; on every runtime.
    pub async fn log(&self, container: Container) -> anyhow::Result<Vec<String>> {
        let (environment, name) = (self.ferry.environment()?, self.name()?);
        let lines = runtime::of(environment.record.runtime)
            .pods()
            .logs(&environment, &name, container, Follow::No)
            .await?;
        lines.try_collect().await
    }

    /// The log of its Envoy, with a line for each session and each refusal; on every runtime.
    pub async fn envoy_log(&self) -> anyhow::Result<Vec<String>> {
        self.log(Container::Envoy).await
    }

    /// The counters of its Envoy, from its admin interface; embedded runtime only.
    pub async fn envoy_counters(&self) -> anyhow::Result<Counters> {
        let answer = self.envoy_admin("/stats?usedonly").await?;
        Ok(Counters::parse(&answer))
    }

    /// What its Envoy answers at its admin interface.
    async fn envoy_admin(&self, path: &str) -> anyhow::Result<String> {
        let socket = self.folder()?.join("admin.sock");
        let request = Request::get(Endpoint::Unix(socket), path).within(PATIENCE);
        let answer = request.send().await?;
        anyhow::ensure!(
            answer.status == 200,
            "Envoy of {} answers {path} with {}",
            self.pod,
            answer.status
        );
        Ok(answer.text())
    }

    /// The working folder of its processes; embedded runtime only.
    pub fn folder(&self) -> anyhow::Result<PathBuf> {
        Ok(self.ferry.environment()?.layout().pod(&self.record()?.name))
    }

    pub(super) fn file(&self) -> anyhow::Result<PodFile> {
        let path = self.folder()?.join("pod.json");
        let read = || anyhow::Ok(serde_json::from_slice(&std::fs::read(&path)?)?);
        read().with_context(|| format!("cannot read `{}`", path.display()))
    }
}
