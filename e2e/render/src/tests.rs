mod accepted;
mod stored;

use std::path::Path;

use super::*;

/// The blueprint of this name under `manifests/`.
pub(super) fn shipped(name: &str) -> Blueprint {
    let path = manifests().join(name).join("blueprint.yaml");
    Blueprint::parse_bytes(&std::fs::read(&path).unwrap(), &path).unwrap()
}

/// All of them.
pub(super) fn all_shipped() -> Vec<Blueprint> {
    let entries = std::fs::read_dir(manifests()).unwrap();
    let mut folders: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    let name = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    folders.iter().map(|path| shipped(&name(path))).collect()
}

fn manifests() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests")
}

/// Everything that one pod of `international-ferry` is rendered to, as JSON by kind and name.
fn rendered(workload: &str) -> BTreeMap<String, serde_json::Value> {
    let blueprint = shipped("international-ferry");
    let plan = Plan::of(&[blueprint], Ports::AsWritten, &|_| Sockets::in_pod()).unwrap();
    let peers = k3d_peers(&plan);
    let planned = plan
        .pods
        .iter()
        .find(|pod| pod.name.pod() == workload)
        .unwrap();
    let options = Options {
        environment: "test",
        target: Target::K3d,
        images: &Images::checked_in(),
        peers: &peers,
        secrets: &PodSecrets::unset(),
        settings: &BTreeMap::new(),
    };
    let objects = pod(planned, &options)
        .unwrap()
        .into_iter()
        .flat_map(|manifest| manifest.objects);
    let values = objects.map(|object| serde_json::to_value(object).unwrap());
    values
        .map(|value| {
            (
                format!(
                    "{}/{}",
                    value["kind"].as_str().unwrap(),
                    value["metadata"]["name"].as_str().unwrap()
                ),
                value,
            )
        })
        .collect()
}

#[test]
fn containers_start_in_identity_order() {
    let deployment = &rendered("gateway")["Deployment/gateway"]["spec"]["template"]["spec"];
    let sidecars: Vec<_> = deployment["initContainers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|each| {
            (
                each["name"].as_str().unwrap(),
                each["restartPolicy"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(sidecars, [("wosp", "Always"), ("envoy", "Always")]);
    for sidecar in deployment["initContainers"].as_array().unwrap() {
        assert_eq!(
            sidecar["startupProbe"]["httpGet"]["path"], "/ready",
            "{} must hold up the next container until it is ready",
            sidecar["name"]
        );
        assert!(
            sidecar["livenessProbe"].is_object(),
            "{} must be restarted if it hangs",
            sidecar["name"]
        );
    }
    assert_eq!(deployment["containers"][0]["name"], "app");
}

#[test]
fn every_container_keeps_the_restricted_standard() {
    for workload in ["gateway", "sink"] {
        let objects = rendered(workload);
        let kind = if workload == "sink" {
            "StatefulSet"
        } else {
            "Deployment"
        };
        let spec = &objects[&format!("{kind}/{workload}")]["spec"]["template"]["spec"];
        assert_eq!(spec["automountServiceAccountToken"], false);
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
        assert_eq!(
            spec["securityContext"]["seccompProfile"]["type"],
            "RuntimeDefault"
        );
        for container in ["initContainers", "containers"]
            .into_iter()
            .flat_map(|kind| spec[kind].as_array().unwrap())
        {
            let security = &container["securityContext"];
            assert_eq!(
                security["allowPrivilegeEscalation"], false,
                "{}",
                container["name"]
            );
            assert_eq!(
                security["readOnlyRootFilesystem"], true,
                "{}",
                container["name"]
            );
            assert_eq!(
                security["capabilities"]["drop"][0], "ALL",
                "{}",
                container["name"]
            );
            assert!(
                container["resources"]["limits"]["memory"].is_string()
                    && container["resources"]["requests"]["cpu"].is_string(),
                "{}",
                container["name"]
            );
        }
        let namespace = &objects[&format!("Namespace/international-ferry-{workload}-ns")];
        assert_eq!(
            namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"],
            "restricted"
        );
    }
}

#[test]
fn each_secret_is_mounted_in_one_container() {
    let spec = rendered("sink")["StatefulSet/sink"]["spec"]["template"]["spec"].clone();
    let mut seen: Vec<(String, String)> = vec![];
    for container in ["initContainers", "containers"]
        .into_iter()
        .flat_map(|kind| spec[kind].as_array().unwrap().clone())
    {
        for mount in container["volumeMounts"].as_array().unwrap() {
            if ["authority", "pinhole", "token"].contains(&mount["name"].as_str().unwrap()) {
                seen.push((
                    container["name"].as_str().unwrap().into(),
                    mount["name"].as_str().unwrap().into(),
                ));
            }
            assert!(
                mount["subPath"].is_null(),
                "a subPath mount would not follow a changed file"
            );
        }
    }
    assert_eq!(
        seen,
        [
            ("wosp".into(), "authority".into()),
            ("envoy".into(), "pinhole".into()),
            ("app".into(), "token".into())
        ]
    );
    let parts = spec["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|volume| volume["secret"]["secretName"] == PINHOLE_SECRET)
        .map(|volume| {
            let keys = volume["secret"]["items"].as_array().unwrap().iter();
            let keys: Vec<_> = keys.map(|item| item["key"].as_str().unwrap()).collect();
            (volume["name"].as_str().unwrap(), keys)
        });
    assert_eq!(
        parts.collect::<Vec<_>>(),
        [
            ("token", vec!["token"]),
            ("pinhole", vec!["tls.crt", "tls.key"])
        ]
    );
}

#[test]
fn public_port_leads_to_envoy_ingress() {
    let sink = rendered("sink");
    let port = &sink["Service/sink"]["spec"]["ports"][0];
    assert_eq!(
        (port["port"].as_u64(), port["targetPort"].as_u64()),
        (Some(30200), Some(18000))
    );
    assert_eq!(sink["Service/sink"]["spec"]["type"], "LoadBalancer");
    let gateway = rendered("gateway");
    let peers = gateway["ConfigMap/peers"]["data"]["cds.json"]
        .as_str()
        .unwrap();
    assert_eq!(
        peers
            .matches(&format!("\"address\": \"{K3D_HOST}.\""))
            .count(),
        1,
        "{peers}"
    );
    assert!(
        !gateway["ConfigMap/envoy"]["data"]["bootstrap.json"]
            .as_str()
            .unwrap()
            .contains(K3D_HOST)
    );
}

/// The ports of a policy's rules, by what they are for: `None` where any address does.
fn ports(policy: &serde_json::Value, direction: &str, whom: &str) -> Vec<(bool, Vec<u64>)> {
    let rules = policy["spec"][direction].as_array().unwrap();
    let of_rule = |rule: &serde_json::Value| {
        let ports = rule["ports"].as_array().unwrap();
        let ports = ports.iter().map(|port| port["port"].as_u64().unwrap());
        (rule[whom].is_null(), ports.collect())
    };
    rules.iter().map(of_rule).collect()
}

#[test]
fn policies_allow_named_traffic_alone() {
    for (workload, policies) in [
        (
            "gateway",
            &["default-deny", "dns", "metrics", "peers", "tunnel"][..],
        ),
        ("sink", &["default-deny", "dns", "metrics", "tunnel"]),
    ] {
        let objects = rendered(workload);
        let policy = |name: &str| &objects[&format!("NetworkPolicy/{name}")];
        let found: Vec<_> = objects
            .keys()
            .filter_map(|name| name.strip_prefix("NetworkPolicy/"))
            .collect();
        assert_eq!(found, policies);
        let deny = &policy("default-deny")["spec"];
        assert_eq!(deny["podSelector"], serde_json::json!({}), "every pod");
        assert_eq!(
            deny["policyTypes"],
            serde_json::json!(["Ingress", "Egress"])
        );
        assert!(deny["ingress"].is_null() && deny["egress"].is_null());
        assert_eq!(
            ports(policy("tunnel"), "ingress", "from"),
            [(true, vec![18000])]
        );
        assert_eq!(
            ports(policy("metrics"), "ingress", "from"),
            [(false, vec![8000, 9902, 9903])]
        );
        assert_eq!(
            ports(policy("dns"), "egress", "to"),
            [(false, vec![53, 53])]
        );
    }
    let peers = &rendered("gateway")["NetworkPolicy/peers"];
    assert_eq!(ports(peers, "egress", "to"), [(true, vec![30200])]);
}

#[test]
fn egress_policy_allows_peer_and_target_port() {
    let text = "
name: home
title: Home
protocol: grpc
clusters: [a]
pods:
  - {name: gate, role: gateway, cluster: a, port: 30100}
  - {name: end, role: sink, cluster: a, port: 30200}
connections:
  - {from: gate, to: end}
";
    let blueprint = Blueprint::parse(text, Path::new("home.yaml")).unwrap();
    let plan = Plan::of(&[blueprint], Ports::AsWritten, &|_| Sockets::in_pod()).unwrap();
    let (gate, end) = (&plan.pods[1], &plan.pods[0]);
    let elsewhere = PeerAddress {
        host: "lb.example".into(),
        port: 4433,
    };
    for (known, port) in [(vec![], 30200), (vec![(end.name.clone(), elsewhere)], 4433)] {
        let options = Options {
            environment: "test",
            target: Target::K3d,
            images: &Images::checked_in(),
            peers: &known.into_iter().collect(),
            secrets: &PodSecrets::unset(),
            settings: &BTreeMap::new(),
        };
        let policy = serde_json::to_value(peers_policy(gate, &options)).unwrap();
        assert_eq!(
            ports(&policy, "egress", "to"),
            [(true, vec![port]), (false, vec![18000])]
        );
        assert_eq!(
            policy["spec"]["egress"][1]["to"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"],
            "home-end-ns"
        );
        assert!(
            peers_policy(end, &options).is_none(),
            "a sink sends to nobody"
        );
    }
}

#[test]
fn what_is_checked_in_holds_no_key() {
    for (path, text) in checked_in(&all_shipped()).unwrap() {
        assert!(
            !text.contains("PRIVATE KEY") && !text.contains("BEGIN CERTIFICATE"),
            "{path}"
        );
    }
}

#[test]
fn shared_namespace_is_not_written() {
    let named = |name: &str, pod: &str| {
        let text = format!(
            "name: {name}\ntitle: T\nprotocol: grpc\nclusters: [a]\npods:\n  - {{name: {pod}, role: gateway, cluster: a, port: 30100}}\n  \
             - {{name: end, role: sink, cluster: a, port: 30200}}\nconnections:\n  - {{from: {pod}, to: end}}\n"
        );
        Blueprint::parse(&text, Path::new(&format!("{name}.yaml"))).unwrap()
    };
    let error = checked_in(&[named("a-b", "c"), named("a", "b-c")]).unwrap_err();
    assert_eq!(blueprint::failure::Failure::exit_code(&error), 2);
    assert_eq!(
        error.to_string(),
        "namespace `a-b-c-ns` is used by both pod `c` of `a-b` (a-b.yaml:6) \
         and pod `b-c` of `a` (a.yaml:6)"
    );
}
