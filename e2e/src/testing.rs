//! For tests: a body between set-up and evidence, and check functions. Not for the command line.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use futures_util::FutureExt as _;
use messages::{Ack, Outcome, Payload, WorkloadName};
use tokio::sync::Semaphore;

use crate::{
    blueprint::{self, Blueprint},
    environment::{Environment, Name, PodRecord, RuntimeKind, Store, workspace_root},
    failure::Failure,
    http::{Endpoint, Request},
    pinhole::{Pinhole, Trigger},
    plan::Ports,
    process::tail,
    proof::{self, Verdict},
    run::Run,
    runtime::{self, Container, Ending, Lifetime, OnFailure, PublicAddress, State, UpRequest},
    select,
    timeline::Timeline,
    trail::StoredMessage,
};

/// Names an environment that is up, for tests to attach to instead of making their own.
pub const ENVIRONMENT_VARIABLE: &str = "FERRY_ENVIRONMENT";

/// Environments that are up at once: a message needs four Envoys' turns, and a laptop has two processors.
const AT_ONCE: usize = 2;

static TURNS: Semaphore = Semaphore::const_new(AT_ONCE);

/// Runs `body` on an environment with the blueprint of this name: the one that `FERRY_ENVIRONMENT` names, or one that is
/// made for it and removed after it, also when the body panics. After a failure there is evidence in the error.
pub async fn with_environment<B, F>(blueprint: &str, body: B) -> anyhow::Result<()>
where
    B: FnOnce(Ferry) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    Setup::of(blueprint).run(body).await
}

/// What the environment of a test is like, where the default does not do.
#[derive(Clone, Debug)]
pub struct Setup {
    blueprint: Source,
    settings: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
enum Source {
    Named(String),
    Parsed(Box<Blueprint>),
}

impl Setup {
    /// A blueprint under `manifests/`.
    pub fn of(blueprint: &str) -> Self {
        Self::new(Source::Named(blueprint.into()))
    }

    /// A blueprint of the test's own; never attached to.
    pub fn with(blueprint: Blueprint) -> Self {
        Self::new(Source::Parsed(Box::new(blueprint)))
    }

    fn new(blueprint: Source) -> Self {
        Self {
            blueprint,
            settings: BTreeMap::new(),
        }
    }

    /// Sets a variable of [`messages::env`] for every pod. An environment that is attached to may have another value.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.into(), value.into());
        self
    }

    /// See [`with_environment`].
    pub async fn run<B, F>(self, body: B) -> anyhow::Result<()>
    where
        B: FnOnce(Ferry) -> F,
        F: Future<Output = anyhow::Result<()>>,
    {
        let store = Store::find()?;
        match (std::env::var(ENVIRONMENT_VARIABLE), self.blueprint) {
            (Ok(name), Source::Named(blueprint)) if !name.is_empty() => {
                let name: Name = name.parse()?;
                store.load(&name)?;
                body(Ferry::new(store, name, blueprint, Origin::Attached)).await
            }
            (_, source) => {
                let blueprint = match source {
                    Source::Parsed(blueprint) => *blueprint,
                    Source::Named(name) => {
                        let path = blueprint::find(&workspace_root()?.join("manifests"), &name)?;
                        Blueprint::load(path)?
                    }
                };
                on_own_environment(store, blueprint, self.settings, body).await
            }
        }
    }
}

async fn on_own_environment<B, F>(
    store: Store,
    blueprint: Blueprint,
    settings: BTreeMap<String, String>,
    body: B,
) -> anyhow::Result<()>
where
    B: FnOnce(Ferry) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let _turn = TURNS.acquire().await?;
    let name = Name::unique("test")?;
    let ferry = Ferry::new(
        store.clone(),
        name.clone(),
        blueprint.name.clone(),
        Origin::Made,
    );
    let mut run = Run::new(store, name.clone(), Timeline::silent());
    let request = UpRequest {
        name,
        runtime: RuntimeKind::Embedded,
        blueprints: vec![blueprint],
        ports: Ports::Spread,
        public: PublicAddress::OwnNetwork,
        lifetime: Lifetime::Command,
        on_failure: OnFailure::Keep,
        settings,
    };
    let work = async {
        run.up(request).await?;
        body(ferry.clone()).await
    };
    // A panic of the body is its verdict; evidence and clean-up come all the same.
    let outcome = std::panic::AssertUnwindSafe(work).catch_unwind().await;
    let failure = match &outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{error:#}")),
        Err(_) => Some("the test panicked".into()),
    };
    let evidence = match failure {
        None => None,
        Some(failure) => Some(collect(&run, failure).await),
    };
    let state = if evidence.is_some() {
        State::Keep
    } else {
        State::Remove
    };
    let ended = run.end(state).await;
    match (outcome, evidence) {
        (Err(panic), Some(evidence)) => {
            show(&format!("{evidence}\n{}", problem(ended)));
            std::panic::resume_unwind(panic)
        }
        (Err(panic), None) => std::panic::resume_unwind(panic),
        (Ok(Err(error)), evidence) => Err(error.context(format!(
            "{}\n{}the causes",
            evidence.unwrap_or_default(),
            problem(ended)
        ))),
        (Ok(Ok(())), _) => {
            ended.context("the test passed, but its environment could not be removed")
        }
    }
}

async fn collect(run: &Run, failure: String) -> String {
    match run.evidence(&anyhow::anyhow!(failure)).await {
        Ok(Some(folder)) => {
            let file = folder.join(crate::run::EVIDENCE);
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            format!("{}\nevidence: `{}`", tail(&text, 120), folder.display())
        }
        Ok(None) => "nothing was made that could show why".into(),
        Err(error) => format!("the evidence could not be collected: {error:#}"),
    }
}

fn problem(ended: anyhow::Result<()>) -> String {
    match ended {
        Ok(()) => String::new(),
        Err(error) => format!("clean-up failed too: {error:#}\n"),
    }
}

/// Says something to whoever runs the tests, even while their output is captured.
pub fn show(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
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
}

impl Ferry {
    fn new(store: Store, name: Name, blueprint: String, origin: Origin) -> Self {
        Self(Arc::new(Inner {
            store,
            name,
            blueprint,
            origin,
        }))
    }

    pub fn blueprint(&self) -> &str {
        &self.0.blueprint
    }

    /// The environment as it is recorded at this moment.
    pub fn environment(&self) -> anyhow::Result<Environment> {
        self.0.store.load(&self.0.name)
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

    /// Starts it again, and waits until its pod is ready.
    pub async fn start(&self, pod: &str, container: Container) -> anyhow::Result<()> {
        let (mut environment, name) = (self.environment()?, self.pod(pod)?.name);
        let silent = Timeline::silent();
        runtime::start_container(&self.0.store, &mut environment, &name, container, &silent).await
    }

    /// The counters of a pod's Envoy, from its admin interface; embedded runtime only.
    pub async fn envoy_counters(&self, pod: &str) -> anyhow::Result<Counters> {
        let answer = self.envoy_admin(pod, "/stats?usedonly").await?;
        Ok(Counters::parse(&answer))
    }

    /// What a pod's Envoy answers at its admin interface.
    pub async fn envoy_admin(&self, pod: &str, path: &str) -> anyhow::Result<String> {
        let socket = self.pod_folder(pod)?.join("admin.sock");
        let answer = Request::get(Endpoint::Unix(socket), path).send().await?;
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

/// Envoy's counters and gauges by name.
#[derive(Clone, Debug, Default)]
pub struct Counters(BTreeMap<String, u64>);

impl Counters {
    fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// The sum of those whose name starts and ends so; 0 where there is none, as Envoy leaves out what never counted.
    pub fn sum(&self, start: &str, end: &str) -> u64 {
        let matching = self
            .0
            .iter()
            .filter(|(name, _)| name.starts_with(start) && name.ends_with(end));
        matching.map(|(_, value)| value).sum()
    }

    /// Those whose name holds `part`, for the message of a failed check.
    pub fn with(&self, part: &str) -> BTreeMap<&str, u64> {
        let matching = self.0.iter().filter(|(name, _)| name.contains(part));
        matching
            .map(|(name, value)| (name.as_str(), *value))
            .collect()
    }
}

/// `count` distinct payloads.
pub fn payloads(count: usize) -> Vec<Payload> {
    (1..=count)
        .map(|number| payload(&format!(r#"{{"number": {number}, "of":  {count}}}"#)))
        .collect()
}

/// The payload of this JSON text.
///
/// # Panics
///
/// Where it is no JSON.
#[track_caller]
pub fn payload(text: &str) -> Payload {
    match Payload::from_text(text.into()) {
        Ok(payload) => payload,
        Err(error) => panic!("{error}: {text}"),
    }
}

/// A JSON string that is `bytes` long as JSON text.
#[track_caller]
pub fn payload_of(bytes: usize) -> Payload {
    assert!(bytes >= 2, "a JSON string has two quotation marks");
    payload(&format!("\"{}\"", "x".repeat(bytes - 2)))
}

/// All messages must have been delivered, `expected` of them.
#[track_caller]
pub fn assert_delivered(verdict: &Verdict, expected: u64) {
    assert_eq!(
        (verdict.delivered, verdict.expected),
        (expected, expected),
        "every message must be acknowledged by the far end: {verdict:#?}"
    );
}

/// Every trail must name these (cluster, pod) in travel order, by the pods' names in the blueprint.
#[track_caller]
pub fn assert_route(verdict: &Verdict, expected: &[(&str, &str)]) {
    let crossings: Vec<_> = verdict
        .sinks
        .iter()
        .flat_map(|sink| &sink.proof.messages)
        .collect();
    assert!(
        !crossings.is_empty(),
        "messages must have arrived: {verdict:#?}"
    );
    for crossing in crossings {
        let fits = crossing.route.len() == expected.len()
            && crossing
                .route
                .iter()
                .zip(expected)
                .all(|(place, (cluster, pod))| {
                    // The pod's own name is the deployment's with a suffix.
                    place.cluster == *cluster && place.pod.starts_with(&format!("{pod}-"))
                });
        assert!(
            fits,
            "the trail must name {expected:?} in travel order: {}",
            crossing.route_text()
        );
    }
}

/// All acknowledgements must say that the message was delivered, `expected` of them.
#[track_caller]
pub fn assert_all_delivered(acks: &[Ack], expected: usize) {
    let mut refused = String::new();
    for ack in acks {
        if let Outcome::Rejected { reason } = &ack.outcome {
            let _ = writeln!(refused, "{}: {reason}", ack.id);
        }
    }
    assert!(
        refused.is_empty() && acks.len() == expected,
        "{expected} messages must be delivered; {} have an acknowledgement, refused are:\n{refused}",
        acks.len()
    );
}

/// The only acknowledgement must be a rejection whose reason holds `reason`.
#[track_caller]
pub fn assert_rejected(acks: &[Ack], reason: &str) {
    match acks {
        [
            Ack {
                outcome: Outcome::Rejected { reason: actual },
                ..
            },
        ] if actual.contains(reason) => {}
        other => panic!("one rejection with `{reason}` must come, not {other:#?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_and_summed() {
        let counters = Counters::parse(
            "listener.a.ssl.handshake: 3\nlistener.b.ssl.handshake: 4\nserver.version: x\nh: P0(nan,1)\n",
        );
        assert_eq!(counters.sum("listener.", ".ssl.handshake"), 7);
        assert_eq!(counters.sum("cluster.", ".ssl.handshake"), 0);
        assert_eq!(counters.with("listener.a").len(), 1);
    }

    #[test]
    fn payloads_have_the_size_that_is_asked_for() {
        assert_eq!(payload_of(1024).len(), 1024);
        let all = payloads(3);
        assert_ne!(all[0], all[1]);
    }
}
