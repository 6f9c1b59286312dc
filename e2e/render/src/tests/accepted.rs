//! Whatever the check of blueprints lets through, an API server takes. The rules of the API server stand here a second time, as
//! its documentation has them and not as the check has them; the suite on clusters asks a real one.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// `[a-z0-9]([-a-z0-9]*[a-z0-9])?`, at most 63.
fn label_1123(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = |byte: Option<&u8>| byte.copied().is_some_and(is_lower);
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|byte| is_lower(*byte) || *byte == b'-')
        && bytes.len() <= 63
}

/// `[a-z]([-a-z0-9]*[a-z0-9])?`, at most 63.
fn label_1035(text: &str) -> bool {
    label_1123(text) && text.as_bytes()[0].is_ascii_lowercase()
}

fn subdomain_1123(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(label_1123)
}

/// `(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?`, at most 63.
fn label_value(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    ends(bytes.first())
        && ends(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        && bytes.len() <= 63
}

/// `IANA_SVC_NAME`: what ports are called.
fn port_name(text: &str) -> bool {
    label_1123(text)
        && text.len() <= 15
        && !text.contains("--")
        && text.bytes().any(|byte| byte.is_ascii_lowercase())
}

fn name_rule(kind: &str) -> fn(&str) -> bool {
    match kind {
        "Namespace" => label_1123,
        "Service" => label_1035,
        _ => subdomain_1123,
    }
}

/// What an API server would say to an object, for its names; nothing where it takes it.
fn refusals(object: &Value) -> Vec<String> {
    let kind = object["kind"].as_str().unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned).unwrap_or_default();
    let mut wrong = vec![];
    let mut must = |what: &str, text: &str, fits: fn(&str) -> bool| {
        if !fits(text) {
            wrong.push(format!("{kind}: {what} `{text}`"));
        }
    };
    must("name", &text(&object["metadata"]["name"]), name_rule(kind));
    if kind != "Namespace" {
        must(
            "namespace",
            &text(&object["metadata"]["namespace"]),
            label_1123,
        );
    }
    if kind == "StatefulSet" {
        // What its controller makes of the name: the pod, two labels of it, and the claim.
        let name = text(&object["metadata"]["name"]);
        must("pod", &format!("{name}-0"), label_1123);
        must(
            "label of the pod",
            &format!("{name}-0123456789"),
            label_value,
        );
        must("claim", &format!("data-{name}-0"), subdomain_1123);
        must(
            "governing Service",
            &text(&object["spec"]["serviceName"]),
            label_1035,
        );
    }
    walk(object, &mut |key, value| {
        let entries = |value: &Value| value.as_object().cloned().unwrap_or_default();
        match key {
            "labels" | "matchLabels" | "nodeSelector" => {
                for (label, value) in entries(value) {
                    let (prefix, name) = label.split_once('/').unwrap_or(("a", &label));
                    must("prefix of a label", prefix, subdomain_1123);
                    must("label", name, label_value);
                    must("value of a label", &text(&value), label_value);
                }
            }
            "containers" | "initContainers" | "volumes" | "volumeMounts" => {
                for item in value.as_array().unwrap() {
                    must(key, &text(&item["name"]), label_1123);
                }
            }
            "ports" => {
                for item in value.as_array().unwrap() {
                    if let Some(name) = item["name"].as_str() {
                        must("name of a port", name, port_name);
                    }
                }
            }
            _ => {}
        }
    });
    wrong
}

fn walk(value: &Value, see: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                see(key, value);
                walk(value, see);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, see)),
        _ => {}
    }
}

/// Two pods in two clusters, of these names.
fn text(blueprint: &str, cluster: &str, pod: &str) -> String {
    format!(
        "name: '{blueprint}'\ntitle: Names\nprotocol: grpc\nclusters: ['{cluster}', other]\npods:\n  \
         - {{name: gate, role: gateway, cluster: other, port: 30100, pinhole: true}}\n  \
         - {{name: '{pod}', role: sink, cluster: '{cluster}', port: 30200, pinhole: true}}\n\
         connections:\n  - {{from: gate, to: '{pod}'}}\n"
    )
}

/// Everything that a blueprint is rendered to for every target: its YAML and each of its objects.
fn all_of(blueprint: &Blueprint) -> Vec<(String, Vec<Value>)> {
    let plan = Plan::of(std::slice::from_ref(blueprint), Ports::AsWritten, &|_| {
        Sockets::in_pod()
    })
    .unwrap();
    let peers = k3d_peers(&plan);
    let (images, secrets, settings) = (Images::checked_in(), PodSecrets::unset(), BTreeMap::new());
    let mut all = vec![];
    for target in Target::ALL {
        for each in &plan.pods {
            let options = Options {
                environment: "names",
                target,
                images: &images,
                peers: &peers,
                secrets: &secrets,
                settings: &settings,
            };
            for manifest in pod(each, &options).unwrap() {
                let objects = manifest.objects.iter();
                let values = objects.map(|object| serde_json::to_value(object).unwrap());
                all.push((yaml(&manifest.objects).unwrap(), values.collect()));
            }
        }
    }
    all
}

/// Names as they are, and at the edges of what is allowed.
fn a_name() -> impl Strategy<Value = String> {
    let odd = [
        "2nd-sink",
        "1",
        "0x1f",
        "1e3",
        "2001-01-01",
        "12-12",
        "no",
        "y",
        "on",
        "null",
        "true",
        "nan",
        "kube",
        "kube-system",
        "kubernetes",
        "kubelet",
        "default",
        "-a",
        "a-",
        "a--b",
        "A",
        "a_b",
        "a.b",
        "ä",
        "xn--bcher-kva",
        "localhost",
        "ns",
        "",
    ];
    prop_oneof![
        4 => "[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?",
        2 => "[a-z0-9][-a-z0-9]{25,61}[a-z0-9]",
        1 => "[-a-zA-Z0-9]{1,64}",
        3 => prop::sample::select(odd.to_vec()).prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// And what it refuses, the API server would refuse, or Kubernetes keeps it for itself.
    #[test]
    fn names_that_pass_are_those_a_cluster_takes(
        blueprint in a_name(),
        cluster in a_name(),
        pod in a_name(),
    ) {
        let parsed = Blueprint::parse(&text(&blueprint, &cluster, &pod), Path::new("names.yaml"));
        let namespaces = [&pod, "gate"].map(|pod| format!("{blueprint}-{pod}-ns"));
        let taken = namespaces.iter().all(|name| label_1123(name) && !name.starts_with("kube-"))
            && label_1035(&pod)
            // It is a sink: the hash in a label of its pod has ten characters.
            && pod.len() + "-0123456789".len() <= 63
            && [&blueprint, &cluster, &pod].into_iter().all(|name| label_1123(name))
            && pod != "gate"
            && cluster != "other";
        prop_assert_eq!(parsed.is_ok(), taken, "{:?}", parsed.map(drop));
        let Ok(blueprint) = parsed else {
            return Ok(());
        };
        for (yaml, objects) in all_of(&blueprint) {
            for object in &objects {
                prop_assert_eq!(refusals(object), Vec::<String>::new());
            }
            // As `kubectl` reads it: a name such as `no` or `1e3` stays a text.
            let read: Vec<Value> = yaml
                .split("\n---\n")
                .map(|document| serde_saphyr::from_str(document).unwrap())
                .collect();
            prop_assert_eq!(read, objects);
        }
    }
}

#[test]
fn name_rules_match_api_server() {
    let blueprint = Blueprint::parse(&text("a", "b", "sink"), Path::new("names.yaml")).unwrap();
    let all = all_of(&blueprint);
    let of_kind = |kind: &str| {
        let mut objects = all.iter().flat_map(|(_, objects)| objects);
        objects
            .find(|object| object["kind"] == kind)
            .unwrap()
            .clone()
    };
    let renamed = |kind: &str, pointer: &str, name: &str| {
        let mut object = of_kind(kind);
        *object.pointer_mut(pointer).unwrap() = name.into();
        refusals(&object)
    };
    assert_eq!(
        renamed("Service", "/metadata/name", "2nd-sink"),
        ["Service: name `2nd-sink`"]
    );
    assert_eq!(
        renamed("Namespace", "/metadata/name", &"a".repeat(64)).len(),
        1
    );
    let long = "s".repeat(53);
    assert_eq!(
        renamed("StatefulSet", "/metadata/name", &long),
        [format!("StatefulSet: label of the pod `{long}-0123456789`")]
    );
    assert_eq!(
        renamed("Deployment", "/spec/template/spec/containers/0/name", "App"),
        ["Deployment: containers `App`"]
    );
    assert_eq!(
        renamed(
            "Deployment",
            "/spec/template/spec/containers/0/ports/0/name",
            "0-0"
        ),
        ["Deployment: name of a port `0-0`"]
    );
    assert!(renamed("Deployment", "/metadata/name", "2nd-sink").is_empty());
}
