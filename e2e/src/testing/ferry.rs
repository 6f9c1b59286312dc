use std::{
    collections::BTreeMap,
    net::SocketAddr,
    panic::{AssertUnwindSafe, resume_unwind},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use blueprint::{container::Container, failure::Failure, plan};
use futures_util::{FutureExt as _, TryStreamExt as _};
use harness::{
    pinhole::{Acks, Pinhole, Trigger},
    proof::{self, Verdict},
    runtime::{self, Ending, Follow, clusters},
    trail::StoredMessage,
};
use host::{
    environment::{Environment, Name, PodRecord, RuntimeKind, Store},
    http::{Endpoint, Request},
    pods::{PodState, Readiness},
    process::Launch,
    select,
    timeline::Timeline,
    wait::{Seen, Wait},
};
use messages::{Ack, Payload, WorkloadName, env};
use tokio::{io::AsyncRead, net::TcpStream};

use super::{
    Counters, Samples, TunnelSession,
    inside::{Forward, Inside},
    sessions::End,
};

/// Longest wait for an answer that comes at once, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// What of `pod.json` is of use here.
#[derive(serde::Deserialize)]
struct PodFile {
    http: SocketAddr,
    containers: BTreeMap<Container, Launch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Made,
    Attached,
}

/// One blueprint in an environment that is up.
#[derive(Clone, Debug)]
pub struct Ferry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    name: Name,
    blueprint: String,
    origin: Origin,
    inside: Option<Inside>,
}

impl Ferry {
    pub(super) fn new(store: Store, name: Name, blueprint: String, origin: Origin) -> Self {
        Self(Arc::new(Inner {
            store,
            name,
            blueprint,
            origin,
            inside: None,
        }))
    }

    pub fn blueprint(&self) -> &str {
        &self.0.blueprint
    }

    /// The environment as it is recorded at this moment.
    pub fn environment(&self) -> anyhow::Result<Environment> {
        let mut environment = self.0.store.load(&self.0.name)?;
        if let Some(inside) = &self.0.inside {
            for pod in &mut environment.record.pods {
                pod.local_address = inside.address(&pod.name);
                // The app itself speaks no TLS.
                pod.roots_file = None;
            }
        }
        Ok(environment)
    }

    /// The same blueprint, its pods asked at their `app` itself: past their Envoys, which may be gone, and past what is in
    /// front of a pod on a cluster, which gives one that is not ready no new connection.
    pub async fn inside(&self) -> anyhow::Result<Self> {
        if self.0.inside.is_some() {
            return Ok(self.clone());
        }
        let environment = self.environment()?;
        let mut inside = Inside::default();
        for pod in environment.record.pods_of(self.blueprint()) {
            match environment.record.runtime {
                RuntimeKind::Embedded => inside.add(&pod.name, self.pod_file(pod.name.pod())?.http),
                RuntimeKind::K3d | RuntimeKind::Existing => {
                    let port = plan::HTTP_PORT;
                    inside.add_forward(&pod.name, forward(&environment, &pod.name, port).await?);
                }
            }
        }
        Ok(Self(Arc::new(Inner {
            store: self.0.store.clone(),
            name: self.0.name.clone(),
            blueprint: self.0.blueprint.clone(),
            origin: self.0.origin,
            inside: Some(inside),
        })))
    }

    /// The record of a pod of the blueprint.
    pub fn pod(&self, pod: &str) -> anyhow::Result<PodRecord> {
        let environment = self.environment()?;
        let wanted = format!("{}/{pod}", self.blueprint());
        let found = select::pods(&environment.record, Some(&wanted))?;
        Ok(found[0].clone())
    }

    /// The blueprint's only gateway.
    pub fn gateway(&self) -> anyhow::Result<PodRecord> {
        self.only(select::gateways(
            &self.environment()?.record,
            self.blueprint(),
        ))
    }

    /// The blueprint's only sink.
    pub fn sink(&self) -> anyhow::Result<PodRecord> {
        self.only(select::sinks(&self.environment()?.record, self.blueprint()))
    }

    fn only<'a>(&self, mut pods: impl Iterator<Item = &'a PodRecord>) -> anyhow::Result<PodRecord> {
        match (pods.next(), pods.next()) {
            (Some(pod), None) => Ok(pod.clone()),
            _ => Err(Failure::usage(format!(
                "`{}` has not exactly one such pod",
                self.blueprint()
            ))
            .into()),
        }
    }

    /// Proves the messages that the blueprint sends by itself. In an environment that was attached to, which has seen
    /// other messages since, as many fresh ones.
    pub async fn prove(&self) -> anyhow::Result<Verdict> {
        let environment = self.environment()?;
        match self.0.origin {
            Origin::Made => {
                proof::auto_trigger(&environment, self.blueprint(), &Timeline::silent()).await
            }
            Origin::Attached => {
                proof::again(&environment, self.blueprint(), &Timeline::silent()).await
            }
        }
    }

    /// Sends each payload once through the gateway, and proves that it arrived once over each route, in order, intact.
    pub async fn deliver(&self, payloads: Vec<Payload>) -> anyhow::Result<Verdict> {
        let environment = self.environment()?;
        proof::trigger(
            &environment,
            &self.gateway()?,
            payloads,
            &Timeline::silent(),
        )
        .await
    }

    /// Sends without checking anything; the acknowledgements.
    pub async fn trigger(&self, trigger: &Trigger) -> anyhow::Result<Vec<Ack>> {
        Pinhole::of(&self.gateway()?)?.trigger_all(trigger).await
    }

    /// The same; its acknowledgements come as they arrive.
    pub async fn begin(&self, trigger: &Trigger) -> anyhow::Result<Acks> {
        Pinhole::of(&self.gateway()?)?.trigger(trigger).await
    }

    /// What a pod is doing at this moment.
    pub async fn state(&self, pod: &str) -> anyhow::Result<PodState> {
        let name = self.name(pod)?;
        let pods = runtime::status(&self.environment()?).await?;
        pods.into_iter()
            .find(|state| state.name == name)
            .context("the pod has no state")
    }

    /// The sessions that have come to a pod through the tunnel, oldest first.
    pub async fn sessions_to(&self, pod: &str) -> anyhow::Result<Vec<TunnelSession>> {
        self.sessions(pod, End::Server).await
    }

    /// The sessions that a pod has begun with those downstream, oldest first.
    pub async fn sessions_from(&self, pod: &str) -> anyhow::Result<Vec<TunnelSession>> {
        self.sessions(pod, End::Client).await
    }

    async fn sessions(&self, pod: &str, wanted: End) -> anyhow::Result<Vec<TunnelSession>> {
        let log = self.envoy_log(pod).await?;
        let told = log.iter().filter_map(|line| TunnelSession::of_line(line));
        let mut sessions: Vec<_> = told
            .filter_map(|(end, session)| (end == wanted).then_some(session))
            .collect();
        sessions.sort_by_key(|session| session.began_at);
        Ok(sessions)
    }

    /// What a pod's `app` answers to `GET /ready`, whatever the other containers are: `None` where it is ready.
    pub async fn app_lacks(&self, pod: &str) -> anyhow::Result<Option<String>> {
        let inside = self.inside().await?;
        let address = inside.pod(pod)?.local_address;
        let address = address.with_context(|| format!("{pod} has no address inside"))?;
        let request = Request::get(address, "/ready").within(PATIENCE);
        let answer = request.send().await?;
        Ok((answer.status != 200).then(|| answer.text()))
    }

    /// How long ago a pod's identity was made, in seconds, by its `wosp`; on every runtime.
    pub async fn identity_age(&self, pod: &str) -> anyhow::Result<f64> {
        const METRIC: &str = "ferry_wosp_identity_age_seconds ";
        let (environment, name) = (self.environment()?, self.name(pod)?);
        let text = runtime::metrics(&environment, &name, Container::Wosp).await?;
        let age = text
            .lines()
            .find_map(|line| line.strip_prefix(METRIC)?.trim().parse().ok());
        age.with_context(|| {
            format!("`wosp` of {pod} does not say how old its identity is:\n{text}")
        })
    }

    /// A connection to where a pod's Envoy takes what goes to the only pod downstream.
    pub async fn egress(&self, pod: &str) -> anyhow::Result<Box<dyn AsyncRead + Unpin + Send>> {
        let (environment, record) = (self.environment()?, self.pod(pod)?);
        anyhow::ensure!(
            record.downstreams.len() == 1,
            "{pod} must have one pod downstream, but has {:?}",
            record.downstreams
        );
        if environment.record.runtime != RuntimeKind::Embedded {
            let cluster = clusters::connect(&environment, record.name.cluster()).await?;
            let stream = cluster.connect_to(&record.name, plan::FIRST_EGRESS_PORT);
            return Ok(Box::new(stream.await?));
        }
        let file = self.pod_file(pod)?;
        let launch = file.containers.get(&Container::App);
        let downstream = launch.and_then(|app| app.env.get(env::DOWNSTREAM));
        let address = downstream.and_then(|text| text.rsplit_once("://")?.1.parse().ok());
        let address: SocketAddr =
            address.with_context(|| format!("no address downstream: {downstream:?}"))?;
        Ok(Box::new(TcpStream::connect(address).await?))
    }

    fn pod_file(&self, pod: &str) -> anyhow::Result<PodFile> {
        let path = self.pod_folder(pod)?.join("pod.json");
        let read = || anyhow::Ok(serde_json::from_slice(&std::fs::read(&path)?)?);
        read().with_context(|| format!("cannot read `{}`", path.display()))
    }

    /// Waits until a pod says that it is not ready, and what it waits for: proof that a fault is in force.
    pub async fn not_ready(&self, pod: &str) -> anyhow::Result<Vec<String>> {
        Wait::until(format!("{pod} to notice"))
            .poll(|| async {
                Ok(match self.state(pod).await?.readiness {
                    Readiness::Waiting(missing) => Seen::Ready(missing),
                    Readiness::Ready => Seen::Waiting("it is ready".into()),
                    Readiness::Elsewhere(place) => Seen::Waiting(format!("it runs {place}")),
                })
            })
            .await
    }

    /// The index of the last message that the sink has stored; 0 where there is none.
    pub async fn last_index(&self) -> anyhow::Result<u64> {
        Pinhole::of(&self.sink()?)?.last_index().await
    }

    /// What the sink has stored after the message of index `after`.
    pub async fn output(&self, after: u64) -> anyhow::Result<Vec<StoredMessage>> {
        Pinhole::of(&self.sink()?)?.output(after).await
    }

    /// Ends a container.
    pub async fn stop(
        &self,
        pod: &str,
        container: Container,
        ending: Ending,
    ) -> anyhow::Result<()> {
        let (mut environment, name) = (self.environment()?, self.pod(pod)?.name);
        let silent = Timeline::silent();
        runtime::stop_container(
            &self.0.store,
            &mut environment,
            &name,
            container,
            ending,
            &silent,
        )
        .await
    }

    /// Starts it again, and waits until its pod is ready; a gateway that sends by itself at each start, until that is over.
    pub async fn start(&self, pod: &str, container: Container) -> anyhow::Result<()> {
        let (mut environment, pod) = (self.environment()?, self.pod(pod)?);
        let before = proof::reports(&environment, &pod).await?.len();
        let silent = Timeline::silent();
        let store = &self.0.store;
        runtime::start_container(store, &mut environment, &pod.name, container, &silent).await?;
        runtime::wait_ready(&environment, &pod.name, &silent).await?;
        if container == Container::App {
            self.sent_by_itself(&environment, &pod, before).await?;
        }
        Ok(())
    }

    /// Does `work` while a container of a pod is away, then brings it back, whatever came of `work`, and waits until every
    /// pod of the blueprint is ready. Away is what lasts on the runtime: ended, or, where a kubelet would start it again,
    /// frozen as one that hangs.
    pub async fn without<T>(
        &self,
        pod: &str,
        container: Container,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let (environment, name) = (self.environment()?, self.name(pod)?);
        let ends = environment.record.runtime == RuntimeKind::Embedded;
        if ends {
            self.stop(pod, container, Ending::Abrupt).await?;
        } else {
            runtime::freeze(&environment, &name, container).await?;
        }
        let outcome = AssertUnwindSafe(work).catch_unwind().await;
        let back = if ends {
            self.start(pod, container).await
        } else {
            runtime::thaw(&environment, &name, container).await
        };
        let value = match outcome {
            Ok(result) => result?,
            Err(panic) => resume_unwind(panic),
        };
        back?;
        // What was started again is recorded anew.
        let environment = self.environment()?;
        for pod in environment.record.pods_of(self.blueprint()) {
            runtime::wait_ready(&environment, &pod.name, &Timeline::silent()).await?;
        }
        Ok(value)
    }

    /// Ends a pod's `app` with time to drain and starts it again, on clusters in another pod; waits until it is ready, and
    /// what a gateway sends by itself at each start is over.
    pub async fn restart(&self, pod: &str) -> anyhow::Result<()> {
        let (mut environment, pod) = (self.environment()?, self.pod(pod)?);
        // The log of another pod begins anew.
        let before = match environment.record.runtime {
            RuntimeKind::Embedded => proof::reports(&environment, &pod).await?.len(),
            RuntimeKind::K3d | RuntimeKind::Existing => 0,
        };
        let silent = Timeline::silent();
        runtime::restart(&self.0.store, &mut environment, &pod.name, &silent).await?;
        self.sent_by_itself(&environment, &pod, before).await
    }

    async fn sent_by_itself(
        &self,
        environment: &Environment,
        pod: &PodRecord,
        before: usize,
    ) -> anyhow::Result<()> {
        if pod.auto_trigger > 0 {
            let step = Timeline::silent().step("auto-trigger");
            proof::wait_for_report(environment, pod, before, &step).await?;
            step.done();
        }
        Ok(())
    }

    /// What a pod's Envoy counts, by its statistics port; on every runtime.
    pub async fn counters(&self, pod: &str) -> anyhow::Result<Samples> {
        self.metrics(pod, Container::Envoy).await
    }

    /// What a container counts; on every runtime.
    pub async fn metrics(&self, pod: &str, container: Container) -> anyhow::Result<Samples> {
        let text = runtime::metrics(&self.environment()?, &self.name(pod)?, container).await?;
        Ok(Samples::parse(&text))
    }

    /// The log of a container as it is now; on every runtime.
    pub async fn log(&self, pod: &str, container: Container) -> anyhow::Result<Vec<String>> {
        let (environment, name) = (self.environment()?, self.name(pod)?);
        let lines = runtime::logs(&environment, &name, container, Follow::No).await?;
        lines.try_collect().await
    }

    /// The log of a pod's Envoy, with a line for each session and each refusal; on every runtime.
    pub async fn envoy_log(&self, pod: &str) -> anyhow::Result<Vec<String>> {
        self.log(pod, Container::Envoy).await
    }

    /// The counters of a pod's Envoy, from its admin interface; embedded runtime only.
    pub async fn envoy_counters(&self, pod: &str) -> anyhow::Result<Counters> {
        let answer = self.envoy_admin(pod, "/stats?usedonly").await?;
        Ok(Counters::parse(&answer))
    }

    /// What a pod's Envoy answers at its admin interface.
    pub async fn envoy_admin(&self, pod: &str, path: &str) -> anyhow::Result<String> {
        let socket = self.pod_folder(pod)?.join("admin.sock");
        let request = Request::get(Endpoint::Unix(socket), path).within(PATIENCE);
        let answer = request.send().await?;
        anyhow::ensure!(
            answer.status == 200,
            "Envoy of {pod} answers {path} with {}",
            answer.status
        );
        Ok(answer.text())
    }

    /// The working folder of a pod's processes; embedded runtime only.
    pub fn pod_folder(&self, pod: &str) -> anyhow::Result<PathBuf> {
        Ok(self.environment()?.layout().pod(&self.pod(pod)?.name))
    }

    /// The full name of a pod.
    pub fn name(&self, pod: &str) -> anyhow::Result<WorkloadName> {
        Ok(self.pod(pod)?.name)
    }
}

/// A port of this machine that leads to one of a pod on a cluster.
async fn forward(
    environment: &Environment,
    pod: &WorkloadName,
    port: u16,
) -> anyhow::Result<Forward> {
    let cluster = clusters::connect(environment, pod.cluster()).await?;
    Ok(Forward::to(cluster, pod.clone(), port).await?)
}
