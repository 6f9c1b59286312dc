//! Audits a sink's output with nothing but the roots, without knowing what was sent.
//! `services/messages/docs/signature.md` describes each check for other languages.

use std::{collections::HashMap, fmt};

use blueprint::failure::Failure;
use messages::{
    Role, WorkloadName,
    signature::{TrailError, TrailVerifier},
};
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use uuid::Uuid;

use super::{
    Route, StoredMessage,
    check::{broken, label},
};

/// What is known of the place besides the roots, where the environment is at hand.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The sink whose output it is.
    pub sink: WorkloadName,
    /// Every way to it.
    pub routes: Vec<Route>,
}

/// What came out of an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    pub messages: usize,
    /// Signatures that were looked at.
    pub hops: usize,
    /// In the order of the output.
    pub findings: Vec<Finding>,
}

/// One thing that is wrong with a sink's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Of the stored message.
    pub index: u64,
    pub seq: u64,
    pub id: Uuid,
    /// From 1; `None` where the message as a whole is wrong.
    pub hop: Option<usize>,
    /// The hop's claims.
    pub pod: Option<String>,
    /// In one word, the same in every implementation.
    pub problem: &'static str,
    /// The same as a sentence that names message, hop and pod.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Finding {
    fn of_message(stored: &StoredMessage, problem: &'static str, what: impl fmt::Display) -> Self {
        Self {
            index: stored.index,
            seq: stored.message.seq,
            id: stored.message.id,
            hop: None,
            pod: None,
            problem,
            text: format!("{}: {what}", label(stored)),
        }
    }

    fn of_trail(stored: &StoredMessage, error: &TrailError) -> Self {
        let text = format!("{}{}", label(stored), broken(error));
        match error {
            TrailError::Hop {
                index,
                pod,
                problem,
            } => Self {
                hop: Some(index + 1),
                pod: Some(pod.clone()),
                text,
                ..Self::of_message(stored, problem.word(), "")
            },
            _ => Self {
                text,
                ..Self::of_message(stored, "too-long", "")
            },
        }
    }
}

/// Checks every trail of `output` against `roots`, that each is whole, and that the output is: none missing in between, none twice.
///
/// # Errors
///
/// Where `roots` cannot be used.
pub fn audit(
    output: &[StoredMessage],
    roots: &[CertificateDer<'_>],
    scene: Option<&Scene>,
) -> anyhow::Result<Audit> {
    let mut verifier = TrailVerifier::new(roots).map_err(|error| {
        Failure::usage(error.to_string()).hint(
            "pass the environment's root in PEM with `--roots \
                                                FILE`",
        )
    })?;
    let mut audit = Audit {
        messages: output.len(),
        ..Audit::default()
    };
    let mut seen = HashMap::new();
    let mut last: Option<&StoredMessage> = None;
    for stored in output {
        audit.hops += stored.message.trail.len();
        if let Some(last) = last {
            audit.findings.extend(after(last, stored));
        }
        last = Some(stored);
        match verifier.examine(stored.message.id, &stored.message.trail) {
            Ok(signers) => {
                let key = (stored.message.id, signers);
                audit.findings.extend(whole(stored, &key.1, scene));
                if let Some(first) = seen.get(&key) {
                    audit.findings.push(Finding::of_message(
                        stored,
                        "stored-twice",
                        format_args!("replayed: it is stored already, with index {first}"),
                    ));
                } else {
                    seen.insert(key, stored.index);
                }
            }
            Err(errors) => audit
                .findings
                .extend(errors.iter().map(|error| Finding::of_trail(stored, error))),
        }
    }
    Ok(audit)
}

/// A stored message beside the one before it.
fn after(before: &StoredMessage, stored: &StoredMessage) -> Option<Finding> {
    let finding = |problem, what: fmt::Arguments<'_>| Finding::of_message(stored, problem, what);
    if stored.index <= before.index {
        Some(finding(
            "out-of-order",
            format_args!("index {} follows index {}", stored.index, before.index),
        ))
    } else if stored.index - before.index > 1 {
        Some(finding(
            "messages-missing",
            format_args!(
                "{} messages before it are missing: index {} follows index {}",
                stored.index - before.index - 1,
                stored.index,
                before.index
            ),
        ))
    } else {
        None
    }
}

/// A trail whose hops are all good: does it go from a gateway to this sink, and belong to this message?
fn whole(
    stored: &StoredMessage,
    signers: &[WorkloadName],
    scene: Option<&Scene>,
) -> Option<Finding> {
    let message = &stored.message;
    let finding = |problem, what: fmt::Arguments<'_>| Finding::of_message(stored, problem, what);
    let (Some(first), Some(last)) = (message.trail.first(), message.trail.last()) else {
        return Some(finding(
            "incomplete",
            format_args!("dropped: its trail is empty"),
        ));
    };
    let end = signers.last();
    let ends_here = match scene {
        Some(scene) => end == Some(&scene.sink),
        None => last.role == Role::Sink,
    };
    if first.role != Role::Gateway || !ends_here {
        let at = |name: Option<&WorkloadName>| name.map(ToString::to_string).unwrap_or_default();
        return Some(finding(
            "incomplete",
            format_args!(
                "dropped: its trail goes from {} ({}) to {} ({}), not from a gateway to {}",
                at(signers.first()),
                first.role,
                at(end),
                last.role,
                scene.map_or_else(|| "a sink".into(), |scene| scene.sink.to_string())
            ),
        ));
    }
    if let Some(stranger) = signers
        .iter()
        .find(|name| name.blueprint() != message.blueprint)
    {
        return Some(finding(
            "other-blueprint",
            format_args!(
                "altered: it says it is of the blueprint `{}`, but {stranger} carried it",
                message.blueprint.escape_debug()
            ),
        ));
    }
    if let Some(scene) = scene
        && !scene.routes.iter().any(|route| is_route(route, signers))
    {
        let names: Vec<_> = signers.iter().map(ToString::to_string).collect();
        return Some(finding(
            "other-route",
            format_args!("no route of the blueprint is {}", names.join(" -> ")),
        ));
    }
    None
}

fn is_route(route: &Route, signers: &[WorkloadName]) -> bool {
    route.0.iter().map(|station| &station.name).eq(signers)
}
