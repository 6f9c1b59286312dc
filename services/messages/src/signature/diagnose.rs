//! Finds out how a broken trail was changed, from what each signer declares to have signed.

use std::collections::HashSet;

use super::{
    HopProblem,
    canonical::TrailHash,
    jws::{Detached, Header},
};
use crate::Hop;

/// Replaces each [`HopProblem::Dropped`] by the actual change, and omits hops that only follow a
/// broken one. It never decides whether a trail is valid: a valid trail has no problem to replace.
pub(super) fn diagnose(
    trail: &[Hop],
    broken: Vec<(usize, HopProblem)>,
) -> Vec<(usize, HopProblem)> {
    let is_unclear =
        |(_, problem): &(usize, HopProblem)| matches!(problem, HopProblem::Dropped { .. });
    if !broken.iter().any(is_unclear) {
        return broken;
    }
    let signed: Vec<_> = trail.iter().map(signed_before).collect();
    let order = order(trail, &signed);
    let mut clear = vec![];
    for (index, problem) in broken {
        let HopProblem::Dropped { signer } = problem else {
            clear.push((index, problem));
            continue;
        };
        let before = trail.get(..index).unwrap_or_default();
        let hop = trail.get(index);
        let problem = if let Some(first) = before.iter().position(|earlier| Some(earlier) == hop) {
            HopProblem::Repeated {
                signer,
                first: first + 1,
            }
        } else if let Some(place) = order.iter().position(|at| *at == index)
            && order.len() == trail.len()
            && place != index
        {
            HopProblem::Reordered {
                signer,
                place: place + 1,
            }
        } else if !clear.is_empty() {
            continue;
        } else if let Some(extra) = signed
            .get(index)
            .and_then(Option::as_ref)
            .and_then(|signed| extra_hop(before, signed))
        {
            HopProblem::Added {
                signer,
                extra: extra + 1,
            }
        } else {
            HopProblem::Dropped { signer }
        };
        clear.push((index, problem));
    }
    clear
}

/// Returns the hash of the trail before the hop, as declared by its signer.
fn signed_before(hop: &Hop) -> Option<String> {
    let jws = Detached::parse(&hop.signature).ok()?;
    let header = Header::parse(&jws.header_json).ok()?;
    Some(header.ferry?.before)
}

/// Returns the hops in the order in which they were signed, as far as one leads to the next.
fn order(trail: &[Hop], signed: &[Option<String>]) -> Vec<usize> {
    let mut hash = TrailHash::new();
    let mut order = vec![];
    let mut taken = HashSet::new();
    loop {
        let wanted = hash.text();
        let next = signed.iter().enumerate().position(|(index, before)| {
            !taken.contains(&index) && before.as_ref() == Some(&wanted)
        });
        let Some((index, hop)) = next.and_then(|index| Some((index, trail.get(index)?))) else {
            return order;
        };
        taken.insert(index);
        order.push(index);
        hash.push(hop);
    }
}

/// Returns the hop of `before` without which its hash is `signed`.
fn extra_hop(before: &[Hop], signed: &str) -> Option<usize> {
    (0..before.len()).find(|extra| {
        let mut hash = TrailHash::new();
        for (index, hop) in before.iter().enumerate() {
            if index != *extra {
                hash.push(hop);
            }
        }
        hash.text() == signed
    })
}
