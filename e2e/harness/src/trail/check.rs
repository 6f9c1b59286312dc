//! Checks the messages of one sink against the expected ones.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use blueprint::failure::Failure;
use messages::{
    Hop, Message, Payload, WorkloadName,
    signature::{TrailError, TrailVerifier},
};
use rustls_pki_types::CertificateDer;
use uuid::Uuid;

use super::{
    Crossing, Expectation, Flow, Proof, Route, Sent, SentMessage, StoredMessage,
    proof::{short, write_route},
};

/// Most problems that one failure lists.
const MOST_LISTED: usize = 20;

/// Checks the whole `output` of a sink, as it was stored, against `expected`: count, order, each message once over each
/// route, payloads, the live pods in travel order, and every signature up to `roots`. Times are of several clocks, or of one
/// that may be set: none is compared.
///
/// # Errors
/// One [`Failure::product`] that lists every problem found, each with its message and hop (the first 20, then how many more).
pub fn check(
    expected: &Expectation,
    output: &[StoredMessage],
    roots: &[CertificateDer<'_>],
) -> anyhow::Result<Proof> {
    let ledger = Ledger::of(expected);
    let mut problems = order_of_storing(output);
    let mut arrived = HashMap::<_, Vec<_>>::new();
    let mut stations = vec![];
    let mut crossings = vec![];
    for stored in output {
        let found = ledger.find(stored, &mut problems);
        if let Some(place) = found {
            arrived.entry(place).or_default().push(&stored.message);
        }
        let route = found.and_then(|(flow, route)| expected.flows.get(flow)?.routes.get(route));
        let took = found.and_then(|(flow, _)| ledger.took(flow, &stored.message));
        crossings.push(Crossing::of(stored, took));
        stations.push((stored, route));
    }
    for (flow_number, flow) in expected.flows.iter().enumerate() {
        for (route_number, route) in flow.routes.iter().enumerate() {
            let seen = arrived.remove(&(flow_number, route_number));
            account(flow, route, &seen.unwrap_or_default(), &mut problems);
        }
    }
    problems.extend(signatures(&stations, roots));
    if problems.is_empty() {
        return Ok(Proof {
            blueprint: expected.blueprint.clone(),
            messages: crossings,
        });
    }
    Err(failure(&expected.blueprint, &problems).into())
}

fn failure(blueprint: &str, problems: &[String]) -> Failure {
    let count = problems.len();
    let s = if count == 1 { "" } else { "s" };
    let mut text = format!("`{blueprint}`: {count} problem{s} in what the sink has stored");
    for problem in problems.iter().take(MOST_LISTED) {
        text.push_str("\n  ");
        text.push_str(problem);
    }
    if count > MOST_LISTED {
        text.push_str(&format!("\n  and {} more", count - MOST_LISTED));
    }
    Failure::product(text)
        .hint("run `cargo xtask logs` for the logs of the named pods, starting with the gateway")
}

/// `seq 2 (…3f2a9c11)`
pub(super) fn label(stored: &StoredMessage) -> String {
    format!("seq {} ({})", stored.message.seq, short(stored.message.id))
}

fn route_of(trail: &[Hop]) -> String {
    let mut text = String::new();
    let places = trail
        .iter()
        .map(|hop| (hop.pod.as_str(), hop.cluster.as_str()));
    let _ = write_route(&mut text, places);
    if text.is_empty() {
        "an empty trail".into()
    } else {
        text
    }
}

fn order_of_storing(output: &[StoredMessage]) -> Vec<String> {
    output
        .windows(2)
        .filter_map(|pair| match pair {
            [before, after] if after.index <= before.index => Some(format!(
                "{}: index {} follows index {}",
                label(after),
                after.index,
                before.index
            )),
            _ => None,
        })
        .collect()
}

/// Finds for a stored message the flow and the route it belongs to.
struct Ledger<'a> {
    expected: &'a Expectation,
    listed: HashMap<Uuid, (usize, &'a SentMessage)>,
}

impl<'a> Ledger<'a> {
    fn of(expected: &'a Expectation) -> Self {
        let mut listed = HashMap::new();
        for (number, flow) in expected.flows.iter().enumerate() {
            if let Sent::Listed(messages) = &flow.sent {
                for message in messages {
                    listed.insert(message.id, (number, message));
                }
            }
        }
        Self { expected, listed }
    }

    /// Adds what is wrong with the message itself to `problems`; `None` if it belongs nowhere.
    fn find(&self, stored: &StoredMessage, problems: &mut Vec<String>) -> Option<(usize, usize)> {
        let message = &stored.message;
        let who = label(stored);
        if message.blueprint != self.expected.blueprint {
            problems.push(format!(
                "{who}: is of the blueprint `{}`",
                message.blueprint
            ));
        }
        if message.id.get_version_num() != 7 {
            problems.push(format!("{who}: its id {} is no UUIDv7", message.id));
        }
        let Some((number, payload)) = self.flow_of(stored) else {
            problems.push(format!(
                "{who}: was not expected; it came over {}",
                route_of(&message.trail)
            ));
            return None;
        };
        if let Some(payload) = payload.filter(|payload| **payload != message.payload) {
            problems.push(format!(
                "{who}: its payload was altered: sent {payload:?} ({} bytes), stored {:?} ({} bytes)",
                payload.len(),
                message.payload,
                message.payload.len()
            ));
        }
        let routes = &self.expected.flows.get(number)?.routes;
        let Some(route) = routes
            .iter()
            .position(|route| follows(route, &message.trail))
        else {
            problems.push(format!(
                "{who}: came over {}, expected {}",
                route_of(&message.trail),
                either(routes)
            ));
            return None;
        };
        hops(stored, routes.get(route)?, problems);
        Some((number, route))
    }

    /// How long a message of a flow took by its gateway's own clock.
    fn took(&self, flow: usize, message: &Message) -> Option<Duration> {
        match self.listed.get(&message.id) {
            Some((_, sent)) => sent.took,
            None => took_of_numbered(&self.expected.flows.get(flow)?.sent, message.seq),
        }
    }

    /// By its id where that is known, else the flow of numbered messages that starts where the trail does.
    fn flow_of(&self, stored: &StoredMessage) -> Option<(usize, Option<&'a Payload>)> {
        let first = stored.message.trail.first();
        let listed = self.listed.get(&stored.message.id);
        let listed = listed.map(|(number, sent)| (*number, sent.payload.as_ref()));
        listed.or_else(|| {
            let number = self.expected.flows.iter().position(|flow| {
                let source = flow.routes.first().and_then(|route| route.0.first());
                matches!(flow.sent, Sent::Numbered { .. })
                    && source
                        .zip(first)
                        .is_some_and(|(source, hop)| is_at(&source.name, hop))
            })?;
            Some((number, None))
        })
    }
}

fn took_of_numbered(sent: &Sent, seq: u64) -> Option<Duration> {
    let Sent::Numbered { first, took, .. } = sent else {
        return None;
    };
    let place = usize::try_from(seq.checked_sub(*first)?).ok()?;
    took.get(place).copied()
}

fn is_at(name: &WorkloadName, hop: &Hop) -> bool {
    hop.cluster == name.cluster() && hop.namespace == name.namespace()
}

fn follows(route: &Route, trail: &[Hop]) -> bool {
    route.0.len() == trail.len()
        && route
            .0
            .iter()
            .zip(trail)
            .all(|(station, hop)| is_at(&station.name, hop))
}

fn either(routes: &[Route]) -> String {
    match routes {
        [] => "none: the blueprint has no route".into(),
        [only] => only.to_string(),
        many => many
            .iter()
            .map(Route::to_string)
            .collect::<Vec<_>>()
            .join(" or "),
    }
}

/// What a trail of the right route may still have wrong.
fn hops(stored: &StoredMessage, route: &Route, problems: &mut Vec<String>) {
    let who = label(stored);
    let trail = &stored.message.trail;
    for (number, (station, hop)) in route.0.iter().zip(trail).enumerate() {
        let place = format!("{who}, hop {} (`{}`)", number + 1, hop.pod);
        if !station.pods.contains(&hop.pod) {
            let live: Vec<_> = station.pods.iter().map(|pod| format!("`{pod}`")).collect();
            problems.push(format!(
                "{place}: is no live pod of `{}`; alive: {}",
                station.name,
                live.join(", ")
            ));
        }
        if hop.role != station.role {
            problems.push(format!(
                "{place}: says it is a {}, expected {}",
                hop.role, station.role
            ));
        }
    }
}

/// Count, repeats and order of what came over one route.
fn account(flow: &Flow, route: &Route, seen: &[&Message], problems: &mut Vec<String>) {
    // What the messages are counted by: their number, or their place in the list of those sent.
    let (expected, known): (BTreeSet<u64>, HashMap<Uuid, u64>) = match &flow.sent {
        Sent::Numbered { first, count, .. } => (
            (*first..first.saturating_add(*count)).collect(),
            HashMap::new(),
        ),
        Sent::Listed(list) => {
            let known = list.iter().map(|message| message.id).zip(0..).collect();
            ((0..list.len() as u64).collect(), known)
        }
    };
    let mut missing = expected.clone();
    let mut places = HashSet::new();
    let mut ids = HashSet::new();
    let mut highest = None::<(u64, u64)>;
    for message in seen {
        let place = known.get(&message.id).copied().unwrap_or(message.seq);
        missing.remove(&place);
        if !expected.contains(&place) {
            problems.push(format!(
                "seq {} ({}): was not expected over {route}",
                message.seq,
                short(message.id)
            ));
        } else if !(places.insert(place) & ids.insert(message.id)) {
            problems.push(format!(
                "seq {} ({}): is stored more than once over {route}",
                message.seq,
                short(message.id)
            ));
        } else {
            match highest {
                Some((before, seq)) if place < before => problems.push(format!(
                    "seq {} ({}): is stored after seq {seq}, which was sent later",
                    message.seq,
                    short(message.id)
                )),
                _ => highest = Some((place, message.seq)),
            }
        }
    }
    if !missing.is_empty() {
        let names: Vec<_> = match &flow.sent {
            Sent::Numbered { .. } => missing.iter().map(|seq| format!("seq {seq}")).collect(),
            Sent::Listed(list) => list
                .iter()
                .zip(0..)
                .filter(|(_, place)| missing.contains(place))
                .map(|(message, place)| format!("number {} ({})", place + 1, short(message.id)))
                .collect(),
        };
        let more = match names.len().saturating_sub(5) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        problems.push(format!(
            "{} of {} messages are missing over {route}: {}{more}",
            missing.len(),
            expected.len(),
            names.iter().take(5).cloned().collect::<Vec<_>>().join(", ")
        ));
    }
}

/// Below this many messages, starting threads costs more than it saves.
const FEW: usize = 256;

/// Verifies every trail, on all cores: thousands of messages carry thousands of signatures.
fn signatures(
    stations: &[(&StoredMessage, Option<&Route>)],
    roots: &[CertificateDer<'_>],
) -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = stations.len().div_ceil(cores).max(FEW);
    std::thread::scope(|scope| {
        let workers: Vec<_> = stations
            .chunks(share)
            .map(|part| scope.spawn(|| signatures_of(part, roots)))
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    })
}

fn signatures_of(
    part: &[(&StoredMessage, Option<&Route>)],
    roots: &[CertificateDer<'_>],
) -> Vec<String> {
    let mut verifier = match TrailVerifier::new(roots) {
        Ok(verifier) => verifier,
        Err(error) => return vec![format!("trails cannot be verified: {error}")],
    };
    let mut problems = vec![];
    for (stored, route) in part {
        match verifier.examine(stored.message.id, &stored.message.trail) {
            Ok(signers) => {
                let names = route.iter().flat_map(|route| &route.0);
                for (number, (station, signer)) in names.zip(&signers).enumerate() {
                    if station.name != *signer {
                        problems.push(format!(
                            "{}, hop {}: signed by `{signer}`, expected `{}`",
                            label(stored),
                            number + 1,
                            station.name
                        ));
                    }
                }
            }
            Err(errors) => {
                let named = |error| format!("{}{}", label(stored), broken(error));
                problems.extend(errors.iter().map(named));
            }
        }
    }
    problems
}

/// `, hop 2 (`sink-1`): altered: …`
pub(super) fn broken(error: &TrailError) -> String {
    match error {
        TrailError::Hop {
            index,
            pod,
            problem,
        } => format!(", hop {} (`{pod}`): {problem}", index + 1),
        other => format!(": {other}"),
    }
}
