//! What a sink's messages lie on.

use serde_json::{Value, json};

use super::*;

/// The controller of the sink where the blueprint says `storage` of it.
fn sink(storage: &str) -> Value {
    let text = format!(
        "name: x\ntitle: X\nprotocol: grpc\nclusters: [a]\npods:\n\
         - {{ name: gate, role: gateway, cluster: a, port: 30100 }}\n\
         - {{ name: sink, role: sink, cluster: a, port: 30200{storage} }}\n\
         connections:\n- {{ from: gate, to: sink }}\n"
    );
    let blueprint = Blueprint::parse(&text, Path::new("x.yaml")).unwrap();
    let plan = Plan::of(&[blueprint], Ports::AsWritten, &|_| Sockets::in_pod()).unwrap();
    let options = Options {
        environment: "test",
        target: Target::Generic,
        images: &Images::checked_in(),
        peers: &BTreeMap::new(),
        secrets: &PodSecrets::unset(),
        settings: &BTreeMap::new(),
    };
    let planned = plan.pods.iter().find(|pod| pod.storage.is_some()).unwrap();
    let manifests = pod(planned, &options).unwrap();
    let last = manifests.last().unwrap();
    assert_eq!(last.file, "07-statefulset.yaml");
    serde_json::to_value(&last.objects[0]).unwrap()
}

#[test]
fn a_sink_stores_on_a_claim_of_its_own() {
    let set = sink("");
    let spec = &set["spec"];
    assert_eq!(set["kind"], "StatefulSet");
    assert_eq!(
        (&spec["replicas"], &spec["serviceName"]),
        (&json!(1), &json!("sink"))
    );
    // A broken pod would hold up the update that mends it otherwise.
    assert_eq!(spec["podManagementPolicy"], "Parallel");
    let retain = json!({ "whenDeleted": "Retain", "whenScaled": "Retain" });
    assert_eq!(spec["persistentVolumeClaimRetentionPolicy"], retain);
    let claim = &spec["volumeClaimTemplates"][0];
    assert_eq!(claim["metadata"]["name"], "data");
    let wanted = json!({ "accessModes": ["ReadWriteOncePod"], "resources": { "requests": { "storage": "5Gi" } } });
    assert_eq!(claim["spec"], wanted);
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["securityContext"]["fsGroup"], USER);
    assert_eq!(
        pod["securityContext"]["fsGroupChangePolicy"],
        "OnRootMismatch"
    );
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    let data = mounts.iter().find(|mount| mount["name"] == "data").unwrap();
    assert_eq!(data["mountPath"], "/var/lib/ferry");
    let volumes = pod["volumes"].as_array().unwrap();
    assert!(
        volumes.iter().all(|volume| volume["name"] != "data"),
        "the claim is the volume"
    );
}

#[test]
fn size_and_class_are_those_of_the_blueprint() {
    let set = sink(", storage: { size: 20Gi, class: fast }");
    let claim = &set["spec"]["volumeClaimTemplates"][0]["spec"];
    assert_eq!(claim["storageClassName"], "fast");
    assert_eq!(claim["resources"]["requests"]["storage"], "20Gi");
}

#[test]
fn an_ephemeral_sink_asks_its_node_for_the_room() {
    let set = sink(", storage: { ephemeral: true }");
    assert!(set["spec"]["volumeClaimTemplates"].is_null());
    assert!(set["spec"]["persistentVolumeClaimRetentionPolicy"].is_null());
    let pod = &set["spec"]["template"]["spec"];
    let volumes = pod["volumes"].as_array().unwrap();
    let data = volumes
        .iter()
        .find(|volume| volume["name"] == "data")
        .unwrap();
    assert_eq!(data["emptyDir"], json!({ "sizeLimit": "5Gi" }));
    let app = &pod["containers"][0]["resources"];
    assert_eq!(app["requests"]["ephemeral-storage"], "5Gi");
    assert!(app["limits"]["ephemeral-storage"].is_null());
}
