use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use blueprint::{
    Blueprint,
    plan::{Ports, Sockets},
};
use rstest::rstest;
use serde_json::Value;

use super::*;
use crate::{Images, PodSecrets, pod, yaml};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/targets")
}

/// A shipped blueprint with these `targets`.
fn plan_of(name: &str, targets: &str) -> Plan {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../manifests")
        .join(name)
        .join("blueprint.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let text = format!("{text}{targets}\n");
    let blueprint = Blueprint::parse(&text, Path::new("targets.yaml")).unwrap();
    Plan::of(&[blueprint], Ports::AsWritten, &|_| Sockets::in_pod()).unwrap()
}

/// The Service of each pod and what comes with it.
fn services(plan: &Plan, target: Target) -> BTreeMap<String, Vec<Object>> {
    let peers = reserved_peers(plan, target);
    let images = Images {
        services: "registry.example/ferry:1".into(),
        envoy: "envoyproxy/envoy:v1.40.0".into(),
        pull_policy: "IfNotPresent".into(),
        pull_secret: None,
        architectures: vec![],
        programs: None,
    };
    let options = Options {
        environment: "cloud",
        target,
        images: &images,
        peers: &peers,
        secrets: &PodSecrets::unset(),
        settings: &BTreeMap::new(),
    };
    let of_pod = |planned: &PodPlan| {
        let manifests = pod(planned, &options).unwrap();
        let service = manifests
            .into_iter()
            .find(|each| each.file.contains("service"));
        (planned.name.pod().to_owned(), service.unwrap().objects)
    };
    plan.pods.iter().map(of_pod).collect()
}

/// Every value by its path.
fn flat(value: &Value, path: &str, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(key, value)| flat(value, &format!("{path}/{key}"), into)),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .for_each(|(index, value)| flat(value, &format!("{path}/{index}"), into)),
        other => drop(into.insert(path.to_owned(), other.clone())),
    }
}

/// What every Service has of its own: who it is, and which port of which pods it leads to.
fn is_own(path: &str) -> bool {
    [
        "/metadata/name",
        "/metadata/labels/",
        "/spec/selector/",
        "/spec/ports/0/",
        "/spec/serviceRef/",
        "/spec/ipFamil",
    ]
    .iter()
    .any(|own| path.starts_with(own))
}

#[rstest]
#[case(
    "gke-external",
    Target::Gke,
    "{pod: sink, name: my-v4-ip, address: 203.0.113.10}"
)]
#[case(
    "gke-internal",
    Target::Gke,
    "{pod: sink, internal: true, subnet: my-subnet, address: 10.0.0.10}"
)]
#[case(
    "eks-elastic",
    Target::Eks,
    "{pod: sink, allocations: [eipalloc-xxxxxxxxxxxxxxxxx, eipalloc-yyyyyyyyyyyyyyyyy], subnets: [subnet-xxxx, subnet-yyyy]}"
)]
#[case(
    "eks-target-group",
    Target::Eks,
    "{pod: sink, target-group: 'arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/my-targets/1234567890123456', address: nlb.example}"
)]
#[case(
    "aks-public",
    Target::Aks,
    "{pod: sink, name: myAKSPublicIP, resource-group: myNetworkResourceGroup}"
)]
#[case(
    "aks-internal",
    Target::Aks,
    "{pod: sink, internal: true, address: 10.240.0.25, subnet: apps-subnet}"
)]
#[case(
    "generic-metallb",
    Target::Generic,
    "{pod: sink, address: 192.168.1.100, metallb: true}"
)]
#[case(
    "generic-address",
    Target::Generic,
    "{pod: sink, address: 192.0.2.127, class: internal-vip}"
)]
fn rendered_service_matches_provider_docs(
    #[case] example: &str,
    #[case] target: Target,
    #[case] reserved: &str,
) {
    let text =
        std::fs::read_to_string(folder().join(format!("documented/{example}.yaml"))).unwrap();
    assert!(text.starts_with("# https://"), "where it is documented");
    let documented: Value = serde_saphyr::from_str(&text).unwrap();
    let plan = plan_of(
        "international-ferry",
        &format!("targets: {{{target}: [{reserved}]}}"),
    );
    let rendered = services(&plan, target).remove("sink").unwrap();
    let rendered = rendered
        .iter()
        .map(|object| serde_json::to_value(object).unwrap());
    let rendered: Vec<_> = rendered
        .filter(|object| object["kind"] == documented["kind"])
        .collect();
    assert_eq!(rendered.len(), 1);
    let (mut theirs, mut ours) = (BTreeMap::new(), BTreeMap::new());
    flat(&documented, "", &mut theirs);
    flat(&rendered[0], "", &mut ours);
    // Said by the target group; with it, no webhook has to ask AWS.
    ours.remove("/spec/targetType");
    ours.retain(|path, _| !is_own(path));
    theirs.retain(|path, _| !is_own(path));
    assert_eq!(ours, theirs, "{example}");
}

#[test]
fn target_group_service_has_no_load_balancer() {
    let arn = "arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/a/1";
    let plan = plan_of(
        "international-ferry",
        &format!("targets: {{eks: [{{pod: sink, target-group: '{arn}', address: nlb.example}}]}}"),
    );
    let objects = services(&plan, Target::Eks).remove("sink").unwrap();
    let objects: Vec<_> = objects
        .iter()
        .map(|object| serde_json::to_value(object).unwrap())
        .collect();
    assert_eq!(objects[0]["spec"]["type"], "ClusterIP");
    assert!(objects[0]["metadata"]["annotations"].is_null());
    assert_eq!(
        objects[1]["spec"]["serviceRef"],
        serde_json::json!({ "name": "sink", "port": 30200 })
    );
    let sink = plan.sinks().next().unwrap();
    assert_eq!(bound_to(sink, Target::Eks), Some("nlb.example"));
    assert_eq!(bound_to(sink, Target::Gke), None);
    assert_eq!(
        reserved_peers(&plan, Target::Eks)[&sink.name].to_string(),
        "nlb.example:30200"
    );
}

/// `FERRY_UPDATE_GOLDEN=1` writes the files instead of comparing them.
#[test]
fn every_target_renders_checked_in_blueprints() {
    let mut expected = BTreeSet::new();
    for blueprint in crate::tests::all_shipped() {
        let targets = reserved_for_all(&blueprint);
        let plan = plan_of(&blueprint.name, &targets);
        for target in Target::ALL {
            let objects = services(&plan, target)
                .into_values()
                .flatten()
                .collect::<Vec<_>>();
            let text = yaml(&objects).unwrap();
            let file = folder().join(format!("golden/{target}/{}.yaml", blueprint.name));
            if std::env::var_os("FERRY_UPDATE_GOLDEN").is_some() {
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(&file, &text).unwrap();
            }
            assert_eq!(
                std::fs::read_to_string(&file).unwrap_or_default(),
                text,
                "FERRY_UPDATE_GOLDEN=1 writes {}",
                file.display()
            );
            expected.insert(file);
        }
    }
    assert!(expected.len() >= 10);
}

/// An address with every target for every pod that other pods send to.
fn reserved_for_all(blueprint: &Blueprint) -> String {
    let receivers: BTreeSet<&str> = blueprint.edges().map(|edge| edge.to).collect();
    let each = |entry: fn(&str) -> String| {
        receivers
            .iter()
            .map(|pod| entry(pod))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let gke = each(|pod| format!("{{pod: {pod}, name: ferry-{pod}, address: 203.0.113.10}}"));
    let eks = each(|pod| {
        format!("{{pod: {pod}, allocations: [eipalloc-0123456789abcdef0], address: 203.0.113.20}}")
    });
    let aks = each(|pod| {
        format!("{{pod: {pod}, name: ferry-{pod}, resource-group: ferry, address: 203.0.113.30}}")
    });
    let generic = each(|pod| format!("{{pod: {pod}, address: 192.0.2.10, metallb: true}}"));
    format!("targets:\n  gke: [{gke}]\n  eks: [{eks}]\n  aks: [{aks}]\n  generic: [{generic}]")
}

const ALL: &str = "targets:
  gke: [{pod: sink, name: ferry-sink, address: 203.0.113.10}]
  eks: [{pod: sink, allocations: [eipalloc-0], address: 203.0.113.20}]
  aks: [{pod: sink, name: ferry-sink, resource-group: ferry, address: 203.0.113.30}]
  generic: [{pod: sink, address: '2001:db8::10', metallb: true}]";

#[rstest]
#[case(Target::Gke, "203.0.113.10", true)]
#[case(Target::Gke, "203.0.113.11", false)]
#[case(Target::Gke, "host.example", false)]
#[case(Target::Eks, "k8s-ferry-0123.elb.us-east-2.amazonaws.com", true)]
#[case(Target::Eks, "elsewhere.example", false)]
#[case(Target::Eks, "elb.amazonaws.com.evil.example", false)]
#[case(Target::Aks, "203.0.113.30", true)]
#[case(Target::Aks, "20.0.0.1", false)]
#[case(Target::Generic, "2001:DB8:0::10", true)]
#[case(Target::Generic, "2001:db8::11", false)]
#[case(Target::K3d, "172.18.0.3", true)]
fn an_address_that_was_not_asked_for_is_reported(
    #[case] target: Target,
    #[case] came: &str,
    #[case] good: bool,
) {
    let plan = plan_of("international-ferry", ALL);
    let sink = plan.sinks().next().unwrap();
    let checked = check_address(sink, target, came);
    assert_eq!(checked.is_ok(), good, "{checked:?}");
    if let Err(error) = checked {
        let text = full(&error);
        assert_eq!(Failure::exit_code(&error), 3);
        for part in [
            "cluster-b",
            "sink",
            came,
            sink.reserved.address(target).unwrap(),
            "describe service sink",
        ] {
            assert!(text.contains(part), "`{part}` must be in: {text}");
        }
    }
    let gateway = plan.gateways().next().unwrap();
    check_address(gateway, target, came).unwrap();
}

/// The cause and the next step.
fn full(error: &anyhow::Error) -> String {
    let next = Failure::of(error).and_then(Failure::next_step);
    format!("{error:#}; {}", next.unwrap_or_default())
}

#[test]
fn host_name_ignores_case_and_last_dot() {
    let mut plan = plan_of("international-ferry", "");
    give(
        &mut plan,
        Target::Eks,
        &["cluster-b=Nlb.Example".parse().unwrap()],
    )
    .unwrap();
    let sink = plan.sinks().next().unwrap();
    check_address(sink, Target::Eks, "nlb.example.").unwrap();
    assert!(check_address(sink, Target::Eks, "other.example").is_err());
}

#[rstest]
#[case("")]
#[case("targets: {generic: [{pod: sink, address: 192.0.2.10, metallb: true}]}")]
fn host_name_is_for_dialling_pods_alone(#[case] reserved: &str) {
    for target in [Target::Gke, Target::Aks, Target::Generic] {
        let mut plan = plan_of("international-ferry", reserved);
        let given = "cluster-b=lb.example".parse().unwrap();
        give(&mut plan, target, &[given]).unwrap();
        let text = yaml(&services(&plan, target)["sink"]).unwrap();
        assert!(!text.contains("lb.example"), "{target}: {text}");
        let sink = plan.sinks().next().unwrap();
        check_address(sink, target, "203.0.113.9").unwrap();
    }
}

#[rstest]
#[case("cluster-b=203.0.113.9", &["sink"])]
#[case("cluster-b/sink=lb.example", &["sink"])]
#[case("cluster-a/gateway=2001:db8::1", &["gateway"])]
#[case("cluster-b=[2001:db8::1]", &["sink"])]
fn given_address_replaces_reserved_one(#[case] text: &str, #[case] pods: &[&str]) {
    for target in [Target::Gke, Target::Eks, Target::Aks, Target::Generic] {
        let mut plan = plan_of("international-ferry", "");
        let given: GivenAddress = text.parse().unwrap();
        give(&mut plan, target, std::slice::from_ref(&given)).unwrap();
        let found = reserved_peers(&plan, target);
        assert!(!given.host.contains('['), "an address has no brackets");
        let hosts: Vec<_> = found
            .iter()
            .map(|(name, peer)| (name.pod(), peer.host.as_str()))
            .collect();
        assert_eq!(
            hosts,
            pods.iter()
                .map(|pod| (*pod, given.host.as_str()))
                .collect::<Vec<_>>()
        );
    }
}

#[rstest]
#[case("")]
#[case("cluster-b")]
#[case("cluster-b=")]
#[case("=203.0.113.9")]
#[case("cluster-b=two words")]
#[case("cluster-b/=203.0.113.9")]
#[case("Cluster B=203.0.113.9")]
#[case("cluster-b=http://lb.example")]
#[case("cluster-b=$(id)")]
#[case("cluster-b=203.0.113.256")]
#[case("cluster-b=[203.0.113.9]")]
#[case("cluster-b=[2001:db8::1]:30200")]
fn what_is_no_address_is_refused(#[case] text: &str) {
    let error = text.parse::<GivenAddress>().unwrap_err().to_string();
    assert!(error.contains("CLUSTER=HOST"), "{error}");
}

#[test]
fn address_of_unknown_pod_lists_known_names() {
    let mut plan = plan_of("international-ferry", "");
    for (text, part) in [
        (
            "cluster-z=203.0.113.9",
            "use one of the clusters cluster-a, cluster-b",
        ),
        ("cluster-b/gateway=203.0.113.9", "cluster-b/gateway"),
    ] {
        let error = give(&mut plan, Target::Gke, &[text.parse().unwrap()]).unwrap_err();
        assert_eq!(Failure::exit_code(&error), 2);
        let text = full(&error);
        assert!(text.contains(part), "{text}");
    }
}

#[rstest]
#[case(Target::Gke, &["gcloud compute addresses create 'ferry-sink' --region", "addresses describe", "addresses delete"])]
#[case(Target::Eks, &["aws ec2 allocate-address", "aws ec2 describe-addresses", "release-address --region \"${AWS_REGION:?set it to the region of cluster-b}\" --allocation-id 'eipalloc-0'"])]
#[case(Target::Aks, &["az network public-ip create --resource-group 'ferry' --name 'ferry-sink' --sku Standard", "public-ip show", "public-ip delete"])]
#[case(Target::Generic, &["kubectl get ipaddresspools.metallb.io"])]
fn the_commands_reserve_show_and_release(#[case] target: Target, #[case] parts: &[&str]) {
    for (targets, recorded) in [(ALL, true), ("", false)] {
        let plan = plan_of("international-ferry", targets);
        let text = commands(&plan, target).unwrap();
        let checked = Command::new("sh")
            .args(["-n", "-c", &text])
            .status()
            .unwrap();
        assert!(checked.success(), "{text}");
        let sections: Vec<_> = ["# Reserve", "# Show", "# Release"]
            .map(|title| text.find(title).unwrap())
            .into();
        assert!(sections.is_sorted());
        assert!(
            !text.contains("# gateway in"),
            "nobody sends to the gateway:\n{text}"
        );
        assert_eq!(text.contains("# In the blueprint"), !recorded, "{text}");
        for part in parts.iter().filter(|_| recorded) {
            assert!(text.contains(part), "`{part}` must be in:\n{text}");
        }
    }
}

#[test]
fn printed_reservation_is_valid_blueprint() {
    for target in [Target::Gke, Target::Eks, Target::Aks, Target::Generic] {
        let text = commands(&plan_of("international-ferry", ""), target).unwrap();
        let (_, record) = text
            .split_once("# In the blueprint, with the values that were shown:\n")
            .unwrap();
        let record = record.replace("\n# ", "\n").replace("# targets", "targets");
        let record = record
            .replace("ALLOCATION, …", "eipalloc-1")
            .replace("ADDRESS", "203.0.113.9")
            .replace("GROUP", "group");
        let plan = plan_of("international-ferry", &record);
        assert_eq!(reserved_peers(&plan, target).len(), 1, "{record}");
    }
}

#[test]
fn local_clusters_reserve_nothing() {
    let error = commands(&plan_of("international-ferry", ""), Target::K3d).unwrap_err();
    assert_eq!(Failure::exit_code(&error), 2);
}
