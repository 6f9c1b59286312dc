//! Reads a gateway's report on its first messages.

use std::time::Duration;

use blueprint::{
    container::Container,
    failure::{Failure, Kind},
};
use futures_util::TryStreamExt as _;
use host::{
    environment::{Environment, PodRecord},
    pods::Liveness,
    process,
    timeline::Step,
    wait::{Seen, Wait},
};
use messages::limits::MAX_CLOCK_SKEW;

use super::TAIL;
use crate::{
    ops::lifecycle,
    runtime::{self, Follow},
};

/// Longest time from a ready gateway to the end of its auto-trigger.
const LIMIT: Duration = Duration::from_secs(60);

/// What a gateway logs once its auto-trigger is through; between these stands `5/5`.
const COMPLETE: &str = "🔁 Auto-trigger complete — ";
const SENT: &str = " messages sent.";
/// What it logs before that: how long each message took by its own clock, in their order, such as `1234, 987`.
const ANSWERED: &str = "acknowledged after ";
const MICROSECONDS: &str = " µs";

/// One finished auto-trigger. A gateway has one for each time that its `app` was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Messages that the far end has acknowledged.
    pub(crate) delivered: u64,
    pub(crate) total: u64,
    /// How long each message took, in their order; shorter, or empty, where the gateway did not tell.
    pub(crate) took: Vec<Duration>,
}

/// Every report of a gateway so far, the oldest first.
pub async fn reports(
    environment: &Environment,
    gateway: &PodRecord,
) -> anyhow::Result<Vec<Report>> {
    Ok(read(&log(environment, gateway).await?))
}

async fn log(environment: &Environment, gateway: &PodRecord) -> anyhow::Result<String> {
    let lines = runtime::of(environment.record.runtime)
        .pods()
        .logs(environment, &gateway.name, Container::App, Follow::No)
        .await?;
    Ok(lines.try_collect::<Vec<_>>().await?.join("\n"))
}

fn read(log: &str) -> Vec<Report> {
    let mut reports = vec![];
    let mut took = vec![];
    for line in log.lines() {
        if let Some(times) = times(line) {
            took = times;
        } else if let Some((delivered, total)) = numbers(line) {
            let took = std::mem::take(&mut took);
            reports.push(Report {
                delivered,
                total,
                took,
            });
        }
    }
    reports
}

fn numbers(line: &str) -> Option<(u64, u64)> {
    let (_, rest) = line.split_once(COMPLETE)?;
    let (numbers, _) = rest.split_once(SENT)?;
    let (delivered, total) = numbers.split_once('/')?;
    Some((delivered.parse().ok()?, total.parse().ok()?))
}

fn times(line: &str) -> Option<Vec<Duration>> {
    let (_, rest) = line.split_once(ANSWERED)?;
    let (times, _) = rest.split_once(MICROSECONDS)?;
    let time = |text: &str| text.parse().ok().map(Duration::from_micros);
    times.split(", ").map(time).collect()
}

/// Waits until a gateway has reported once more than `before` times that every message was acknowledged.
///
/// # Errors
///
/// A [`Failure::product`], as soon as it reports fewer, or a container of the blueprint has ended.
pub async fn wait_for_report(
    environment: &Environment,
    gateway: &PodRecord,
    before: usize,
    step: &Step,
) -> anyhow::Result<Report> {
    let who = format!("{} in {}", gateway.name.pod(), gateway.name.cluster());
    let expected = u64::from(gateway.auto_trigger);
    let failed = |cause: String| {
        Failure::product(format!("{who}: {cause}"))
            .hint("run `cargo xtask logs`, or after the run read the logs in its state folder")
    };
    Wait::until(format!("the {expected} messages that {who} sends by itself"))
        .within(LIMIT)
        .looking_every(Duration::from_millis(50))
        .showing(step)
        .poll(|| async {
            let log = log(environment, gateway).await?;
            match read(&log).into_iter().nth(before) {
                Some(report) if report.delivered == report.total && report.total == expected => {
                    return Ok(Seen::Ready(report));
                }
                Some(Report {
                    delivered, total, ..
                }) => {
                    let tail = process::tail(&log, TAIL);
                    let cause = format!(
                        "its auto-trigger ended with {delivered}/{total}, not {expected}/{expected}\n{tail}"
                    );
                    return Err(failed(cause).into());
                }
                None => {}
            }
            if let Some(dead) = dead_container(environment, gateway.name.blueprint()).await? {
                return Err(dead.into());
            }
            let last = log.lines().next_back().unwrap_or("an empty log");
            Ok(Seen::Waiting(last.chars().take(160).collect()))
        })
        .await
        .map_err(|error| match Failure::of(&error) {
            // All pods were ready: what does not come now is the product's fault, not the machine's.
            Some(failure) if failure.kind() == Kind::Infrastructure => {
                error.context(failed(format!("did not report {expected}/{expected}")))
            }
            _ => error,
        })
}

/// Waits for the end of an auto-trigger that may be under way, since a gateway that was just started again sends by itself.
/// How many messages it delivered is not asked: that was proven, or will be.
pub(super) async fn auto_trigger_is_over(
    environment: &Environment,
    gateway: &PodRecord,
    step: &Step,
) -> anyhow::Result<()> {
    // The log of a gateway that has been up for long may have been rotated. On clusters the times are of their clocks.
    let is_young = |started: jiff::Timestamp| {
        let age = jiff::Timestamp::now().duration_since(started);
        age.unsigned_abs() < LIMIT + MAX_CLOCK_SKEW
    };
    let young = [gateway.started_at, gateway.ready_at]
        .into_iter()
        .flatten()
        .any(is_young);
    if gateway.auto_trigger == 0 || !young {
        return Ok(());
    }
    let who = format!("{} in {}", gateway.name.pod(), gateway.name.cluster());
    Wait::until(format!("the messages that {who} sends by itself"))
        .within(LIMIT)
        .looking_every(Duration::from_millis(50))
        .showing(step)
        .poll(|| async {
            // A log that goes on over several starts has reports of the earlier ones, too.
            let log = runtime::of(environment.record.runtime)
                .pods()
                .log_since_start(environment, gateway, Container::App)
                .await?;
            Ok(if read(&log).is_empty() {
                Seen::Waiting("they are under way".into())
            } else {
                Seen::Ready(())
            })
        })
        .await
}

/// The first container of the blueprint's pods that has ended by itself.
async fn dead_container(
    environment: &Environment,
    blueprint: &str,
) -> anyhow::Result<Option<Failure>> {
    for pod in lifecycle::status(environment).await? {
        if pod.name.blueprint() != blueprint {
            continue;
        }
        for container in pod.containers {
            if let Liveness::Crashed { log_tail } = container.state {
                let cause = format!(
                    "{} in {}: its container `{}` has ended\n{log_tail}",
                    pod.name.pod(),
                    pod.name.cluster(),
                    container.container
                );
                return Ok(Some(Failure::product(cause).hint(format!(
                    "its whole log is in `{}`",
                    environment.layout().logs().display()
                ))));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finished_auto_triggers_alone_are_read() {
        let log = "{\"message\":\"🔁 Auto-trigger starting — sending 5 messages\"}\n\
                   {\"message\":\"🔁 Auto-trigger complete — 3/5 messages sent.\"}\n\
                   ready\n\
                   INFO acknowledged after 900, 1250 µs\n\
                   INFO 🔁 Auto-trigger complete — 5/5 messages sent.\n\
                   🔁 Auto-trigger complete — 4/5 mess";
        let report = |delivered, took: &[u64]| Report {
            delivered,
            total: 5,
            took: took.iter().copied().map(Duration::from_micros).collect(),
        };
        assert_eq!(read(log), [report(3, &[]), report(5, &[900, 1_250])]);
        assert_eq!(read(""), []);
    }
}
