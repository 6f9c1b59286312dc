//! What the API servers say to the names that a blueprint may have, at the edges of what the check lets through.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context as _;
use blueprint::{
    Blueprint, Target,
    plan::{Plan, Ports, Sockets},
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};
use render::{self, FIELD_MANAGER, Images, Object, Options, PodSecrets};
use serde_json::Value;

use crate::{manifests::api, scene::Scene};

/// Blueprint, cluster, pod. The longest ones fill the namespace to its last character.
fn edges() -> Vec<[String; 3]> {
    let long = |letter: &str, count| letter.repeat(count);
    let named = |names: [&str; 3]| names.map(str::to_owned);
    vec![
        named(["a", "b", "c"]),
        named(["7-seas", "1st", "sink"]),
        named(["0x1f", "1e3", "no"]),
        named(["12", "2001-01-01", "y"]),
        named(["null", "true", "on"]),
        named(["kubelet", "default", "kubernetes"]),
        named(["a--b", "c--d", "e--f"]),
        named(["xn--bcher-kva", "localhost", "default"]),
        [long("a", 58), long("b", 63), "c".into()],
        [long("a", 7), "b".into(), long("c", 52)],
        [long("1", 20), long("2", 63), long("s", 39)],
    ]
}

/// Others that nobody chose: the same ones every time.
fn drawn(count: usize) -> anyhow::Result<Vec<[String; 3]>> {
    let mut runner =
        TestRunner::new_with_rng(Config::default(), TestRunner::deterministic().new_rng());
    let name = || "[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?";
    (0..count)
        .map(|_| {
            let tree = (name(), name(), name())
                .new_tree(&mut runner)
                .map_err(|error| anyhow::anyhow!("no name could be drawn: {error}"))?;
            let (blueprint, cluster, pod) = tree.current();
            Ok([blueprint, cluster, pod])
        })
        .collect()
}

fn parse([blueprint, cluster, pod]: &[String; 3]) -> Option<Blueprint> {
    let text = format!(
        "name: '{blueprint}'\ntitle: Names\nprotocol: grpc\nclusters: ['{cluster}']\npods:\n  \
         - {{name: g, role: gateway, cluster: '{cluster}', port: 30100, pinhole: true}}\n  \
         - {{name: '{pod}', role: sink, cluster: '{cluster}', port: 30200, pinhole: true}}\n\
         connections:\n  - {{from: g, to: '{pod}'}}\n"
    );
    Blueprint::parse(&text, Path::new("names.yaml")).ok()
}

/// Every object of every blueprint that the check lets through is taken. The namespaces are asked for only, so what is in them is
/// asked of one that is there.
#[tokio::test]
#[ignore = "needs k3d: .ci/k3d"]
async fn names_pass_server_validation() -> anyhow::Result<()> {
    let scene = &Scene::shared().await?;
    let client = scene.cluster("cluster-a")?.client();
    let record = scene.environment.record.pods.first().context("a pod")?;
    let there = scene
        .environment
        .record
        .pods
        .iter()
        .find(|pod| pod.name.cluster() == "cluster-a")
        .unwrap_or(record)
        .namespace
        .clone();
    Api::<Namespace>::all(client.clone()).get(&there).await?;
    let must = edges();
    let blueprints: Vec<_> = must
        .iter()
        .map(|names| parse(names).with_context(|| format!("{names:?} must pass the check")))
        .chain(drawn(40)?.iter().filter_map(parse).map(Ok))
        .collect::<anyhow::Result<_>>()?;
    assert!(blueprints.len() > must.len() + 10, "too few were drawn");
    let params = PatchParams {
        dry_run: true,
        ..PatchParams::apply(FIELD_MANAGER)
            .force()
            .validation_strict()
    };
    for blueprint in &blueprints {
        for object in objects(blueprint)? {
            let mut value = serde_json::to_value(&object)?;
            let kind = value["kind"].clone();
            if kind != "Namespace" {
                value["metadata"]["namespace"] = Value::from(there.clone());
            }
            let object: DynamicObject = serde_json::from_value(value)?;
            let types = object.types.clone().context("a kind")?;
            let name = object.metadata.name.clone().context("a name")?;
            api(client.clone(), &types, object.metadata.namespace.as_deref())
                .await?
                .patch(&name, &params, &Patch::Apply(&object))
                .await
                .with_context(|| format!("{}: {kind} {name}", blueprint.name))?;
        }
    }
    refused(client, &there, &params).await
}

/// The rule that the check keeps for Services is the server's own.
async fn refused(
    client: kube::Client,
    namespace: &str,
    params: &PatchParams,
) -> anyhow::Result<()> {
    let blueprint = parse(&["a", "b", "c"].map(str::to_owned)).context("a blueprint")?;
    let service = objects(&blueprint)?
        .into_iter()
        .find(|object| matches!(object, Object::Service(_)))
        .context("a Service")?;
    let mut value = serde_json::to_value(service)?;
    value["metadata"]["namespace"] = Value::from(namespace);
    value["metadata"]["name"] = Value::from("2nd-sink");
    let object: DynamicObject = serde_json::from_value(value)?;
    let types = object.types.clone().context("a kind")?;
    let answer = api(client, &types, Some(namespace))
        .await?
        .patch("2nd-sink", params, &Patch::Apply(&object))
        .await;
    let error = answer
        .err()
        .context("a Service `2nd-sink` must be refused")?;
    anyhow::ensure!(error.to_string().contains("DNS-1035"), "{error}");
    Ok(())
}

fn objects(blueprint: &Blueprint) -> anyhow::Result<Vec<Object>> {
    let plan = Plan::of(std::slice::from_ref(blueprint), Ports::AsWritten, &|_| {
        Sockets::in_pod()
    })?;
    let images = Images {
        services: "ferry/services:local".into(),
        envoy: render::ENVOY_IMAGE.into(),
        pull_policy: "Never".into(),
        pull_secret: None,
        architectures: vec![],
        programs: None,
    };
    let (peers, secrets, settings) = (BTreeMap::new(), PodSecrets::unset(), BTreeMap::new());
    let mut objects = vec![];
    for pod in &plan.pods {
        let options = Options {
            environment: "names",
            target: Target::Generic,
            images: &images,
            peers: &peers,
            secrets: &secrets,
            settings: &settings,
        };
        let manifests = render::pod(pod, &options)?;
        objects.extend(manifests.into_iter().flat_map(|manifest| manifest.objects));
    }
    Ok(objects)
}
