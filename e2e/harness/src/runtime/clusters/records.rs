//! Writes pod records: the plan before deployment, the outcome after it.

use anyhow::Context as _;
use blueprint::plan::{PeerAddress, Plan, PodPlan};
use host::environment::Environment;

use crate::runtime::{
    clusters::deploy::Deployed,
    request::{State, planned},
};

/// Writes down every pod that is going to be; what is known of one already stays.
pub(crate) fn record_pods(environment: &mut Environment, plan: &Plan) -> anyhow::Result<()> {
    let layout = environment.layout().clone();
    let before = std::mem::take(&mut environment.record.pods);
    environment.record.pods = plan
        .pods
        .iter()
        .map(|pod| {
            let known = before.iter().find(|known| known.name == pod.name).cloned();
            known.unwrap_or_else(|| planned(&layout, pod))
        })
        .collect();
    environment.save()
}

/// Records running pods; `local_address` returns the address of a pod for this machine.
pub(crate) fn record_deployed(
    environment: &mut Environment,
    plan: &Plan,
    deployed: &[Deployed],
    local_address: impl Fn(&PodPlan, &Deployed) -> PeerAddress,
) -> anyhow::Result<()> {
    for each in deployed {
        let planned = plan
            .pod(&each.name)
            .with_context(|| format!("{} is not planned", each.name))?;
        let pod = environment
            .record
            .pod_mut(&each.name)
            .with_context(|| format!("{} is not recorded", each.name))?;
        pod.pod_name = each.live.name.clone();
        pod.node = each.live.node.clone();
        pod.load_balancer = Some(each.load_balancer.clone());
        pod.peer_address = Some(each.peer_address.clone());
        pod.local_address = Some(local_address(planned, each));
        pod.started_at = each.live.created_at.or(Some(each.applied_at));
        pod.ready_at = each.live.ready_at;
        pod.dialled_at = each.dialled_at;
    }
    environment.save()
}

/// Brings the state folder to what is left when nothing runs any more: nothing, or a record without clusters.
pub(crate) fn left(environment: &Environment, state: State) -> anyhow::Result<()> {
    match state {
        State::Remove => environment.layout().remove(),
        State::Keep => {
            let mut kept = environment.clone();
            kept.record.owner = None;
            kept.record.clusters.clear();
            kept.save()
        }
        // Where everything was is where it is looked for.
        State::Messages => Ok(()),
    }
}
