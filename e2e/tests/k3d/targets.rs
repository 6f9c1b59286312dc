//! The manifests of every target and every blueprint, by an API server that keeps none of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Context as _;
use blueprint::{
    Blueprint, Target,
    plan::{Plan, Ports, Sockets},
};
use cluster::kubernetes::Cluster;
use host::{
    environment::workspace_root,
    manifests,
    wait::{Seen, Wait},
};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use render::{self, FIELD_MANAGER, Images, Options, PodSecrets};
use serde_json::{Value, json};

use crate::{manifests::api, scene::Scene};

const LIMIT: Duration = Duration::from_secs(30);
/// Stands for the namespace of every pod: a Service that is there already may not change its class.
const NAMESPACE: &str = "every-target";

#[tokio::test]
#[ignore = "needs k3d: .ci/k3d"]
async fn targets_pass_server_validation() -> anyhow::Result<()> {
    let scene = &Scene::shared().await?;
    let cluster = scene.cluster("cluster-a")?;
    define_binding(cluster).await?;
    let mut seen = BTreeSet::new();
    for blueprint in manifests::all(&workspace_root()?.join("manifests"))? {
        for (target, variant) in variants(&blueprint) {
            let plan = plan(&blueprint, &variant)?;
            for (path, text) in tree(&plan, target)? {
                for document in text.split("\n---\n") {
                    let object: Value = serde_saphyr::from_str(document)?;
                    let kind = object["kind"].as_str().context("a kind")?.to_owned();
                    take(cluster, object)
                        .await
                        .with_context(|| format!("{target}: {path}: {kind}"))?;
                    seen.insert((target, kind));
                }
            }
        }
    }
    for target in Target::ALL {
        for kind in [
            "Namespace",
            "NetworkPolicy",
            "Secret",
            "ConfigMap",
            "Service",
            "PodDisruptionBudget",
            "Deployment",
            "StatefulSet",
        ] {
            assert!(
                seen.contains(&(target, kind.into())),
                "{target} must have a {kind}"
            );
        }
    }
    assert!(seen.contains(&(Target::Eks, "TargetGroupBinding".into())));
    let namespaces = Api::<k8s_openapi::api::core::v1::Namespace>::all(cluster.client());
    namespaces
        .delete(NAMESPACE, &DeleteParams::default())
        .await?;
    delete_definition(cluster).await
}

/// Each target with nothing reserved, and with each way of reserving.
fn variants(blueprint: &Blueprint) -> Vec<(Target, String)> {
    let receivers: BTreeSet<&str> = blueprint.edges().map(|edge| edge.to).collect();
    let all = |target: Target, entry: &str| {
        let entries: Vec<_> = receivers
            .iter()
            .map(|pod| format!("{{pod: {pod}, {entry}}}"))
            .collect();
        (
            target,
            format!("targets: {{{target}: [{}]}}", entries.join(", ")),
        )
    };
    let arn =
        "arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/ferry/1234567890123456";
    let mut variants = vec![
        all(Target::Gke, "name: ferry, address: 203.0.113.10"),
        all(
            Target::Gke,
            "address: 10.0.0.10, internal: true, subnet: apps",
        ),
        all(
            Target::Eks,
            "allocations: [eipalloc-1, eipalloc-2], subnets: [subnet-1, subnet-2]",
        ),
        all(
            Target::Eks,
            &format!("target-group: '{arn}', address: nlb.example"),
        ),
        all(Target::Aks, "name: ferry, resource-group: ferry"),
        all(
            Target::Aks,
            "internal: true, address: 10.0.0.10, subnet: apps",
        ),
        all(Target::Generic, "address: 192.0.2.10, metallb: true"),
        all(
            Target::Generic,
            "address: 192.0.2.10, class: example.com/balancer",
        ),
    ];
    variants.extend(Target::ALL.map(|target| (target, String::new())));
    variants
}

fn plan(blueprint: &Blueprint, targets: &str) -> anyhow::Result<Plan> {
    let text = std::fs::read_to_string(blueprint.path())?;
    let reserved = Blueprint::parse(&format!("{text}{targets}\n"), "reserved.yaml".as_ref());
    Plan::of(&[reserved?], Ports::AsWritten, &|_| Sockets::in_pod())
}

fn tree(plan: &Plan, target: Target) -> anyhow::Result<BTreeMap<String, String>> {
    let images = Images {
        services: "registry.example/ferry:1".into(),
        envoy: render::ENVOY_IMAGE.into(),
        pull_policy: "IfNotPresent".into(),
        pull_secret: None,
        architectures: vec![],
        programs: None,
    };
    let (secrets, settings) = (PodSecrets::unset(), BTreeMap::new());
    let peers = render::reserved_peers(plan, target);
    render::tree(plan, |_| Options {
        environment: "every-target",
        target,
        images: &images,
        peers: &peers,
        secrets: &secrets,
        settings: &settings,
    })
}

/// Server-side apply, kept only for the first namespace, whose labels hold for all that follows.
async fn take(cluster: &Cluster, mut object: Value) -> anyhow::Result<()> {
    let is_namespace = object["kind"] == "Namespace";
    if is_namespace {
        object["metadata"]["name"] = json!(NAMESPACE);
    } else {
        object["metadata"]["namespace"] = json!(NAMESPACE);
    }
    let is_stateful = object["kind"] == "StatefulSet";
    if is_stateful || object["kind"] == "Deployment" {
        // The standard is asked of pods; what makes them only gets a warning.
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": "every-target" },
            "spec": object["spec"]["template"]["spec"],
        });
        let volumes = pod["spec"]["volumes"].as_array_mut();
        if let (true, Some(volumes)) = (is_stateful, volumes) {
            // As the controller adds it.
            let claim = json!({ "claimName": "data-sink-0" });
            volumes.push(json!({ "name": "data", "persistentVolumeClaim": claim }));
        }
        let pods = Api::namespaced(cluster.client(), NAMESPACE);
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(pod)?;
        pods.create(&params, &pod).await?;
    }
    let params = PatchParams {
        dry_run: !is_namespace,
        ..PatchParams::apply(FIELD_MANAGER)
            .force()
            .validation_strict()
    };
    apply(cluster, object, &params).await
}

async fn apply(cluster: &Cluster, object: Value, params: &PatchParams) -> anyhow::Result<()> {
    let object: DynamicObject = serde_json::from_value(object)?;
    let types = object.types.clone().context("a kind")?;
    let name = object.metadata.name.clone().context("a name")?;
    let api = api(
        cluster.client(),
        &types,
        object.metadata.namespace.as_deref(),
    )
    .await?;
    api.patch(&name, params, &Patch::Apply(&object)).await?;
    Ok(())
}

const DEFINITION: &str = "targetgroupbindings.elbv2.k8s.aws";

/// What the AWS Load Balancer Controller installs, as far as it concerns the fields that are rendered.
/// <https://kubernetes-sigs.github.io/aws-load-balancer-controller/latest/guide/targetgroupbinding/spec/>
fn definition() -> Value {
    let spec = json!({
        "type": "object",
        "required": ["serviceRef", "targetGroupARN"],
        "properties": {
            "serviceRef": {
                "type": "object",
                "required": ["name", "port"],
                "properties": { "name": { "type": "string" }, "port": { "x-kubernetes-int-or-string": true } },
            },
            "targetGroupARN": { "type": "string", "minLength": 1 },
            "targetType": { "type": "string", "enum": ["instance", "ip"] },
        },
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": DEFINITION },
        "spec": {
            "group": "elbv2.k8s.aws",
            "scope": "Namespaced",
            "names": { "kind": "TargetGroupBinding", "plural": "targetgroupbindings", "singular": "targetgroupbinding" },
            "versions": [{
                "name": "v1beta1",
                "served": true,
                "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "properties": { "spec": spec } } },
            }],
        },
    })
}

async fn define_binding(cluster: &Cluster) -> anyhow::Result<()> {
    apply(cluster, definition(), &PatchParams::apply(FIELD_MANAGER)).await?;
    let types = kube::api::TypeMeta {
        api_version: "elbv2.k8s.aws/v1beta1".into(),
        kind: "TargetGroupBinding".into(),
    };
    Wait::until("the API server serves TargetGroupBinding")
        .within(LIMIT)
        .poll(async || {
            Ok(match api(cluster.client(), &types, None).await {
                Ok(_) => Seen::Ready(()),
                Err(error) => Seen::Waiting(format!("{error:#}")),
            })
        })
        .await
}

async fn delete_definition(cluster: &Cluster) -> anyhow::Result<()> {
    let object: DynamicObject = serde_json::from_value(definition())?;
    let types = object.types.context("a kind")?;
    let api = api(cluster.client(), &types, None).await?;
    api.delete(DEFINITION, &DeleteParams::default()).await?;
    Ok(())
}
