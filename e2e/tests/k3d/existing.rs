//! `deploy` and what belongs to it, as commands, on two clusters that were made by hand: one whose load balancers have IP
//! addresses, and one where they have host names, as on some clouds. Both are reached by a proxy alone.
//!
//! The steps run one after the other, each on what the one before has left.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    panic::AssertUnwindSafe,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use blueprint::{Target, plan::PodPlan};
use cluster::kubernetes::Cluster;
use e2e::testing::show;
use futures_util::{FutureExt as _, StreamExt as _};
use host::{
    timeline::Timeline,
    wait::{Seen, Wait},
};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};
use render::{
    self, AUTHORITY_SECRET, ENVIRONMENT_LABEL, Images, Object, Options, PULL_SECRET, PodSecrets,
};
use serde_json::json;

use crate::{
    hand::{self, AT_ONCE, CLUSTERS, Hand, expect},
    proxy::Proxy,
};

/// How a pod of a k3d cluster reaches this machine; here the host name that a load balancer gets.
const HOST_NAME: &str = "host.k3d.internal";
/// An address where nobody is: what the load balancer of a pod gets that is to be dialled elsewhere.
/// <https://www.rfc-editor.org/rfc/rfc5737>
const NOWHERE: &str = "192.0.2.7";
/// That pod, of the WebSocket ferry.
const ELSEWHERE: &str = "terminator";
/// Somebody's credentials for a registry, in base64.
const CREDENTIALS: &str = "aGFuZDpzM2NyZXQ=";
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs k3d: .ci/k3d"]
async fn existing_clusters_take_every_command() -> anyhow::Result<()> {
    let _turn = CLUSTERS.take_many(AT_ONCE).await?;
    let hand = Hand::new();
    let guard = hand.guard()?;
    let work = AssertUnwindSafe(async {
        hand.make_clusters().await?;
        let proxy = Proxy::start().await?;
        hand.behind(proxy.port)?;
        steps(&hand).await?;
        let told = proxy.told();
        ensure!(told.matches("CONNECT ").count() > 10, "{told}");
        ensure!(!told.to_lowercase().contains("authorization"), "{told}");
        Ok(())
    });
    guard.after(work.catch_unwind().await).await
}

async fn steps(hand: &Hand) -> anyhow::Result<()> {
    let [a, b] = [hand.connect("a").await?, hand.connect("b").await?];
    let cloud = tokio::spawn(load_balancers(b.clone()));
    let before = [namespaces(&a).await?, namespaces(&b).await?];

    show("two contexts of one cluster are refused");
    let again = hand.named_again("a", "again")?;
    let done = hand.deploy_on("again", &["--kubeconfig", &again]).await?;
    expect(&done, 2, "lead to the same cluster")?;
    ensure!(namespaces(&a).await? == before[0], "nothing may be made");

    show("a foreign namespace is refused");
    let sink_ns = hand.pod("sink")?.name.namespace();
    create_namespace(&b, &sink_ns).await?;
    let done = hand.deploy(&[]).await?;
    expect(&done, 3, "already exists and is not made by Ferry")?;
    ensure!(
        namespaces(&a).await? == before[0],
        "nothing may be made beside a foreign namespace"
    );
    b.delete_namespace(&sink_ns).await?;
    gone(&b, &sink_ns).await?;

    show("an address that another than the one asked for came instead of is not dialled");
    let other = "cluster-b=lb.example";
    let done = hand
        .deploy(&["--target", "generic", "--address", other])
        .await?;
    expect(
        &done,
        3,
        "the load balancer of sink got host.k3d.internal instead of lb.example, which is reserved for it",
    )?;
    expect(&done, 3, "describe service sink")?;
    let after = [namespaces(&a).await?, namespaces(&b).await?];
    ensure!(after == before, "nothing may be left: {after:#?}");

    show("deploy brings it up, and a host name is as good as an address");
    let credentials =
        json!({ "auths": { "https://index.docker.io/v1/": { "auth": CREDENTIALS } } });
    let credentials = hand.file("config.json", &credentials.to_string())?;
    let done = hand.deploy(&["--pull-secret", &credentials]).await?;
    expect(&done, 0, "5/5")?;
    let record = hand.record()?;
    let sink = &record["pods"][0];
    ensure!(sink["load_balancer"] == HOST_NAME, "{sink:#}");
    ensure!(sink["peer_address"]["host"] == HOST_NAME, "{sink:#}");
    let digests = record["images"]["digests"]
        .as_object()
        .context("no digests")?;
    ensure!(
        digests.len() == 2,
        "both images must be recorded: {digests:#?}"
    );
    assert_no_credentials(hand)?;
    for (cluster, pod) in [(&a, "gateway"), (&b, "sink")] {
        assert_pull_secret(cluster, &hand.pod(pod)?).await?;
    }

    show("status, trail, trigger and logs");
    expect(&hand.xtask(&["status"]).await?, 0, "ready")?;
    let trail = hand.xtask(&["trail", "--json"]).await?;
    expect(&trail, 0, "cluster-a")?;
    ensure!(
        String::from_utf8_lossy(&trail.stdout).lines().count() == 5,
        "five messages must be stored"
    );
    expect(
        &hand.xtask(&["trigger", "--count", "3"]).await?,
        0,
        "3 of 3 delivered",
    )?;
    expect(
        &hand
            .xtask(&["logs", "gateway", "--container", "app"])
            .await?,
        0,
        "Auto-trigger complete — 5/5 messages sent.",
    )?;
    expect(
        &hand.xtask(&["local-down"]).await?,
        2,
        "cargo xtask undeploy",
    )?;
    expect(&hand.xtask(&["sweep"]).await?, 0, "nothing to remove")?;

    show("authorities and the root are replaced, and the Secrets stay this environment's");
    let gateway = hand.pod("gateway")?;
    let labels = authority_labels(&a, &gateway).await?;
    let label = record["existing"]["label"].as_str().context("no label")?;
    ensure!(
        labels.get(ENVIRONMENT_LABEL).map(String::as_str) == Some(label),
        "{labels:#?}"
    );
    expect(&hand.xtask(&["identity", "show"]).await?, 0, "current")?;
    let done = hand.xtask(&["identity", "rotate"]).await?;
    expect(&done, 0, "2 pods use their new authorities")?;
    let done = hand.xtask(&["identity", "rotate", "--root"]).await?;
    expect(&done, 0, "all pods use the new root")?;
    let after = authority_labels(&a, &gateway).await?;
    ensure!(after == labels, "{after:#?} must be {labels:#?}");
    let done = hand.xtask(&["trigger", "--count", "2"]).await?;
    expect(&done, 0, "2 of 2 delivered")?;
    expect(&hand.xtask(&["trail", "--verify"]).await?, 0, "")?;

    show("a gateway without a sink says what it waits for, and heals");
    b.delete_namespace(&sink_ns).await?;
    gone(&b, &sink_ns).await?;
    start_alone(hand, &a).await?;
    Wait::until("the gateway to say what it waits for")
        .within(LIMIT)
        .poll(|| async {
            let done = hand.xtask(&["status"]).await?;
            let text = String::from_utf8_lossy(&done.stdout).into_owned();
            Ok(
                match text.contains("waiting for app: ") && text.contains("sink") {
                    true => Seen::Ready(()),
                    false => Seen::Waiting(text),
                },
            )
        })
        .await?;
    let address = format!("cluster-b={}", address_of_this_machine(&a).await?);
    let asked = ["--target", "generic", "--address", &address];
    expect(&hand.deploy(&asked).await?, 0, "is already deployed")?;
    let sink = &hand.record()?["pods"][0];
    let peer = sink["peer_address"]["host"].as_str().context("no peer")?;
    ensure!(format!("cluster-b={peer}") == address, "{sink:#}");
    ensure!(sink["load_balancer"] == peer, "{sink:#}");

    show("undeploy keeps what the sinks have stored, and deploy finds it");
    let before_it = stored(hand).await?;
    let done = hand.xtask(&["undeploy", "--keep-data"]).await?;
    expect(&done, 0, &format!("its sinks keep {before_it} messages"))?;
    for (cluster, pod) in [(&a, "gateway"), (&b, "sink")] {
        let namespace = hand.pod(pod)?.name.namespace();
        let pods = Api::<Pod>::namespaced(cluster.client(), &namespace);
        let left = pods.list(&ListParams::default()).await?.items;
        ensure!(left.is_empty(), "{pod}: nothing may run");
        let secrets = Api::<Secret>::namespaced(cluster.client(), &namespace);
        let left = secrets.get_opt(AUTHORITY_SECRET).await?;
        ensure!(left.is_none(), "{pod}: no key may stay");
    }
    expect(&hand.deploy(&[]).await?, 0, "5/5")?;
    let after_it = stored(hand).await?;
    ensure!(
        after_it >= before_it + 5,
        "{after_it} after {before_it} messages"
    );

    show("undeploy leaves what was there, and nothing else");
    let done = hand.xtask(&["undeploy"]).await?;
    let says = format!("{after_it} messages that its sinks keep are deleted");
    expect(&done, 0, &says)?;
    let after = [namespaces(&a).await?, namespaces(&b).await?];
    ensure!(
        after == before,
        "{after:#?} must be what was there before: {before:#?}"
    );
    expect(
        &hand.xtask(&["status", "--name", "local"]).await?,
        2,
        "there is no environment",
    )?;

    show("e2e of both ferries leaves nothing, and dials where it is told");
    let told = format!("{}/{ELSEWHERE}={HOST_NAME}", hand::BLUEPRINTS[1]);
    let done = hand.e2e(&["--address", &told]).await?;
    expect(&done, 0, "passed on the existing runtime")?;
    expect(&done, 0, &format!("its load balancer is {NOWHERE}"))?;
    let after = [namespaces(&a).await?, namespaces(&b).await?];
    ensure!(
        after == before,
        "{after:#?} must be what was there before: {before:#?}"
    );
    cloud.abort();
    Ok(())
}

/// How many messages are stored.
async fn stored(hand: &Hand) -> anyhow::Result<usize> {
    let trail = hand.xtask(&["trail", "--json"]).await?;
    expect(&trail, 0, "")?;
    Ok(String::from_utf8_lossy(&trail.stdout).lines().count())
}

/// Takes the addresses from a gateway and starts it anew.
async fn start_alone(hand: &Hand, cluster: &Cluster) -> anyhow::Result<()> {
    let gateway = hand.pod("gateway")?;
    let record = hand.record()?;
    let images = Images {
        services: hand.image.clone(),
        envoy: render::ENVOY_IMAGE.into(),
        pull_policy: "IfNotPresent".into(),
        pull_secret: None,
        architectures: vec![],
        programs: None,
    };
    let peers = render::peers(
        &gateway,
        &Options {
            environment: record["existing"]["label"].as_str().context("no label")?,
            target: Target::K3d,
            images: &images,
            peers: &BTreeMap::new(),
            secrets: &PodSecrets::unset(),
            settings: &BTreeMap::new(),
        },
    )?;
    cluster.apply(&[Object::ConfigMap(peers)]).await?;
    let pods = Api::<Pod>::namespaced(cluster.client(), &gateway.name.namespace());
    pods.delete_collection(&DeleteParams::default(), &ListParams::default())
        .await?;
    Ok(())
}

/// What a cloud's controller does: each Service of type LoadBalancer gets the address that it asks for, else a host name.
async fn load_balancers(cluster: Cluster) -> anyhow::Result<()> {
    let all = Api::<Service>::all(cluster.client());
    let mut seen = watcher(all, watcher::Config::default())
        .default_backoff()
        .touched_objects()
        .boxed();
    while let Some(service) = seen.next().await {
        let Ok(service) = service else { continue };
        let spec = service.spec.clone().unwrap_or_default();
        if spec.type_.as_deref() != Some("LoadBalancer") || has_address(&service) {
            continue;
        }
        let meta = &service.metadata;
        let (Some(name), Some(namespace)) = (&meta.name, &meta.namespace) else {
            continue;
        };
        let port = spec.ports.iter().flatten().next().map(|port| port.port);
        let own = Api::<Service>::namespaced(cluster.client(), namespace);
        let node_port =
            json!({ "spec": { "ports": [{ "port": port, "protocol": "TCP", "nodePort": port }] } });
        own.patch(name, &PatchParams::default(), &Patch::Strategic(&node_port))
            .await?;
        let ingress = match spec.load_balancer_ip {
            Some(asked) if asked.parse::<IpAddr>().is_ok() => json!({ "ip": asked }),
            None if name == ELSEWHERE => json!({ "ip": NOWHERE }),
            _ => json!({ "hostname": HOST_NAME }),
        };
        let address = json!({ "status": { "loadBalancer": { "ingress": [ingress] } } });
        own.patch_status(name, &PatchParams::default(), &Patch::Merge(&address))
            .await?;
    }
    Ok(())
}

fn has_address(service: &Service) -> bool {
    let status = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    status.is_some_and(|status| status.ingress.as_ref().is_some_and(|all| !all.is_empty()))
}

/// How pods of a cluster reach this machine, as an address.
async fn address_of_this_machine(cluster: &Cluster) -> anyhow::Result<String> {
    let names = Api::<ConfigMap>::namespaced(cluster.client(), "kube-system")
        .get("coredns")
        .await?;
    let hosts = names.data.unwrap_or_default();
    let mut lines = hosts.values().flat_map(|hosts| hosts.lines());
    let line = lines.find_map(|line| line.strip_suffix(HOST_NAME));
    let address = line.context("k3d must name this machine")?.trim();
    Ok(address.to_owned())
}

/// The registry's credentials are beside a pod, and the pod names them.
async fn assert_pull_secret(cluster: &Cluster, pod: &PodPlan) -> anyhow::Result<()> {
    let namespace = pod.name.namespace();
    let secret = Api::<Secret>::namespaced(cluster.client(), &namespace)
        .get(PULL_SECRET)
        .await?;
    let data = secret.data.unwrap_or_default();
    let text = data.values().map(|data| String::from_utf8_lossy(&data.0));
    ensure!(
        secret.type_.as_deref() == Some("kubernetes.io/dockerconfigjson")
            && text.collect::<String>().contains(CREDENTIALS),
        "{namespace} must have the credentials"
    );
    let pods = Api::<Pod>::namespaced(cluster.client(), &namespace)
        .list(&ListParams::default())
        .await?;
    for pod in pods.items {
        let spec = pod.spec.unwrap_or_default();
        let named: Vec<_> = spec.image_pull_secrets.into_iter().flatten().collect();
        ensure!(
            named.len() == 1 && named[0].name == PULL_SECRET,
            "{named:#?}"
        );
    }
    Ok(())
}

async fn authority_labels(
    cluster: &Cluster,
    pod: &PodPlan,
) -> anyhow::Result<BTreeMap<String, String>> {
    let secrets = Api::<Secret>::namespaced(cluster.client(), &pod.name.namespace());
    let secret = secrets.get(AUTHORITY_SECRET).await?;
    Ok(secret.metadata.labels.unwrap_or_default())
}

/// No key of the user's kubeconfig and no credentials of the registry may be in the state folder.
fn assert_no_credentials(hand: &Hand) -> anyhow::Result<()> {
    let config = std::fs::read_to_string(hand.kubeconfig())?;
    let mut secrets = config
        .lines()
        .filter_map(|line| line.trim().strip_prefix("client-key-data: "));
    let key = secrets.next().context("the kubeconfig must have a key")?;
    let mut folders = vec![hand.state()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                ensure!(
                    !text.contains(key) && !text.contains(CREDENTIALS),
                    "`{}` holds a secret of the user's",
                    path.display()
                );
            }
        }
    }
    Ok(())
}

/// The names of all namespaces.
async fn namespaces(cluster: &Cluster) -> anyhow::Result<BTreeSet<String>> {
    let all = Api::<Namespace>::all(cluster.client())
        .list(&ListParams::default())
        .await?;
    Ok(all
        .items
        .into_iter()
        .filter_map(|namespace| namespace.metadata.name)
        .collect())
}

async fn create_namespace(cluster: &Cluster, name: &str) -> anyhow::Result<()> {
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": name } }))?;
    Api::<Namespace>::all(cluster.client())
        .create(&PostParams::default(), &namespace)
        .await?;
    Ok(())
}

async fn gone(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    let silent = Timeline::default();
    let step = silent.step("delete a namespace");
    cluster.namespace_gone(namespace, LIMIT, &step).await?;
    step.done();
    Ok(())
}
