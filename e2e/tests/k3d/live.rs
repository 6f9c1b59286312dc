//! What the Kubernetes API says of pods that carried messages.

use anyhow::Context as _;
use e2e::testing::assert_delivered;
use harness::{pinhole::Pinhole, proof};
use host::{environment::PodRecord, select};
use identity::Root;
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Node, Pod},
};
use kube::{Api, ResourceExt as _};
use messages::signature::verify_trail;

use crate::scene::{BLUEPRINTS, Scene};

#[tokio::test]
#[ignore = "needs k3d: .ci/k3d"]
async fn trails_name_live_pods() -> anyhow::Result<()> {
    let scene = &Scene::shared().await?;
    let root = Root::load(&scene.environment.layout().identity())?;
    let stranger = Root::create("stranger")?;
    for blueprint in BLUEPRINTS {
        for sink in select::sinks(&scene.environment.record, blueprint) {
            let pinhole = Pinhole::of(sink)?;
            let before = pinhole.last_index().await?;
            let verdict = proof::again(&scene.environment, blueprint, scene.timeline()).await?;
            assert_delivered(&verdict, 5);

            let audit = proof::audit_sink(&scene.environment, sink).await?;
            assert_eq!(audit.findings, vec![]);
            assert!(audit.messages >= 10, "its own five, and these: {audit:?}");
            assert_eq!(audit.hops, 2 * audit.messages);
            let stored = pinhole.output(before).await?;
            assert_eq!(stored.len(), 5, "the sink must hold what was sent");
            for stored in stored {
                let message = stored.message;
                let names = verify_trail(
                    message.id,
                    &message.trail,
                    &[root.certificate_der().clone()],
                )?;
                let other = [stranger.certificate_der().clone()];
                assert!(
                    verify_trail(message.id, &message.trail, &other).is_err(),
                    "a trail must not be good for another root"
                );
                assert_eq!(names.len(), 2, "one hop in each cluster: {names:?}");
                assert_eq!(
                    (names[0].cluster(), names[1].cluster()),
                    ("cluster-a", "cluster-b")
                );
                for (name, hop) in names.iter().zip(&message.trail) {
                    is_live(scene, name.cluster(), &hop.namespace, &hop.pod, &hop.node).await?;
                }
            }
        }
    }
    Ok(())
}

/// The pod runs on this node of this cluster, and of no other cluster.
async fn is_live(
    scene: &Scene,
    cluster: &str,
    namespace: &str,
    pod: &str,
    node: &str,
) -> anyhow::Result<()> {
    for (name, connected) in &scene.clusters {
        let found = Api::<Pod>::namespaced(connected.client(), namespace)
            .get_opt(pod)
            .await?;
        if name != cluster {
            assert!(
                found.is_none(),
                "{pod} must be in {cluster} alone, not in {name}"
            );
            continue;
        }
        let found = found.with_context(|| format!("{cluster} has no pod {namespace}/{pod}"))?;
        let status = found.status.clone().unwrap_or_default();
        assert_eq!(status.phase.as_deref(), Some("Running"), "{pod} must run");
        assert!(
            found.metadata.deletion_timestamp.is_none(),
            "{pod} must stay"
        );
        let spec = found.spec.context("a pod has a spec")?;
        assert_eq!(
            spec.node_name.as_deref(),
            Some(node),
            "the trail must name the node of {pod}"
        );
        Api::<Node>::all(connected.client())
            .get(node)
            .await
            .with_context(|| format!("{cluster} has no node {node}"))?;
    }
    Ok(())
}

/// Kubernetes has times in whole seconds, so both sides are cut to that.
#[tokio::test]
#[ignore = "needs k3d: .ci/k3d"]
async fn sink_is_dialled_before_gateway_exists() -> anyhow::Result<()> {
    let scene = &Scene::shared().await?;
    let record = &scene.environment.record;
    for blueprint in BLUEPRINTS {
        let sink = select::sinks(record, blueprint).next().context("a sink")?;
        let gateway = select::gateways(record, blueprint)
            .next()
            .context("a gateway")?;
        let ready = ready_at(scene, sink).await?.as_second();
        let dialled = sink.dialled_at.context("the sink was dialled")?.as_second();
        assert!(
            ready <= dialled,
            "{blueprint}: ready {ready}, dialled {dialled}"
        );
        let client = scene.cluster(gateway.name.cluster())?.client();
        let namespace = Api::<Namespace>::all(client.clone())
            .get(&gateway.namespace)
            .await?;
        let deployment = Api::<Deployment>::namespaced(client, &gateway.namespace)
            .get(gateway.name.pod())
            .await?;
        for created in [
            namespace.creation_timestamp(),
            deployment.creation_timestamp(),
        ] {
            let created = created.context("a time of creation")?.0.as_second();
            assert!(
                dialled <= created,
                "{blueprint}: the sink was dialled at {dialled}, an object of the gateway is of {created}"
            );
        }
    }
    Ok(())
}

/// When the pod became ready, by the API.
async fn ready_at(scene: &Scene, record: &PodRecord) -> anyhow::Result<Timestamp> {
    let client = scene.cluster(record.name.cluster())?.client();
    let pod = Api::<Pod>::namespaced(client, &record.namespace)
        .get(&record.pod_name)
        .await?;
    let conditions = pod.status.and_then(|status| status.conditions);
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready" && condition.status == "True");
    let ready = ready.with_context(|| format!("{} must be ready", record.pod_name))?;
    Ok(ready.last_transition_time.context("a time")?.0)
}
