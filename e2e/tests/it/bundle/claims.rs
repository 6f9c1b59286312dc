//! What the scripts do about the disk of a sink.

use super::fake::{Operator, context};

const FERRY: &str = "international-ferry";

fn deploy(cluster: &str) -> String {
    format!("./deploy-{cluster}.sh --cluster {}", context(cluster))
}

#[test]
fn a_sink_of_an_earlier_bundle_is_left_alone() {
    let operator = Operator::new(FERRY, &[]);
    operator.set("earlier", "");
    operator.expect(&deploy("cluster-b"), 3, "delete deployment sink");
    assert!(
        !operator.calls().contains("apply"),
        "nothing may be applied"
    );
    // Of a gateway it is what it must be.
    operator.expect(&(deploy("cluster-a") + " --address 192.0.2.1"), 0, "done");
}

#[test]
fn a_claim_without_a_volume_is_named() {
    let operator = Operator::new(FERRY, &[]);
    operator.set("claim", "Pending");
    operator.set("unready", "1");
    operator.set(
        "claim-event",
        "ExternalProvisioning: waiting for a volume\n",
    );
    operator.expect(
        &deploy("cluster-b"),
        0,
        "waits for a volume: ExternalProvisioning: waiting",
    );
    operator.set("unready", "1");
    let none = "WaitForFirstConsumer: first\nFailedBinding: no storage class is set\n";
    operator.set("claim-event", none);
    operator.expect(
        &deploy("cluster-b"),
        3,
        "gets no volume: FailedBinding: no storage class",
    );
    operator.set("unready", "1");
    operator.set(
        "claim-event",
        "ProvisioningFailed: storageclass.storage.k8s.io \"fast\" not found\n",
    );
    operator.expect(&deploy("cluster-b"), 3, "storage: {ephemeral: true}");
}
