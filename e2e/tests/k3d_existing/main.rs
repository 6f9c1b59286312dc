//! `deploy` and what belongs to it, as commands, on two clusters that were made by hand: one whose load balancers have IP
//! addresses, and one where they have host names, as on some clouds.
//!
//! Runs with `FERRY_TEST_K3D=1`, since it needs Docker, `k3d` and some GB of memory. The steps run one after the other, each on
//! what the one before has left; the clusters are removed whatever they come to.

#![allow(clippy::unwrap_used)]

mod hand;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use e2e::{
    blueprint::Target,
    kubernetes::Cluster,
    render::{self, Images, Object, Options, PodSecrets},
    testing::show,
    timeline::Timeline,
    wait::{Seen, Wait},
};
use futures_util::{FutureExt as _, StreamExt as _};
use hand::{Hand, expect};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;

/// How a pod of a k3d cluster reaches this machine; here the host name that a load balancer gets.
const HOST_NAME: &str = "host.k3d.internal";
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_that_somebody_else_made() {
    if std::env::var_os("FERRY_TEST_K3D").is_none_or(|value| value != "1") {
        show(
            "clusters_that_somebody_else_made: NOT RUN, it needs Docker and k3d; set FERRY_TEST_K3D=1",
        );
        return;
    }
    let hand = Hand::new();
    let work = AssertUnwindSafe(async {
        hand.make_clusters().await?;
        steps(&hand).await
    });
    let outcome = work.catch_unwind().await;
    hand.remove_clusters().await;
    match outcome {
        Ok(result) => result.unwrap(),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

async fn steps(hand: &Hand) -> anyhow::Result<()> {
    let [a, b] = [hand.connect("a").await?, hand.connect("b").await?];
    let cloud = tokio::spawn(load_balancer_with_host_names(b.clone()));
    let before = [namespaces(&a).await?, namespaces(&b).await?];

    show("a foreign namespace is refused");
    let sink_ns = hand.pod("sink")?.name.namespace();
    create_namespace(&b, &sink_ns).await?;
    let done = hand.deploy(&[]).await?;
    expect(&done, 3, "is there already and is not made by Ferry")?;
    ensure!(
        namespaces(&a).await? == before[0],
        "nothing may be made beside a foreign namespace"
    );
    b.delete_namespace(&sink_ns).await?;
    gone(&b, &sink_ns).await?;

    show("deploy brings it up, and a host name is as good as an address");
    let done = hand.deploy(&[]).await?;
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
    expect(&hand.xtask(&["sweep"]).await?, 0, "nothing was left behind")?;

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
    expect(&hand.deploy(&[]).await?, 0, "is deployed already")?;

    show("undeploy leaves what was there, and nothing else");
    expect(&hand.xtask(&["undeploy"]).await?, 0, "")?;
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

    show("e2e leaves nothing");
    let done = hand
        .on_clusters(&["e2e", "--runtime", "existing"], &[])
        .await?;
    expect(&done, 0, "passed on the existing runtime")?;
    let after = [namespaces(&a).await?, namespaces(&b).await?];
    ensure!(
        after == before,
        "{after:#?} must be what was there before: {before:#?}"
    );
    cloud.abort();
    Ok(())
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

/// What a cloud's controller does: an address for each Service of type LoadBalancer, here a host name.
async fn load_balancer_with_host_names(cluster: Cluster) -> anyhow::Result<()> {
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
        let address =
            json!({ "status": { "loadBalancer": { "ingress": [{ "hostname": HOST_NAME }] } } });
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

/// No key and no certificate of the user's kubeconfig may be in the state folder.
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
                    !text.contains(key),
                    "`{}` holds the user's key",
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
    let silent = Timeline::silent();
    let step = silent.step("delete a namespace");
    cluster.namespace_gone(namespace, LIMIT, &step).await?;
    step.done();
    Ok(())
}
