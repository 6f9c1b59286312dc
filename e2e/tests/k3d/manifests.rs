//! What the API servers say to objects that are not kept.

use anyhow::Context as _;
use e2e::{
    blueprint,
    environment::workspace_root,
    render::{self, FIELD_MANAGER},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams, PostParams, TypeMeta},
    core::GroupVersionKind,
    discovery,
};
use serde_json::{Value, json};

use crate::scene::Scene;

/// Every file that is checked in, each object by server-side apply, with fields that the server does not know refused.
pub(crate) async fn dry_run(scene: &Scene) -> anyhow::Result<()> {
    let manifests = workspace_root()?.join("manifests");
    let files = render::checked_in(&blueprint::all(&manifests)?)?;
    let mut count = 0;
    let params = PatchParams {
        dry_run: true,
        ..PatchParams::apply(FIELD_MANAGER)
            .force()
            .validation_strict()
    };
    for (path, text) in &files {
        let cluster = path.split('/').nth(1).context("a cluster in the path")?;
        let client = scene.cluster(cluster)?.client();
        for document in text.split("\n---\n") {
            let value: Value = serde_saphyr::from_str(document)?;
            let object: DynamicObject = serde_json::from_value(value)?;
            let types = object.types.clone().context("a kind")?;
            let name = object.metadata.name.clone().context("a name")?;
            let api = api(client.clone(), &types, object.metadata.namespace.as_deref()).await?;
            api.patch(&name, &params, &Patch::Apply(&object))
                .await
                .with_context(|| format!("{path}: {} {name}", types.kind))?;
            count += 1;
        }
    }
    // Per pod: namespace, secrets, two ConfigMaps, Service, disruption budget, Deployment.
    assert!(count >= 7 * 4, "{count} objects cannot be all");
    Ok(())
}

async fn api(
    client: kube::Client,
    types: &TypeMeta,
    namespace: Option<&str>,
) -> anyhow::Result<Api<DynamicObject>> {
    let kind = GroupVersionKind::try_from(types)?;
    let (resource, _) = discovery::pinned_kind(&client, &kind).await?;
    Ok(match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    })
}

/// A pod that keeps the `restricted` standard may come, and each way of not keeping it is refused by the server's word.
pub(crate) async fn pod_security(scene: &Scene) -> anyhow::Result<()> {
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    for record in &scene.environment.record.pods {
        let client = scene.cluster(record.name.cluster())?.client();
        let pods = Api::<Pod>::namespaced(client, &record.namespace);
        pods.create(&params, &pod(|_| {})?)
            .await
            .context("a restricted pod must be allowed")?;
        for (what, forbidden) in forbidden() {
            match pods.create(&params, &pod(forbidden)?).await {
                Ok(_) => panic!("{what} must be refused in {}", record.namespace),
                Err(error) => {
                    let text = error.to_string();
                    assert!(
                        text.contains("violates PodSecurity \"restricted"),
                        "{what} must be refused for its security: {text}"
                    );
                }
            }
        }
    }
    Ok(())
}

type Change = fn(&mut Value);

fn forbidden() -> [(&'static str, Change); 5] {
    [
        ("a privileged container", |pod| {
            pod["spec"]["containers"][0]["securityContext"] = json!({ "privileged": true });
        }),
        ("the host's network", |pod| {
            pod["spec"]["hostNetwork"] = json!(true);
        }),
        ("a folder of the node", |pod| {
            pod["spec"]["volumes"] = json!([{ "name": "host", "hostPath": { "path": "/" } }]);
        }),
        ("root", |pod| {
            pod["spec"]["securityContext"]["runAsUser"] = json!(0);
        }),
        ("a capability", |pod| {
            pod["spec"]["containers"][0]["securityContext"]["capabilities"]["add"] =
                json!(["NET_ADMIN"]);
        }),
    ]
}

fn pod(change: fn(&mut Value)) -> anyhow::Result<Pod> {
    let mut pod = json!({
        "metadata": { "name": "pod-security" },
        "spec": {
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": render::USER,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": "app",
                "image": "never-run",
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            }],
        },
    });
    change(&mut pod);
    Ok(serde_json::from_value(pod)?)
}
