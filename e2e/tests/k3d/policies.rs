//! What the clusters' network lets through, asked from inside real pods, so that every policy is in force already.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use blueprint::plan::{
    ENVOY_STATS_PORT, FIRST_EGRESS_PORT, HTTP_PORT, INGRESS_PORT, RELAY_PORT, WOSP_PORT,
};
use cluster::kubernetes::Cluster;
use e2e::testing::show;
use futures_util::future::try_join_all;
use host::{
    docker,
    environment::PodRecord,
    select,
    wait::{Seen, Wait},
};
use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    networking::v1::NetworkPolicy,
};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use render::{ENVIRONMENT_LABEL, METRICS_LABEL, Object, USER};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::{
    broken::own_image,
    scene::{BLUEPRINTS, Scene},
};

const LIMIT: Duration = Duration::from_secs(60);
/// Longest time for one question, which is asked again until it is answered as expected.
const PATIENCE: &str = "10";
/// How long a question that must not be answered is asked.
const DOUBT: &str = "2";
/// A policy that is not kept by then is kept by nobody.
const KEPT_WITHIN: Duration = Duration::from_secs(15);
/// What every pod reaches unless a policy refuses it, and its answer: plain HTTP to a TLS port gets one all the same.
const API_SERVER: (&str, &str) = ("http://kubernetes.default.svc.cluster.local:443/", "400");
/// A pod that anybody in the cluster may have made.
const STRANGER: &str = "policy-stranger";

/// A place to ask from.
struct Asker<'a> {
    server: String,
    namespace: &'a str,
    pod: &'a str,
    container: &'static str,
    /// Whether what no policy names is refused here.
    enforced: bool,
}

impl Asker<'_> {
    /// Asks until the answer is `status`, or its time is over; the last thing seen.
    async fn ask(
        &self,
        url: &str,
        seconds: &str,
        status: &str,
    ) -> anyhow::Result<Result<(), String>> {
        let line = [
            "kubectl",
            "exec",
            "--namespace",
            self.namespace,
            self.pod,
            "--container",
            self.container,
            "--",
            "/probe",
            url,
            seconds,
            "--expect",
            status,
        ];
        let done = docker::exec(&self.server, &line, LIMIT).await?;
        let said = format!("{}{}", done.stdout, done.stderr);
        // So that a command that could not run is no refusal.
        anyhow::ensure!(
            said.contains(&format!("{url} ")),
            "{} in {}: {said}",
            self.pod,
            self.namespace
        );
        Ok(if done.status.success() {
            Ok(())
        } else {
            Err(said)
        })
    }

    async fn answered(&self, url: &str, status: &str) -> anyhow::Result<()> {
        let outcome = self.ask(url, PATIENCE, status).await?;
        assert_eq!(
            outcome,
            Ok(()),
            "{}/{} must reach {url}",
            self.namespace,
            self.pod
        );
        Ok(())
    }

    /// Nothing at all must come back, whatever the status.
    async fn refused(&self, url: &str) -> anyhow::Result<()> {
        if !self.enforced {
            return Ok(());
        }
        let outcome = self.ask(url, DOUBT, "200").await?;
        let Err(said) = outcome else {
            panic!("{}/{} must not reach {url}", self.namespace, self.pod);
        };
        assert!(
            !said.contains("last seen: answered"),
            "{}/{} must not reach {url}: {said}",
            self.namespace,
            self.pod
        );
        Ok(())
    }
}

/// From another namespace: the tunnel's port and no other, unless the namespace may read metrics; from the pod's own: as from any other.
#[tokio::test]
#[ignore = "needs k3d: .ci/k3d"]
async fn ingress_policy_opens_tunnel_alone() -> anyhow::Result<()> {
    let scene = &Scene::shared().await?;
    let kept = kept(scene).await?;
    for blueprint in BLUEPRINTS {
        let sink = select::sinks(&scene.environment.record, blueprint)
            .next()
            .context("a sink")?;
        let cluster = scene.cluster(sink.name.cluster())?;
        let ip = ip_of(cluster, sink).await?;
        let url = |port: u16, path: &str| format!("http://{ip}:{port}{path}");
        let others = format!("{STRANGER}-{blueprint}");
        let metrics = format!("{STRANGER}-{blueprint}-metrics");
        make_namespace(scene, cluster, &others, false).await?;
        make_namespace(scene, cluster, &metrics, true).await?;
        for namespace in [&others, &metrics, &sink.namespace] {
            make_stranger(scene, cluster, namespace).await?;
        }
        let server = server(scene, sink.name.cluster())?;
        let enforced = kept[sink.name.cluster()];
        let stranger = |namespace| Asker {
            server: server.clone(),
            namespace,
            pod: STRANGER,
            container: "app",
            enforced,
        };
        let open = [
            (HTTP_PORT, "/metrics"),
            (ENVOY_STATS_PORT, "/ready"),
            (WOSP_PORT, "/metrics"),
        ];
        for (port, path) in open {
            stranger(&metrics).answered(&url(port, path), "200").await?;
            stranger(&others).refused(&url(port, path)).await?;
            stranger(&sink.namespace).refused(&url(port, path)).await?;
        }
        stranger(&others)
            .answered(&url(INGRESS_PORT, "/health"), "200")
            .await?;
        for port in [RELAY_PORT, FIRST_EGRESS_PORT] {
            for namespace in [&others, &metrics] {
                stranger(namespace).refused(&url(port, "/")).await?;
            }
        }
        remove_stranger(cluster, &sink.namespace).await?;
        for namespace in [&others, &metrics] {
            Api::<Namespace>::all(cluster.client())
                .delete(namespace, &DeleteParams::default())
                .await?;
        }
    }
    Ok(())
}

/// A gateway reaches its own sink, and neither the port of another one, nor the API server, which a pod of another namespace both
/// reaches, nor a pod beside it.
#[tokio::test]
#[ignore = "needs k3d: .ci/k3d"]
async fn egress_policy_opens_own_sink_alone() -> anyhow::Result<()> {
    let scene = &Scene::shared().await?;
    const ELSEWHERE: &str = "policy-elsewhere";
    let kept = kept(scene).await?;
    let record = &scene.environment.record;
    let cluster = scene.cluster("cluster-a")?;
    make_namespace(scene, cluster, ELSEWHERE, false).await?;
    make_stranger(scene, cluster, ELSEWHERE).await?;
    let server = server(scene, "cluster-a")?;
    let enforced = kept["cluster-a"];
    let free = Asker {
        server: server.clone(),
        namespace: ELSEWHERE,
        pod: STRANGER,
        container: "app",
        enforced,
    };
    let health = |pod: &PodRecord| -> anyhow::Result<String> {
        let address = pod.peer_address.as_ref().context("an address")?;
        Ok(format!("http://{address}/health"))
    };
    for (blueprint, other) in [
        (BLUEPRINTS[0], BLUEPRINTS[1]),
        (BLUEPRINTS[1], BLUEPRINTS[0]),
    ] {
        let gateway = select::gateways(record, blueprint)
            .next()
            .context("a gateway")?;
        let sink = select::sinks(record, blueprint).next().context("a sink")?;
        let other_sink = select::sinks(record, other).next().context("a sink")?;
        let bound = Asker {
            server: server.clone(),
            namespace: &gateway.namespace,
            pod: &gateway.pod_name,
            container: "app",
            enforced,
        };
        bound.answered(&health(sink)?, "200").await?;
        let stranger = format!(
            "http://{}:{HTTP_PORT}/",
            address_of(cluster, ELSEWHERE, STRANGER).await?
        );
        let (api, answer) = API_SERVER;
        for (url, status) in [(health(other_sink)?, "200"), (api.to_owned(), answer)] {
            free.answered(&url, status).await?;
            bound.refused(&url).await?;
        }
        bound.refused(&stranger).await?;
    }
    Api::<Namespace>::all(cluster.client())
        .delete(ELSEWHERE, &DeleteParams::default())
        .await?;
    Ok(())
}

/// The container with the API server of a cluster, where there is a `kubectl`.
fn server(scene: &Scene, cluster: &str) -> anyhow::Result<String> {
    Ok(format!("k3d-{}-server-0", scene.reference(cluster)?))
}

/// Cluster → whether what a policy does not name is refused there. Tried once a process, on all clusters
/// side by side: it takes a while where no plugin enforces policies.
async fn kept(scene: &Scene) -> anyhow::Result<&'static BTreeMap<String, bool>> {
    static KEPT: OnceCell<BTreeMap<String, bool>> = OnceCell::const_new();
    let tries = scene
        .environment
        .record
        .clusters
        .iter()
        .map(async |cluster| {
            anyhow::Ok((cluster.name.clone(), enforced(scene, &cluster.name).await?))
        });
    KEPT.get_or_try_init(async || Ok(try_join_all(tries).await?.into_iter().collect()))
        .await
}

/// Whether what a policy does not name is refused in a cluster, tried with a policy that names nothing and is none of ours, since
/// each network plugin keeps policies by means of its own, and without one the API server takes them all the same. Where nobody
/// keeps them, only what must be open is asked for, and a line says so.
async fn enforced(scene: &Scene, name: &str) -> anyhow::Result<bool> {
    // Of this process: the one before may not be gone yet.
    let canary_namespace = format!("policy-canary-{}", std::process::id());
    let cluster = scene.cluster(name)?;
    make_namespace(scene, cluster, &canary_namespace, false).await?;
    make_stranger(scene, cluster, &canary_namespace).await?;
    let canary = Asker {
        server: server(scene, name)?,
        namespace: &canary_namespace,
        pod: STRANGER,
        container: "app",
        enforced: false,
    };
    let (url, status) = API_SERVER;
    canary.answered(url, status).await?;
    let nothing: NetworkPolicy = serde_json::from_value(json!({
        "metadata": { "name": "nothing" },
        "spec": { "podSelector": {}, "policyTypes": ["Egress"] },
    }))?;
    Api::<NetworkPolicy>::namespaced(cluster.client(), &canary_namespace)
        .create(&PostParams::default(), &nothing)
        .await?;
    let began = Instant::now();
    let enforced = Wait::until("the policy to be kept, or not")
        .within(LIMIT)
        .poll(async || {
            // A busy machine must not look like one that refuses.
            Ok(match canary.ask(url, PATIENCE, status).await? {
                Err(_) => Seen::Ready(true),
                Ok(()) if began.elapsed() > KEPT_WITHIN => Seen::Ready(false),
                Ok(()) => Seen::Waiting("it is not kept".into()),
            })
        })
        .await?;
    Api::<Namespace>::all(cluster.client())
        .delete(&canary_namespace, &DeleteParams::default())
        .await?;
    show(&format!(
        "{name}: {}",
        if enforced {
            "policies are kept, and refusals are checked"
        } else {
            "REFUSALS NOT CHECKED, nobody keeps policies here"
        }
    ));
    Ok(enforced)
}

async fn ip_of(cluster: &Cluster, record: &PodRecord) -> anyhow::Result<String> {
    address_of(cluster, &record.namespace, &record.pod_name).await
}

async fn address_of(cluster: &Cluster, namespace: &str, pod: &str) -> anyhow::Result<String> {
    let pod = Api::<Pod>::namespaced(cluster.client(), namespace)
        .get(pod)
        .await?;
    pod.status
        .and_then(|status| status.pod_ip)
        .context("an address")
}

async fn make_namespace(
    scene: &Scene,
    cluster: &Cluster,
    name: &str,
    reads_metrics: bool,
) -> anyhow::Result<()> {
    let mut labels = json!({ ENVIRONMENT_LABEL: scene.environment.name().as_str() });
    if reads_metrics {
        labels[METRICS_LABEL] = json!("true");
    }
    let namespace =
        serde_json::from_value(json!({ "metadata": { "name": name, "labels": labels } }))?;
    cluster.apply(&[Object::Namespace(namespace)]).await
}

/// A pod that stays for a while and from which others can be asked.
async fn make_stranger(scene: &Scene, cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": STRANGER },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "securityContext": { "runAsNonRoot": true, "runAsUser": USER, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "app",
                "image": own_image(scene).await?,
                "imagePullPolicy": "Never",
                "command": ["/probe", "http://127.0.0.1:1/", "600"],
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            }],
        },
    }))?;
    let pods = Api::<Pod>::namespaced(cluster.client(), namespace);
    pods.create(&PostParams::default(), &pod).await?;
    Wait::until(format!("pod {namespace}/{STRANGER}"))
        .within(LIMIT)
        .poll(async || {
            let phase = pods
                .get(STRANGER)
                .await?
                .status
                .and_then(|status| status.phase);
            Ok(match phase.as_deref() {
                Some("Running") => Seen::Ready(()),
                other => Seen::Waiting(format!("it is {other:?}")),
            })
        })
        .await
}

async fn remove_stranger(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    Api::<Pod>::namespaced(cluster.client(), namespace)
        .delete(STRANGER, &DeleteParams::default().grace_period(0))
        .await?;
    Ok(())
}
