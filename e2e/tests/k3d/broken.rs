//! Deployments that will not heal: the harness must say why, and not wait until its deadline.

use std::time::Duration;

use anyhow::Context as _;
use blueprint::failure::Failure;
use cluster::kubernetes::{Cluster, LivePod};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, api::DeleteParams};
use messages::WorkloadName;
use render::{Controller, Object};
use serde_json::{Value, json};

use crate::scene::Scene;

/// Far beyond what it takes to see that something will not heal.
const LIMIT: Duration = Duration::from_secs(90);
const BLUEPRINT: &str = "broken";
const CLUSTER: &str = "cluster-b";

#[tokio::test]
#[ignore = "needs k3d: .ci/k3d"]
async fn broken_rollouts_report_cause() -> anyhow::Result<()> {
    let scene = &Scene::shared().await?;
    let cluster = scene.cluster(CLUSTER)?;
    let image = own_image(scene).await?;
    let healthy = json!({ "image": image, "imagePullPolicy": "Never" });
    let variant = |field: &str, value: Value| {
        let mut container = healthy.clone();
        container[field] = value;
        container
    };
    // Side by side: each takes seconds of waiting for a kubelet or a scheduler.
    let (absent, crashing, large) = tokio::join!(
        roll_out(
            scene,
            "absent",
            variant("image", json!("ferry/services:absent"))
        ),
        roll_out(scene, "crashing", variant("command", json!(["/probe"]))),
        roll_out(
            scene,
            "large",
            variant("resources", json!({ "requests": { "memory": "900Ti" } }))
        ),
    );
    let absent = absent.unwrap_err();
    assert_names(&absent, &["ErrImageNeverPull", "ferry/services:absent"]);
    let crashing = crashing.unwrap_err();
    assert_names(&crashing, &["crashed", "exit code 2", "usage: probe"]);
    let large = large.unwrap_err();
    assert_names(&large, &["cannot be scheduled", "Insufficient memory"]);
    for pod in ["absent", "crashing", "large"] {
        remove(cluster, &workload(pod)?).await?;
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs k3d: .ci/k3d"]
async fn port_conflict_names_holder() -> anyhow::Result<()> {
    let scene = &Scene::shared().await?;
    const PORT: u16 = 31_999;
    let cluster = scene.cluster(CLUSTER)?;
    let (holder, late) = (workload("holder")?, workload("late")?);
    let step = scene.timeline().step("conflict");
    apply_service(cluster, &holder, PORT).await?;
    cluster
        .load_balancer_address(&holder, PORT, LIMIT, &step)
        .await
        .context("the first to come must get the port")?;
    apply_service(cluster, &late, PORT).await?;
    let error = cluster
        .load_balancer_address(&late, PORT, LIMIT, &step)
        .await
        .unwrap_err();
    let service = format!("Service {}/holder", holder.namespace());
    assert_names(&error, &["port 31999", &service, CLUSTER]);
    for workload in [&late, &holder] {
        remove(cluster, workload).await?;
    }
    Ok(())
}

/// A failure of the infrastructure that names these, before the deadline.
#[track_caller]
fn assert_names(error: &anyhow::Error, parts: &[&str]) {
    let text = format!("{error:#}");
    for part in parts {
        assert!(text.contains(part), "`{part}` must be in: {text}");
    }
    assert!(
        !text.contains("did not come within"),
        "the deadline must not be waited for: {text}"
    );
    assert_eq!(Failure::exit_code(error), 3, "{text}");
}

fn workload(pod: &str) -> anyhow::Result<WorkloadName> {
    Ok(WorkloadName::new(BLUEPRINT, CLUSTER, pod)?)
}

/// The image with the service binaries, as the pods name it.
pub(crate) async fn own_image(scene: &Scene) -> anyhow::Result<String> {
    let record = scene.environment.record.pods.first().context("a pod")?;
    let cluster = scene.cluster(record.name.cluster())?;
    // Another one by now than the record has.
    let live = cluster.live_pods(&record.name).await?;
    let pod = Api::<Pod>::namespaced(cluster.client(), &record.namespace)
        .get(&live.first().context("a live pod")?.name)
        .await?;
    let containers = pod.spec.context("a spec")?.containers;
    let app = containers.into_iter().find(|each| each.name == "app");
    app.and_then(|app| app.image).context("an image")
}

async fn roll_out(scene: &Scene, pod: &str, container: Value) -> anyhow::Result<LivePod> {
    let (cluster, workload) = (scene.cluster(CLUSTER)?, workload(pod)?);
    make_namespace(cluster, &workload).await?;
    let labels = labels(&workload);
    let mut container = container;
    container["name"] = json!("app");
    // As every pod of ours has one; without it, a container is ready in the moment before it crashes.
    container["startupProbe"] = json!({ "httpGet": { "path": "/health", "port": 8000 } });
    let deployment = serde_json::from_value(json!({
        "metadata": { "name": pod, "namespace": workload.namespace() },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "terminationGracePeriodSeconds": 0, "containers": [container] },
            },
        },
    }))?;
    cluster
        .apply(&[Object::Deployment(Box::new(deployment))])
        .await?;
    let step = scene.timeline().step(pod);
    cluster
        .rolled_out(&workload, Controller::Deployment, LIMIT, &step)
        .await
}

fn labels(workload: &WorkloadName) -> Value {
    json!({
        "app.kubernetes.io/name": workload.pod(),
        "app.kubernetes.io/instance": workload.blueprint(),
    })
}

async fn make_namespace(cluster: &Cluster, workload: &WorkloadName) -> anyhow::Result<()> {
    let namespace =
        serde_json::from_value(json!({ "metadata": { "name": workload.namespace() } }))?;
    cluster.apply(&[Object::Namespace(namespace)]).await
}

async fn apply_service(
    cluster: &Cluster,
    workload: &WorkloadName,
    port: u16,
) -> anyhow::Result<()> {
    make_namespace(cluster, workload).await?;
    let service = serde_json::from_value(json!({
        "metadata": { "name": workload.pod(), "namespace": workload.namespace() },
        "spec": {
            "type": "LoadBalancer",
            "selector": labels(workload),
            "ports": [{ "port": port, "protocol": "TCP" }],
        },
    }))?;
    cluster.apply(&[Object::Service(service)]).await
}

async fn remove(cluster: &Cluster, workload: &WorkloadName) -> anyhow::Result<()> {
    Api::<Namespace>::all(cluster.client())
        .delete(&workload.namespace(), &DeleteParams::default())
        .await?;
    Ok(())
}
