//! Claims that no volume comes for, and why, by their events.

use blueprint::{claim_name, failure::Failure};
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim};
use kube::api::ListParams;
use messages::WorkloadName;

use super::Cluster;

/// What an event says of a claim that no waiting helps: there is no class, or none of that name.
const FINAL_REASON: &str = "FailedBinding";
const FINAL_WORDS: &str = "not found";

/// A claim without a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unbound {
    claim: String,
    /// The claim, its phase and its last event.
    pub(super) words: String,
    /// Whether waiting cannot help: the claim or its class must be changed first.
    pub(super) is_final: bool,
}

impl Unbound {
    pub(super) fn failure(&self, cluster: &str, namespace: &str) -> Failure {
        Failure::infrastructure(format!("{cluster}: namespace {namespace}: {}", self.words)).hint(
            format!(
                "`kubectl get storageclass` lists what the cluster has: name one by `storage: {{class: …}}` in the blueprint, \
                 or do without a claim by `storage: {{ephemeral: true}}`; \
                 `kubectl --namespace {namespace} describe persistentvolumeclaim {}` shows more",
                self.claim
            ),
        )
    }
}

impl Cluster {
    /// The workload's claim where no volume is bound to it. An API server that does not tell is asked again at the next look.
    pub(super) async fn unbound_claim(&self, workload: &WorkloadName) -> Option<Unbound> {
        let (namespace, name) = (workload.namespace(), claim_name(workload));
        let claims = self.namespaced::<PersistentVolumeClaim>(&namespace);
        let claim = claims.get_opt(&name).await.ok()??;
        if is_bound(&claim) {
            return None;
        }
        let of_claim =
            format!("involvedObject.kind=PersistentVolumeClaim,involvedObject.name={name}");
        let of_claim = ListParams::default().fields(&of_claim);
        let events = self.namespaced::<Event>(&namespace).list(&of_claim).await;
        let events = events.map(|list| list.items).unwrap_or_default();
        Some(unbound(&claim, &events))
    }
}

pub(super) fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    phase(claim) == "Bound"
}

fn phase(claim: &PersistentVolumeClaim) -> &str {
    let status = claim.status.as_ref();
    status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}

fn unbound(claim: &PersistentVolumeClaim, events: &[Event]) -> Unbound {
    let name = claim.metadata.name.clone().unwrap_or_default();
    // One made before another of its name was deleted does not count.
    let own = events
        .iter()
        .filter(|event| event.involved_object.uid == claim.metadata.uid);
    let last = own.max_by_key(|event| {
        let seen = event.last_timestamp.as_ref().map(|time| time.0);
        let made = event
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0);
        seen.or(made)
    });
    let said = last.and_then(|event| event.message.as_deref());
    let reason = last.and_then(|event| event.reason.as_deref());
    let class = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.storage_class_name.as_deref());
    let of_class = match class {
        Some(class) if !class.is_empty() => format!("class `{class}`"),
        _ => "no class".to_owned(),
    };
    Unbound {
        words: format!(
            "claim {name} ({of_class}) is {}: {}",
            phase(claim),
            said.unwrap_or("no event yet").trim()
        ),
        claim: name,
        is_final: phase(claim) == "Lost"
            || reason == Some(FINAL_REASON)
            || said.is_some_and(|said| said.contains("storageclass") && said.contains(FINAL_WORDS)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claim(class: Option<&str>, phase: &str) -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": { "name": "data-sink-0", "uid": "1" },
            "spec": { "storageClassName": class },
            "status": { "phase": phase },
        }))
        .unwrap()
    }

    fn event(uid: &str, at: &str, reason: &str, message: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": {}, "involvedObject": { "uid": uid }, "lastTimestamp": at, "reason": reason, "message": message,
        }))
        .unwrap()
    }

    /// The messages are those of Kubernetes 1.34.
    #[test]
    fn a_claim_without_a_class_is_named() {
        let events = [
            event(
                "1",
                "2026-01-02T03:04:05Z",
                "FailedBinding",
                "no persistent volumes available for this claim and no storage class is set",
            ),
            event(
                "0",
                "2026-01-02T03:04:06Z",
                "ProvisioningSucceeded",
                "of another",
            ),
        ];
        let seen = unbound(&claim(None, "Pending"), &events);
        assert_eq!(
            seen.words,
            "claim data-sink-0 (no class) is Pending: no persistent volumes available for this claim and no storage class is set"
        );
        assert!(seen.is_final);
        let failure = seen.failure("cluster-b", "x-sink-ns");
        let hint = failure.next_step().unwrap();
        assert!(
            hint.contains("storage: {class: …}") && hint.contains("storage: {ephemeral: true}"),
            "{hint}"
        );
        assert!(
            failure
                .to_string()
                .starts_with("cluster-b: namespace x-sink-ns: claim data-sink-0"),
            "{failure}"
        );
    }

    #[test]
    fn only_what_no_waiting_helps_is_final() {
        let is_final = |reason: &str, message: &str| {
            let events = [event("1", "2026-01-02T03:04:05Z", reason, message)];
            unbound(&claim(Some("fast"), "Pending"), &events).is_final
        };
        assert!(is_final(
            "ProvisioningFailed",
            "storageclass.storage.k8s.io \"fast\" not found"
        ));
        assert!(!is_final(
            "ProvisioningFailed",
            "rpc error: code = ResourceExhausted desc = quota"
        ));
        assert!(!is_final(
            "WaitForFirstConsumer",
            "waiting for first consumer to be created before binding"
        ));
        assert!(!unbound(&claim(Some("fast"), "Pending"), &[]).is_final);
        assert!(unbound(&claim(Some("fast"), "Lost"), &[]).is_final);
        assert!(is_bound(&claim(None, "Bound")) && !is_bound(&claim(None, "Pending")));
    }
}
