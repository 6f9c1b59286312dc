//! Test library: runs a body between set-up and evidence, and has check functions. Not for the
//! command line.

mod cases;
mod check;
mod counters;
mod faults;
mod ferry;
mod helpers;
mod inside;
mod metrics;
mod pod;
mod sessions;
mod settings;
mod traffic;
mod turns;

use anyhow::Context as _;
use blueprint::{Blueprint, plan::Ports};
use futures_util::FutureExt as _;
use harness::{
    ops::run::Run,
    proof,
    runtime::request::{Lifetime, OnFailure, PublicAddress, State, UpRequest},
};
use host::{
    binaries::Profile,
    environment::{Name, RuntimeKind, Store, workspace_root},
    manifests,
    process::{self, tail},
    timeline::Timeline,
};

pub use cases::{Route, own_messages_cross, triggered_messages_cross};
pub use check::{
    assert_all_delivered, assert_delivered, assert_rejected, assert_route, assert_routes, payload,
    payload_of, payloads,
};
pub use counters::Counters;
pub use faults::Faults;
pub use ferry::Ferry;
use ferry::Origin;
pub use helpers::{or_untested, program, soak};
pub use metrics::{Metric, Samples};
pub use pod::Pod;
pub use sessions::{End, TunnelSession};
use settings::Needs;
pub use settings::{LASTING_IDENTITIES, QUICK_IDENTITIES};
pub use traffic::Messages;
pub use turns::{Turn, Turns};

/// Names an environment that is up, for tests to attach to instead of making their own.
pub const ENVIRONMENT_VARIABLE: &str = "FERRY_ENVIRONMENT";

/// Limit on concurrent environments: a message needs four Envoys' turns, and a laptop has two
/// processors.
const AT_ONCE: u32 = 2;

const TURNS: Turns = Turns::new("environments", AT_ONCE);

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
    /// Blueprints under `manifests/` in the same environment.
    more: Vec<String>,
    store: Option<Store>,
    needs: Needs,
    /// Turns that it takes on an environment that is shared.
    turns: u32,
    public: PublicAddress,
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

    /// Another blueprint under `manifests/` in the same environment; see [`Ferry::other`].
    #[must_use]
    pub fn and(mut self, blueprint: &str) -> Self {
        self.more.push(blueprint.into());
        self
    }

    fn new(blueprint: Source) -> Self {
        Self {
            blueprint,
            more: vec![],
            store: None,
            needs: Needs::default(),
            turns: AT_ONCE,
            public: PublicAddress::OwnNetwork,
        }
    }

    /// Sets a variable of [`messages::env`] for every pod. An environment is attached to only if it has the settings of the
    /// test.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.needs.these.insert(name.into(), value.into());
        self
    }

    /// [`QUICK_IDENTITIES`].
    #[must_use]
    pub fn quick_identities(self) -> Self {
        self.settings(&QUICK_IDENTITIES)
    }

    /// [`LASTING_IDENTITIES`].
    #[must_use]
    pub fn lasting_identities(self) -> Self {
        self.settings(&LASTING_IDENTITIES)
    }

    fn settings(self, all: &[(&str, &str)]) -> Self {
        let all = all.iter();
        all.fold(self, |setup, (name, value)| setup.setting(name, value))
    }

    /// An environment that has further settings is not attached to: for a test of one session, which they may end.
    #[must_use]
    pub fn no_other_settings(mut self) -> Self {
        self.needs.no_others = true;
        self
    }

    /// On an environment that is attached to, tests of other blueprints that say so, too, may run beside it: for one that
    /// looks at the pods of its own blueprint alone, and at what happens to them.
    #[must_use]
    pub fn beside_others(mut self) -> Self {
        self.turns = 1;
        self
    }

    /// Takes this state root; then no environment is attached to.
    #[must_use]
    pub fn state(mut self, store: Store) -> Self {
        self.store = Some(store);
        self
    }

    /// Every pod and load balancer is at `[::1]`, and reaches the others there; then no environment is attached to.
    #[must_use]
    pub fn by_ipv6(mut self) -> Self {
        self.public = PublicAddress::OwnNetworkV6;
        self
    }

    /// The run that [`Self::run`] would make, for a test of runs themselves.
    pub fn prepare(self, name: Name) -> anyhow::Result<(Run, UpRequest)> {
        let folder = workspace_root()?.join("manifests");
        let mut blueprints = vec![match self.blueprint {
            Source::Parsed(blueprint) => *blueprint,
            Source::Named(name) => manifests::load(manifests::find(&folder, &name)?)?,
        }];
        for name in &self.more {
            blueprints.push(manifests::load(manifests::find(&folder, name)?)?);
        }
        let store = match self.store {
            Some(store) => store,
            None => Store::find()?,
        };
        let request = UpRequest {
            name: name.clone(),
            runtime: RuntimeKind::Embedded,
            blueprints,
            ports: Ports::Spread,
            public: self.public,
            lifetime: Lifetime::Command,
            on_failure: OnFailure::LeaveToCaller,
            settings: self.needs.these,
            existing: None,
            profile: Profile::Dev,
        };
        Ok((Run::new(store, name, Timeline::default()), request))
    }

    /// See [`with_environment`].
    pub async fn run<B, F>(self, body: B) -> anyhow::Result<()>
    where
        B: FnOnce(Ferry) -> F,
        F: Future<Output = anyhow::Result<()>>,
    {
        let attach = std::env::var(ENVIRONMENT_VARIABLE)
            .ok()
            .filter(|name| !name.is_empty());
        let attach = attach.filter(|_| self.public == PublicAddress::OwnNetwork);
        if let (Some(name), Source::Named(blueprint), None) = (attach, &self.blueprint, &self.store)
        {
            // Tests that share an environment take turns: each counts what arrives.
            let mut turns = vec![];
            for blueprint in [blueprint].into_iter().chain(&self.more) {
                turns.push(Turns::of_blueprint(blueprint).take().await?);
            }
            let _turns = TURNS.take_many(self.turns).await?;
            process::raise_open_files()?;
            let (mut store, name) = (Store::find()?, name.parse()?);
            if !store.has(&name) {
                // One on clusters that exist already.
                store = Store::deployed()?;
            }
            settings::fit(&store.load(&name)?.record, &self.needs)?;
            let ferry = Ferry::new(store, name, blueprint.clone(), Origin::Attached);
            return Box::pin(body(ferry)).await;
        }
        let (run, request) = self.prepare(Name::unique("test")?)?;
        Box::pin(on_own_environment(run, request, body)).await
    }
}

async fn on_own_environment<B, F>(mut run: Run, request: UpRequest, body: B) -> anyhow::Result<()>
where
    B: FnOnce(Ferry) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    process::raise_open_files()?;
    let _turn = TURNS.take().await?;
    let blueprints = request.blueprints.iter();
    let blueprints: Vec<_> = blueprints.map(|blueprint| blueprint.name.clone()).collect();
    let ferry = Ferry::new(
        run.store().clone(),
        run.name().clone(),
        blueprints.first().cloned().unwrap_or_default(),
        Origin::Made,
    );
    let work = async {
        let environment = Box::pin(run.up(request)).await?;
        // Settled before the body begins: what the gateways send by themselves must not mix with what a test sends.
        for blueprint in &blueprints {
            proof::auto_trigger(&environment, blueprint, &Timeline::default()).await?;
        }
        // On the heap: what tests await is large, and their threads have small stacks.
        Box::pin(body(ferry.clone())).await
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
            let file = folder.join(harness::ops::run::EVIDENCE);
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

/// Prints to the user who runs the tests, even while their output is captured.
pub fn show(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
