//! What an attack is, and what every one of them must come to.

use std::fmt;

use anyhow::{Context as _, bail, ensure};
use blueprint::container::Container;
use e2e::testing::{Ferry, Metric, Samples, assert_delivered, payloads};
use futures_util::{FutureExt as _, future::BoxFuture};
use host::{
    pods::Readiness,
    wait::{Seen, Wait},
};

/// One way to get in, and how it ends.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) refused_by: &'static str,
    /// All of them must show.
    pub(crate) seen_in: &'static [Sign],
    /// Attacks, and makes sure that nothing was gained by it; what the attacker was told.
    pub(crate) run: Errand,
}

/// An attack by its name, who refuses it, where it shows, and what is done.
macro_rules! attack {
    ($name:expr, $refused_by:expr, [$($seen_in:expr),+ $(,)?], $run:expr $(,)?) => {
        $crate::attackers::attack::Attack {
            name: $name,
            refused_by: $refused_by,
            seen_in: &[$($seen_in),+],
            run: $crate::attackers::attack::errand!($run),
        }
    };
}
pub(crate) use attack;

/// An [`Errand`] of an `async` closure.
macro_rules! errand {
    ($run:expr) => {
        |ferry| Box::pin(async move { $crate::attackers::attack::typed($run)(ferry).await })
    };
}
pub(crate) use errand;

/// Tells the compiler what the closure of an [`errand!`] takes.
pub(crate) fn typed<F: AsyncFn(Ferry) -> anyhow::Result<String>>(run: F) -> F {
    run
}

pub(crate) type Errand = fn(Ferry) -> BoxFuture<'static, anyhow::Result<String>>;

/// Where an attack shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// A metric of the sink's Envoy rises.
    Rises(Metric),
    /// It must not have risen.
    Stays(Metric),
    /// A metric of the sink's app rises.
    RisesInApp(Metric),
    /// A metric of the gateway's Envoy rises.
    RisesAtGateway(Metric),
    /// A new line in the log of the sink's Envoy with this in it.
    Envoy(&'static str),
    /// A new line in the log of the sink's app with this in it.
    App(&'static str),
    /// What the attacker is told has this in it.
    Told(&'static str),
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rises(metric) => write!(f, "`{metric}`"),
            Self::Stays(metric) => write!(f, "`{metric}` stays as it is"),
            Self::RisesInApp(metric) => write!(f, "`{metric}` of `app`"),
            Self::RisesAtGateway(metric) => write!(f, "`{metric}` of the gateway"),
            Self::Envoy(text) => write!(f, "log of `envoy`: `{text}`"),
            Self::App(text) => write!(f, "log of `app`: `{text}`"),
            Self::Told(text) => write!(f, "the answer: `{text}`"),
        }
    }
}

/// Most that an attack may add to the memory of the sink's app, in KiB: a window of the largest messages and the frame
/// that is being read, with room for the allocator.
const MAX_GROWTH_KIB: u64 = 128 * 1024;

/// What is looked at before an attack and after it.
struct Look {
    sink: Samples,
    app: Samples,
    gateway: Samples,
    envoy_lines: usize,
    app_lines: usize,
    last_index: u64,
    app_memory_kib: Option<u64>,
}

impl Look {
    async fn at(ferry: &Ferry) -> anyhow::Result<Self> {
        let (gateway, sink) = (ferry.gateway()?.name, ferry.sink()?.name);
        Ok(Self {
            sink: ferry.pod(sink.pod()).counters().await?,
            app: ferry.pod(sink.pod()).metrics(Container::App).await?,
            gateway: ferry.pod(gateway.pod()).counters().await?,
            envoy_lines: ferry.pod(sink.pod()).envoy_log().await?.len(),
            app_lines: ferry.pod(sink.pod()).log(Container::App).await?.len(),
            last_index: ferry.messages().last_index().await?,
            app_memory_kib: memory_kib(ferry)?,
        })
    }
}

/// Runs all attacks: each must gain nothing, show where it is said to show, and leave the ferry as it was.
pub(crate) async fn withstand(ferry: &Ferry, attacks: &[Attack]) -> anyhow::Result<()> {
    let mut failures = vec![];
    for attack in attacks {
        let outcome = std::panic::AssertUnwindSafe(withstand_one(ferry, attack));
        let failure = match outcome.catch_unwind().await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => format!("{error:#}"),
            Err(panic) => panic
                .downcast_ref::<String>()
                .map_or_else(|| "it panicked".into(), Clone::clone),
        };
        failures.push(format!("{}: {failure}", attack.name));
    }
    ensure!(
        failures.is_empty(),
        "{} of {} attacks on `{}` were not withstood:\n{}",
        failures.len(),
        attacks.len(),
        ferry.blueprint(),
        failures.join("\n\n")
    );
    Ok(())
}

async fn withstand_one(ferry: &Ferry, attack: &Attack) -> anyhow::Result<()> {
    let before = Look::at(ferry).await?;
    let told = (attack.run)(ferry.clone()).await?;
    for sign in attack.seen_in {
        shown(ferry, &before, *sign, &told).await?;
    }
    // Only what the gateway itself has sent meanwhile, by the name of its running pod.
    let gateway = ferry
        .pod(ferry.gateway()?.name.pod())
        .state()
        .await?
        .pod_name;
    for stored in ferry.messages().output(before.last_index).await? {
        let first = stored.message.trail.first();
        ensure!(
            first.is_some_and(|hop| hop.pod == gateway),
            "nothing of an attacker must be stored: {stored:#?}"
        );
    }
    if let (Some(before), Some(after)) = (before.app_memory_kib, memory_kib(ferry)?) {
        ensure!(
            after < before + MAX_GROWTH_KIB,
            "the memory of the sink's app must stay bounded: {before} KiB, then {after} KiB"
        );
    }
    // The sink lives on, and whom it is for is served.
    assert_delivered(&ferry.messages().deliver(payloads(3)).await?, 3);
    let state = ferry.pod(ferry.sink()?.name.pod()).state().await?;
    ensure!(
        state.readiness == Readiness::Ready,
        "the sink must stay ready: {state:#?}"
    );
    Ok(())
}

/// Waits until the sign shows: Envoy writes its log and counts after it has closed a connection.
async fn shown(ferry: &Ferry, before: &Look, sign: Sign, told: &str) -> anyhow::Result<()> {
    let (gateway, sink) = (ferry.gateway()?.name, ferry.sink()?.name);
    let seen = |seen: bool, what: String| match seen {
        true => Seen::Ready(()),
        false => Seen::Waiting(what),
    };
    Wait::until(format!("{sign}; the attacker was told: {told}"))
        .poll(|| async {
            Ok(match sign {
                Sign::Rises(metric) => {
                    let now = ferry.pod(sink.pod()).counters().await?;
                    let rises = now.sum(&metric) > before.sink.sum(&metric);
                    seen(rises, format!("{:#?}", now.risen_since(&before.sink)))
                }
                Sign::RisesInApp(metric) => {
                    let now = ferry.pod(sink.pod()).metrics(Container::App).await?;
                    let rises = now.sum(&metric) > before.app.sum(&metric);
                    seen(rises, format!("{:#?}", now.risen_since(&before.app)))
                }
                Sign::RisesAtGateway(metric) => {
                    let now = ferry.pod(gateway.pod()).counters().await?;
                    let rises = now.sum(&metric) > before.gateway.sum(&metric);
                    seen(rises, format!("{:#?}", now.risen_since(&before.gateway)))
                }
                Sign::Stays(metric) => {
                    let now = ferry.pod(sink.pod()).counters().await?;
                    let (was, is) = (before.sink.sum(&metric), now.sum(&metric));
                    ensure!(was == is, "{metric} was {was} and is {is}");
                    Seen::Ready(())
                }
                Sign::Envoy(text) => {
                    let log = ferry.pod(sink.pod()).envoy_log().await?;
                    let new = log.get(before.envoy_lines..).unwrap_or_default();
                    seen(has(new, text), new.join("\n"))
                }
                Sign::App(text) => {
                    let log = ferry.pod(sink.pod()).log(Container::App).await?;
                    let new = log.get(before.app_lines..).unwrap_or_default();
                    seen(has(new, text), new.join("\n"))
                }
                Sign::Told(text) => {
                    ensure!(told.contains(text), "the attacker was told: {told}");
                    Seen::Ready(())
                }
            })
        })
        .await
}

fn has(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
}

/// Resident memory of the sink's app, where it is a process of this machine.
fn memory_kib(ferry: &Ferry) -> anyhow::Result<Option<u64>> {
    let sink = ferry.sink()?;
    let app = Container::App.as_str();
    let Some(process) = sink.processes.iter().find(|one| one.container == app) else {
        return Ok(None);
    };
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id.pid))
        .context("the sink's app must be running")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let value = line.and_then(|line| line.split_whitespace().next());
    match value.map(str::parse) {
        Some(Ok(kib)) => Ok(Some(kib)),
        _ => bail!("the sink's app has no memory: {status}"),
    }
}

/// A row of the table in SECURITY.md for each attack.
pub(crate) fn rows(test: &str, attacks: &[Attack]) -> Vec<String> {
    let row = |attack: &Attack| {
        let signs: Vec<_> = attack.seen_in.iter().map(Sign::to_string).collect();
        format!(
            "| {} | {} | {} | `{test}` |",
            attack.name,
            attack.refused_by,
            signs.join("; ")
        )
    };
    attacks.iter().map(row).collect()
}
