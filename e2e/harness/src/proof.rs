//! Proves a blueprint: its gateways report an acknowledgement for every message, and the sinks'
//! output confirms it.

mod evidence;
mod report;

use std::collections::{BTreeMap, HashMap, HashSet};

use blueprint::failure::Failure;
use host::{
    environment::{Environment, PodRecord, Record},
    select,
    timeline::Timeline,
};
use messages::{Ack, Outcome, Payload, WorkloadName};
use rustls_pki_types::CertificateDer;
use serde::Serialize;

use crate::{
    pinhole::{Pinhole, Trigger},
    runtime,
    trail::{self, Expectation, Flow, Proof, Route, Sent, SentMessage, StoredMessage},
};

pub use evidence::{audit, audit_sink, evidence_of, roots, roots_of};
pub use report::reports;
pub use report::wait_for_report;

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
            let mut times = BTreeMap::new();
            for gateway in &gateways {
                if gateway.auto_trigger > 0 {
                    let report = wait_for_report(environment, gateway, 0, &step).await?;
                    delivered += report.delivered;
                    times.insert(gateway.name.to_string(), report.took);
                }
            }
            step.progress("reading the sinks");
            let live = runtime::of(environment.record.runtime)
                .pods()
                .live_pods(environment)
                .await?;
            let flows = |sink: &PodRecord| {
                let flow = |gateway: &&PodRecord| Flow {
                    sent: Sent::Numbered {
                        first: 1,
                        count: u64::from(gateway.auto_trigger),
                        took: times
                            .get(&gateway.name.to_string())
                            .cloned()
                            .unwrap_or_default(),
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
    let sent = send(gateway, payloads).await?;
    let live = runtime::of(environment.record.runtime)
        .pods()
        .live_pods(environment)
        .await?;
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
                report::auto_trigger_is_over(environment, gateway, &step).await?;
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
async fn send(gateway: &PodRecord, payloads: Vec<Payload>) -> anyhow::Result<Vec<SentMessage>> {
    let trigger = Trigger::Each(payloads.clone());
    let answers = Pinhole::of(gateway)?.trigger_timed(&trigger).await?;
    let took: HashMap<_, _> = answers
        .iter()
        .map(|answered| (answered.ack.id, answered.took()))
        .collect();
    let acks: Vec<_> = answers.into_iter().map(|answered| answered.ack).collect();
    // One for each connection out: behind it, a pod that fans out answers for all of its branches
    // together.
    let connections = gateway.downstreams.len();
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
    if acks.len() != payloads.len() * connections {
        problems.push(format!(
            "{} messages over {connections} connection(s) have {} acknowledgements",
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
        .hint("run `cargo xtask logs` for the pods' logs")
        .into());
    }
    Ok(ids
        .into_iter()
        .zip(payloads)
        .map(|(id, payload)| SentMessage {
            id,
            payload: Some(payload),
            took: took.get(&id).copied().flatten(),
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
            let last = Pinhole::of(sink)?.last_index().await?;
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
    let roots = roots(environment)?;
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
        let proof = check(&expectation, output, &roots).await?;
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
    roots: &[CertificateDer<'static>],
) -> anyhow::Result<Proof> {
    let expectation = expectation.clone();
    let roots = roots.to_vec();
    tokio::task::spawn_blocking(move || trail::check(&expectation, &output, &roots)).await?
}
