//! Check functions, each with a "must" sentence and the whole value in its message.

use std::{collections::BTreeMap, fmt::Write as _};

use harness::{proof::Verdict, trail::Crossing};
use messages::{Ack, Outcome, Payload};

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
    assert_routes(verdict, &[expected]);
}

/// Every message must have come once over each of these routes and over no other, each as for [`assert_route`].
#[track_caller]
pub fn assert_routes(verdict: &Verdict, expected: &[&[(&str, &str)]]) {
    let crossings: Vec<_> = verdict
        .sinks
        .iter()
        .flat_map(|sink| &sink.proof.messages)
        .collect();
    assert!(
        !crossings.is_empty(),
        "messages must have arrived: {verdict:#?}"
    );
    let mut seen: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for crossing in crossings {
        let route = expected.iter().position(|route| fits(crossing, route));
        let Some(route) = route else {
            panic!(
                "the trail must name {expected:?} in travel order: {}",
                crossing.route_text()
            );
        };
        seen.entry(crossing.id).or_default().push(route);
    }
    let each: Vec<usize> = (0..expected.len()).collect();
    for (id, mut routes) in seen {
        routes.sort_unstable();
        assert_eq!(
            routes, each,
            "message {id} must have come once over each of {expected:?}"
        );
    }
}

fn fits(crossing: &Crossing, route: &[(&str, &str)]) -> bool {
    crossing.route.len() == route.len()
        && crossing
            .route
            .iter()
            .zip(route)
            // The pod's own name is the deployment's with a suffix.
            .all(|(place, (cluster, pod))| {
                place.cluster == *cluster && place.pod.starts_with(&format!("{pod}-"))
            })
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
    fn payloads_have_the_size_that_is_asked_for() {
        assert_eq!(payload_of(1024).len(), 1024);
        let all = payloads(3);
        assert_ne!(all[0], all[1]);
    }
}
