//! Order in which the clusters' scripts run. Does no I/O.

use std::collections::BTreeSet;

use blueprint::plan::{Plan, PodPlan};

/// One run of a cluster's script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) cluster: String,
    /// The pods it brings up.
    pub(super) pods: Vec<String>,
    /// The pod that it stops at, since an address is not known yet that a later step finds out.
    pub(super) stops_at: Option<String>,
}

/// As few runs as there can be; more than one for a cluster only where its pods are on both sides of another's.
pub(super) fn steps(plan: &Plan) -> Vec<Step> {
    let mut left: Vec<&PodPlan> = plan.pods.iter().collect();
    let mut steps = vec![];
    while let Some(step) = next(&left) {
        left.retain(|pod| {
            pod.name.cluster() != step.cluster || !step.pods.iter().any(|up| up == pod.name.pod())
        });
        steps.push(step);
    }
    steps
}

/// A cluster that can be completed, else one that can be begun.
fn next(left: &[&PodPlan]) -> Option<Step> {
    let clusters: BTreeSet<&str> = left.iter().map(|pod| pod.name.cluster()).collect();
    let runs: Vec<Step> = clusters
        .into_iter()
        .map(|cluster| run(left, cluster))
        .filter(|step| !step.pods.is_empty())
        .collect();
    let complete = runs.iter().find(|step| step.stops_at.is_none());
    complete.or(runs.first()).cloned()
}

/// What a cluster's script does while these pods are not there: one after the other, up to the first that it cannot bring up.
fn run(left: &[&PodPlan], cluster: &str) -> Step {
    let mut step = Step {
        cluster: cluster.into(),
        pods: vec![],
        stops_at: None,
    };
    let waits = |pod: &PodPlan, up: &[String]| {
        pod.egress.iter().any(|out| {
            let is_left = left.iter().any(|other| other.name == out.target);
            let is_up =
                out.target.cluster() == cluster && up.iter().any(|name| name == out.target.pod());
            is_left && !is_up
        })
    };
    for pod in left.iter().filter(|pod| pod.name.cluster() == cluster) {
        let name = pod.name.pod().to_owned();
        if waits(pod, &step.pods) {
            step.stops_at = Some(name);
            break;
        }
        step.pods.push(name);
    }
    step
}
