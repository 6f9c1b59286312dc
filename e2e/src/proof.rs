//! Proof that a blueprint works: its gateways report every message as acknowledged by the far end, and what the sinks
//! have stored bears it out.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use futures_util::TryStreamExt as _;
use messages::{Ack, Outcome, Payload, WorkloadName};
use serde::Serialize;

use crate::{
    environment::{Environment, PodRecord, Record},
    failure::{Failure, Kind},
    identity::Root,
    pinhole::{Pinhole, Trigger},
    process,
    runtime::{self, Container, Follow, Liveness},
    select,
    timeline::{Step, Timeline},
    trail::{self, Expectation, Flow, Proof, Route, Sent, SentMessage, StoredMessage},
    wait::{Seen, Wait},
};

/// Longest time from a ready gateway to the end of its auto-trigger.
const AUTO_TRIGGER_LIMIT: Duration = Duration::from_secs(60);

/// What a gateway logs once its auto-trigger is through; between these stands `5/5`.
const COMPLETE: &str = "🔁 Auto-trigger complete — ";
const SENT: &str = " messages sent.";

/// Lines of a log that a failure shows.
const TAIL: usize = 20;

/// A blueprint that was proven: every message was acknowledged by the far end, and every trail is good.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    pub blueprint: String,
    /// Messages that the gateways had to send.
    pub expected: u64,
    /// Messages that the far end has acknowledged.
    pub delivered: u64,
    /// One per sink.
    pub sinks: Vec<SinkVerdict>,
}

/// What one sink holds.
#[derive(Clone, Debug, Serialize)]
pub struct SinkVerdict {
    pub sink: String,
    pub cluster: String,
    #[serde(flatten)]
    pub proof: Proof,
}

/// Waits for the auto-trigger of every gateway of `blueprint`, and checks what is then in its sinks: exactly that.
///
/// For an environment that was just brought up; one that has seen other messages is proven by [`trigger`].
///
/// # Errors
///
/// A [`Failure::product`] with the end of the log concerned, as soon as a gateway reports fewer, or a process has died.
pub async fn auto_trigger(
    environment: &Environment,
    blueprint: &str,
    timeline: &Timeline,
) -> anyhow::Result<Verdict> {
    let record = &environment.record;
    let gateways: Vec<_> = select::gateways(record, blueprint).collect();
    let expected = gateways
        .iter()
        .map(|gateway| u64::from(gateway.auto_trigger))
        .sum();
    timeline
        .run(format!("prove {blueprint}"), |step| async move {
            let mut delivered = 0;
            for gateway in &gateways {
                if gateway.auto_trigger > 0 {
                    delivered += wait_for_auto_trigger(environment, gateway, &step).await?;
                }
            }
            step.progress("reading the sinks");
            let live = runtime::live_pods(environment).await?;
            let flows = |sink: &PodRecord| {
                let flow = |gateway: &&PodRecord| Flow {
                    sent: Sent::Numbered {
                        first: 1,
                        count: u64::from(gateway.auto_trigger),
                    },
                    routes: live_routes(record, &live, gateway, sink),
                };
                gateways.iter().map(flow).collect()
            };
            let sinks =
                check_sinks(environment, blueprint, &Marks::default(), flows, timeline).await?;
            Ok(Verdict {
                blueprint: blueprint.into(),
                expected,
                delivered,
                sinks,
            })
        })
        .await
}

/// Sends each payload once through `gateway`, and checks acknowledgements and what has arrived at the sinks since:
/// each message once over each route, in order, intact.
pub async fn trigger(
    environment: &Environment,
    gateway: &PodRecord,
    payloads: Vec<Payload>,
    timeline: &Timeline,
) -> anyhow::Result<Verdict> {
    let record = &environment.record;
    let blueprint = gateway.name.blueprint();
    let marks = Marks::of(record, blueprint).await?;
    let sent = send(record, gateway, payloads).await?;
    let live = runtime::live_pods(environment).await?;
    let flows = |sink: &PodRecord| {
        vec![Flow {
            sent: Sent::Listed(sent.clone()),
            routes: live_routes(record, &live, gateway, sink),
        }]
    };
    let sinks = check_sinks(environment, blueprint, &marks, flows, timeline).await?;
    let count = u64::try_from(sent.len())?;
    Ok(Verdict {
        blueprint: blueprint.into(),
        expected: count,
        delivered: count,
        sinks,
    })
}

/// Proves a blueprint that has been up for a while: as many fresh messages as its auto-trigger has, through each gateway.
pub async fn again(
    environment: &Environment,
    blueprint: &str,
    timeline: &Timeline,
) -> anyhow::Result<Verdict> {
    timeline
        .run(format!("prove {blueprint} again"), |step| async move {
            let mut whole = Verdict {
                blueprint: blueprint.into(),
                expected: 0,
                delivered: 0,
                sinks: vec![],
            };
            for gateway in select::gateways(&environment.record, blueprint) {
                auto_trigger_is_over(environment, gateway, &step).await?;
            }
            for gateway in select::gateways(&environment.record, blueprint) {
                if gateway.token_file.is_none() {
                    step.progress(format!("{} has no pinhole", gateway.name.pod()));
                    continue;
                }
                let payloads = (1..=gateway.auto_trigger.max(1))
                    .map(|number| Payload::of(&serde_json::json!({ "proof": number })))
                    .collect::<Result<_, _>>()?;
                let part = trigger(environment, gateway, payloads, timeline).await?;
                whole.expected += part.expected;
                whole.delivered += part.delivered;
                whole.sinks.extend(part.sinks);
            }
            Ok(whole)
        })
        .await
}

/// Sends payloads and demands that the far end acknowledges each of them, in order.
async fn send(
    record: &Record,
    gateway: &PodRecord,
    payloads: Vec<Payload>,
) -> anyhow::Result<Vec<SentMessage>> {
    let trigger = Trigger::Each(payloads.clone());
    let acks = Pinhole::of(gateway)?.trigger_all(&trigger).await?;
    let routes: usize = select::sinks(record, gateway.name.blueprint())
        .map(|sink| Route::all(&record.pods, &gateway.name, &sink.name).len())
        .sum();
    let who = format!("{} in {}", gateway.name.pod(), gateway.name.cluster());
    let (ids, refused) = read_acks(&acks);
    let mut problems: Vec<_> = refused;
    if ids.len() != payloads.len() {
        problems.push(format!(
            "{} messages were sent, {} have an acknowledgement",
            payloads.len(),
            ids.len()
        ));
    }
    if acks.len() != payloads.len() * routes {
        problems.push(format!(
            "{} messages over {routes} route(s) have {} acknowledgements",
            payloads.len(),
            acks.len()
        ));
    }
    if !problems.is_empty() {
        let rest = problems.len().saturating_sub(TAIL);
        problems.truncate(TAIL);
        let more = if rest > 0 {
            format!("\n  and {rest} more")
        } else {
            String::new()
        };
        return Err(Failure::product(format!(
            "{who}: not every message was delivered\n  {}{more}",
            problems.join("\n  ")
        ))
        .hint("`cargo xtask logs` shows what the pods say")
        .into());
    }
    Ok(ids
        .into_iter()
        .zip(payloads)
        .map(|(id, payload)| SentMessage {
            id,
            payload: Some(payload),
        })
        .collect())
}

/// The ids in the order of their first acknowledgement, and what was refused.
fn read_acks(acks: &[Ack]) -> (Vec<uuid::Uuid>, Vec<String>) {
    let mut seen = HashSet::new();
    let mut ids = vec![];
    let mut refused = vec![];
    for ack in acks {
        if seen.insert(ack.id) {
            ids.push(ack.id);
        }
        if let Outcome::Rejected { reason } = &ack.outcome {
            refused.push(format!(
                "message {} ({}) was rejected: {reason}",
                ids.len(),
                ack.id
            ));
        }
    }
    (ids, refused)
}

/// Every route from a gateway to a sink, with the pods that run now.
fn live_routes(
    record: &Record,
    live: &BTreeMap<WorkloadName, Vec<String>>,
    gateway: &PodRecord,
    sink: &PodRecord,
) -> Vec<Route> {
    let mut routes = Route::all(&record.pods, &gateway.name, &sink.name);
    for station in routes.iter_mut().flat_map(|route| &mut route.0) {
        station.pods = live
            .get(&station.name)
            .into_iter()
            .flatten()
            .cloned()
            .collect();
    }
    routes
}

/// How far each sink's output had been read.
#[derive(Debug, Default)]
struct Marks(BTreeMap<String, u64>);

impl Marks {
    async fn of(record: &Record, blueprint: &str) -> anyhow::Result<Self> {
        let mut marks = Self::default();
        for sink in select::sinks(record, blueprint).filter(|sink| sink.token_file.is_some()) {
            let stored = Pinhole::of(sink)?.output(0).await?;
            let last = stored.last().map_or(0, |stored| stored.index);
            marks.0.insert(sink.name.to_string(), last);
        }
        Ok(marks)
    }
}

async fn check_sinks(
    environment: &Environment,
    blueprint: &str,
    marks: &Marks,
    flows: impl Fn(&PodRecord) -> Vec<Flow>,
    timeline: &Timeline,
) -> anyhow::Result<Vec<SinkVerdict>> {
    let root = Root::load(&environment.layout().identity())?;
    let mut all = vec![];
    for sink in select::sinks(&environment.record, blueprint) {
        if sink.token_file.is_none() {
            timeline.note(format!(
                "{} in {} has no pinhole: its acknowledgements count, but its trails cannot be read",
                sink.name.pod(),
                sink.name.cluster()
            ));
            continue;
        }
        let after = marks.0.get(&sink.name.to_string()).copied().unwrap_or(0);
        let output = Pinhole::of(sink)?.output(after).await?;
        let mut flows = flows(sink);
        flows.retain(|flow| !flow.routes.is_empty());
        let expectation = Expectation {
            blueprint: blueprint.into(),
            flows,
        };
        let proof = check(&expectation, output, &root).await?;
        all.push(SinkVerdict {
            sink: sink.name.pod().into(),
            cluster: sink.name.cluster().into(),
            proof,
        });
    }
    Ok(all)
}

/// Thousands of signatures take seconds of a processor: not on a thread that others wait for.
async fn check(
    expectation: &Expectation,
    output: Vec<StoredMessage>,
    root: &Root,
) -> anyhow::Result<Proof> {
    let expectation = expectation.clone();
    let certificate = root.certificate_der().clone();
    tokio::task::spawn_blocking(move || trail::check(&expectation, &output, &[certificate])).await?
}

/// Waits for the line of a gateway that its auto-trigger is complete; gives how many were acknowledged.
async fn wait_for_auto_trigger(
    environment: &Environment,
    gateway: &PodRecord,
    step: &Step,
) -> anyhow::Result<u64> {
    let who = format!("{} in {}", gateway.name.pod(), gateway.name.cluster());
    let expected = u64::from(gateway.auto_trigger);
    let failed = |cause: String| {
        Failure::product(format!("{who}: {cause}")).hint(
            "`cargo xtask logs` shows what the pods say; of a run that is over, its state folder",
        )
    };
    Wait::until(format!("the {expected} messages that {who} sends by itself"))
        .within(AUTO_TRIGGER_LIMIT)
        .looking_every(Duration::from_millis(50))
        .showing(step)
        .poll(|| async {
            let lines = runtime::logs(environment, &gateway.name, Container::App, Follow::No).await?;
            let log = lines.try_collect::<Vec<_>>().await?.join("\n");
            match completed(&log) {
                Some((delivered, total)) if delivered == expected && total == expected => {
                    return Ok(Seen::Ready(delivered));
                }
                Some((delivered, total)) => {
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
async fn auto_trigger_is_over(
    environment: &Environment,
    gateway: &PodRecord,
    step: &Step,
) -> anyhow::Result<()> {
    // The log of a gateway that has been up for long may have been rotated.
    let is_young = |started: jiff::Timestamp| {
        jiff::Timestamp::now()
            .duration_since(started)
            .unsigned_abs()
            < AUTO_TRIGGER_LIMIT
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
        .within(AUTO_TRIGGER_LIMIT)
        .looking_every(Duration::from_millis(50))
        .showing(step)
        .poll(|| async {
            let lines =
                runtime::logs(environment, &gateway.name, Container::App, Follow::No).await?;
            let log = lines.try_collect::<Vec<_>>().await?.join("\n");
            Ok(match completed(&log) {
                Some(_) => Seen::Ready(()),
                None => Seen::Waiting("they are under way".into()),
            })
        })
        .await
}

/// The numbers of the last auto-trigger that a log reports as complete: acknowledged, and of how many.
fn completed(log: &str) -> Option<(u64, u64)> {
    let (_, rest) = log.rsplit_once(COMPLETE)?;
    let (numbers, _) = rest.split_once(SENT)?;
    let (delivered, total) = numbers.split_once('/')?;
    Some((delivered.parse().ok()?, total.parse().ok()?))
}

/// The first container of the blueprint's pods that has ended by itself.
async fn dead_container(
    environment: &Environment,
    blueprint: &str,
) -> anyhow::Result<Option<Failure>> {
    for pod in runtime::status(environment).await? {
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
    fn the_last_report_of_a_log_counts() {
        assert_eq!(
            completed("🔁 Auto-trigger starting — sending 5 messages\n"),
            None
        );
        let log = "{\"message\":\"🔁 Auto-trigger complete — 3/5 messages sent.\"}\n\
                   {\"message\":\"🔁 Auto-trigger complete — 5/5 messages sent.\"}\n";
        assert_eq!(completed(log), Some((5, 5)));
        assert_eq!(
            completed("🔁 Auto-trigger complete — 4/5 messages sent.\n"),
            Some((4, 5))
        );
        assert_eq!(completed("🔁 Auto-trigger complete — 4/5 mess"), None);
    }
}
