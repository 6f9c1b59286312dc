//! What the API servers say to objects that are not kept.

use anyhow::Context as _;
use blueprint::claim_name;
use host::{
    environment::{PodRecord, workspace_root},
    manifests,
};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{Pod, PodTemplateSpec},
};
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams, PostParams, TypeMeta},
    core::GroupVersionKind,
    discovery,
};
use render::{self, Controller, FIELD_MANAGER};
use serde_json::{Value, json};

use crate::scene::{BLUEPRINTS, Scene};

/// Every file that is checked in for these blueprints, each object by server-side apply, with fields that the server does not know refused.
#[tokio::test]
#[ignore = "needs k3d: .ci/k3d"]
async fn manifests_pass_server_validation() -> anyhow::Result<()> {
    let scene = &Scene::shared().await?;
    let manifests = workspace_root()?.join("manifests");
    let files = render::checked_in(&manifests::select(
        &manifests,
        &BLUEPRINTS.map(str::to_owned),
    )?)?;
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
    // Per pod: namespace, four policies, secrets, two ConfigMaps, Service, disruption budget, Deployment or StatefulSet.
    assert!(count >= 11 * 4, "{count} objects cannot be all");
    Ok(())
}

pub(crate) async fn api(
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

/// Our own pods may come; each with one field changed to what the standard forbids is refused for that field.
#[tokio::test]
#[ignore = "needs k3d: .ci/k3d"]
async fn pod_security_refuses_unrestricted_pods() -> anyhow::Result<()> {
    let scene = &Scene::shared().await?;
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    for record in &scene.environment.record.pods {
        let client = scene.cluster(record.name.cluster())?.client();
        let template = template(client.clone(), record).await?;
        let mut own = json!({
            "metadata": { "name": "pod-security" },
            "spec": serde_json::to_value(template.spec)?,
        });
        if Controller::of(record.role) == Controller::StatefulSet {
            // As the controller adds it.
            let claim = json!({ "claimName": claim_name(&record.name) });
            let data = json!({ "name": "data", "persistentVolumeClaim": claim });
            set(&mut own, "/spec/volumes/-", data);
        }
        let pods = Api::<Pod>::namespaced(client, &record.namespace);
        pods.create(&params, &serde_json::from_value(own.clone())?)
            .await
            .context("our own pod must be allowed")?;
        for variant in variants(&own) {
            let Variant { what, word, pod } = variant;
            match pods.create(&params, &serde_json::from_value(pod)?).await {
                Ok(_) => panic!("{what} must be refused in {}", record.namespace),
                Err(error) => {
                    let text = error.to_string();
                    assert!(
                        text.contains("violates PodSecurity \"restricted") && text.contains(word),
                        "{what} must be refused for `{word}`: {text}"
                    );
                }
            }
        }
    }
    Ok(())
}

async fn template(client: kube::Client, record: &PodRecord) -> anyhow::Result<PodTemplateSpec> {
    let name = record.name.pod();
    let template = match Controller::of(record.role) {
        Controller::Deployment => {
            let all = Api::<Deployment>::namespaced(client, &record.namespace);
            all.get(name).await?.spec.map(|spec| spec.template)
        }
        Controller::StatefulSet => {
            let all = Api::<StatefulSet>::namespaced(client, &record.namespace);
            all.get(name).await?.spec.map(|spec| spec.template)
        }
    };
    template.context("a spec")
}

struct Variant {
    what: String,
    /// In the server's answer.
    word: &'static str,
    pod: Value,
}

/// A pointer below the pod's spec, what stands there, and the word of the refusal. Each control of the standard that concerns Linux:
/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/>
fn of_the_pod() -> Vec<(&'static str, Value, &'static str)> {
    let volume = |source: Value| {
        let mut volume = source;
        volume["name"] = json!("forbidden");
        volume
    };
    vec![
        ("/hostNetwork", json!(true), "hostNetwork=true"),
        ("/hostPID", json!(true), "hostPID=true"),
        ("/hostIPC", json!(true), "hostIPC=true"),
        (
            "/volumes/-",
            volume(json!({ "hostPath": { "path": "/" } })),
            "hostPath",
        ),
        (
            "/volumes/-",
            volume(json!({ "nfs": { "server": "a", "path": "/" } })),
            "restricted volume types",
        ),
        (
            "/securityContext/runAsNonRoot",
            json!(false),
            "runAsNonRoot",
        ),
        ("/securityContext/runAsUser", json!(0), "runAsUser=0"),
        (
            "/securityContext/seccompProfile",
            json!({ "type": "Unconfined" }),
            "seccompProfile",
        ),
        (
            "/securityContext/seccompProfile",
            Value::Null,
            "seccompProfile",
        ),
        (
            "/securityContext/seLinuxOptions",
            json!({ "user": "root" }),
            "seLinuxOptions",
        ),
        (
            "/securityContext/appArmorProfile",
            json!({ "type": "Unconfined" }),
            "AppArmor",
        ),
        (
            "/securityContext/sysctls",
            json!([{ "name": "kernel.msgmax", "value": "1" }]),
            "sysctls",
        ),
    ]
}

/// As [`of_the_pod`], below each container.
fn of_a_container() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("/securityContext/privileged", json!(true), "privileged"),
        (
            "/securityContext/allowPrivilegeEscalation",
            json!(true),
            "allowPrivilegeEscalation != false",
        ),
        (
            "/securityContext/allowPrivilegeEscalation",
            Value::Null,
            "allowPrivilegeEscalation != false",
        ),
        (
            "/securityContext/capabilities/add",
            json!(["NET_ADMIN"]),
            "capabilities",
        ),
        (
            "/securityContext/capabilities/drop",
            json!([]),
            "unrestricted capabilities",
        ),
        (
            "/securityContext/runAsNonRoot",
            json!(false),
            "runAsNonRoot",
        ),
        ("/securityContext/runAsUser", json!(0), "runAsUser=0"),
        (
            "/securityContext/seccompProfile",
            json!({ "type": "Unconfined" }),
            "seccompProfile",
        ),
        (
            "/securityContext/seLinuxOptions",
            json!({ "type": "spc_t" }),
            "seLinuxOptions",
        ),
        (
            "/securityContext/appArmorProfile",
            json!({ "type": "Unconfined" }),
            "AppArmor",
        ),
        ("/securityContext/procMount", json!("Unmasked"), "procMount"),
        ("/ports/0/hostPort", json!(8000), "hostPort"),
    ]
}

fn variants(own: &Value) -> Vec<Variant> {
    let mut variants = vec![];
    let mut change = |below: &str, (pointer, value, word): (&str, Value, &'static str)| {
        let (whole, mut pod) = (format!("{below}{pointer}"), own.clone());
        // A sandboxed process may only have another mount of /proc in a user namespace of its own.
        if pointer.ends_with("procMount") {
            pod["spec"]["hostUsers"] = json!(false);
        }
        // The API would refuse the two together, before the standard is asked.
        if pointer.ends_with("privileged") {
            let escalation = format!("{below}/securityContext/allowPrivilegeEscalation");
            set(&mut pod, &escalation, Value::Null);
        }
        set(&mut pod, &whole, value.clone());
        variants.push(Variant {
            what: format!("{whole}: {value}"),
            word,
            pod,
        });
    };
    for each in of_the_pod() {
        change("/spec", each);
    }
    for container in [
        "/spec/containers/0",
        "/spec/initContainers/0",
        "/spec/initContainers/1",
    ] {
        for each in of_a_container() {
            change(container, each);
        }
    }
    variants
}

/// Sets what a JSON pointer names; its last part may be new, and `-` is the end of a list.
fn set(pod: &mut Value, pointer: &str, value: Value) {
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    match pod.pointer_mut(parent).unwrap() {
        Value::Array(list) if last == "-" => list.push(value),
        parent => parent[last] = value,
    }
}
