//! Deploys a plan to clusters, farthest pods first: each pod's address is known and dialled
//! from the upstream cluster before the upstream pod's objects exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};

use anyhow::Context as _;
use blueprint::{
    Target,
    failure::Failure,
    plan::{PeerAddress, Plan, PodPlan},
};
use cluster::kubernetes::{Cluster, LivePod};
use futures_util::future::{BoxFuture, try_join_all};
use host::{
    clock::Clocks,
    timeline::{Step, Timeline},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use messages::WorkloadName;
use render::{
    self, Controller, ENVIRONMENT_LABEL, FIELD_MANAGER, Images, Object, Options, PodSecrets, USER,
};
use serde_json::json;

mod clocks;

/// Longest time for a pod to be scheduled, started and ready, images being on the nodes.
pub(crate) const ROLLOUT_LIMIT: Duration = Duration::from_secs(120);
/// Time for a pod that dials to be scheduled and started, on top of its dialling.
const DIAL_ALLOWANCE: Duration = Duration::from_secs(35);
/// Namespace of the short-lived pods that dial.
const DIAL_NAMESPACE: &str = "ferry-dial-ns";
/// Label of such a pod: the port that the cluster's network lets it reach.
const DIALLED_PORT_LABEL: &str = "ferry.internal/dials";

/// Longest times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For a pod to be scheduled, started and ready.
    pub rollout: Duration,
    /// For its Service to get a LoadBalancer address.
    pub address: Duration,
    /// For that address to answer from inside another cluster, in seconds.
    pub dial_seconds: u16,
}

impl Limits {
    /// Clusters of this machine, with the images on the nodes. k3d's load balancer leaves a node out for 10 s after one
    /// refused connection, so dialling gets more than twice that.
    pub const PREPARED: Self = Self {
        rollout: ROLLOUT_LIMIT,
        address: Duration::from_secs(90),
        dial_seconds: 25,
    };
    /// Any cluster: images are pulled, a cloud makes load balancers in minutes, and their names take minutes to resolve.
    pub const ANYWHERE: Self = Self {
        rollout: Duration::from_secs(300),
        address: Duration::from_secs(300),
        dial_seconds: 240,
    };
}

/// Where the short-lived pods run that dial from inside a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialling {
    /// In a namespace made for it, which goes with its cluster.
    OwnNamespace,
    /// In the namespace of the pod that will dial from then on.
    UpstreamNamespace,
}

/// A pod that does not answer from inside a cluster.
#[derive(Clone, Debug)]
pub struct Unreached {
    /// The cluster that dialled, by its name in the blueprint.
    pub from: String,
    pub pod: WorkloadName,
    /// The address that it was dialled at.
    pub address: PeerAddress,
    /// What the dialling pod saw last, in the words of `/probe`.
    pub seen: String,
}

/// Looks for the reason where a pod is not reached; `None` where there is nothing to find.
pub type Explain<'a> = dyn Fn(Unreached) -> BoxFuture<'a, Option<Failure>> + Sync + 'a;

/// What is to be deployed, and where. No `Debug`: it holds keys.
pub struct Request<'a> {
    /// Value of [`ENVIRONMENT_LABEL`] on every object.
    pub environment: &'a str,
    pub plan: &'a Plan,
    /// What the clusters are.
    pub target: Target,
    /// By the cluster's name in the blueprint.
    pub clusters: &'a BTreeMap<String, Cluster>,
    pub images: &'a Images,
    /// Those of pods that run others than [`Self::images`].
    pub own_images: &'a BTreeMap<WorkloadName, Images>,
    pub secrets: &'a BTreeMap<WorkloadName, PodSecrets>,
    pub settings: &'a BTreeMap<String, String>,
    /// Where pods of other clusters dial a pod, given the address that its load balancer got.
    pub peer_address: &'a (dyn Fn(&PodPlan, &str) -> PeerAddress + Sync),
    /// Whether the nodes are on this machine: then each must answer before anything dials the load balancer before them.
    pub nodes_are_here: bool,
    /// Knows what may be in the way between clusters.
    pub explain: Option<&'a Explain<'a>>,
    /// Docker's `config.json` with the registry's credentials, for the Secret [`render::PULL_SECRET`].
    pub pull_secret: Option<&'a str>,
    pub dialling: Dialling,
    pub limits: Limits,
}

/// One pod that is up.
#[derive(Clone, Debug)]
pub struct Deployed {
    pub name: WorkloadName,
    pub live: LivePod,
    /// What the cluster's load balancer got: an IP address or a host name.
    pub load_balancer: String,
    pub peer_address: PeerAddress,
    pub applied_at: Timestamp,
    /// When every upstream cluster had got an answer of it.
    pub dialled_at: Option<Timestamp>,
}

/// Deploys stage by stage, the pods of one stage concurrently. `record` receives each stage's pods
/// before the next one begins.
pub async fn deploy(
    request: &Request<'_>,
    timeline: &Timeline,
    mut record: impl FnMut(&[Deployed]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut peers = BTreeMap::new();
    let clocks = Mutex::default();
    for stage in request.plan.stages() {
        let deployed = try_join_all(
            stage
                .iter()
                .map(|pod| deploy_pod(request, pod, &peers, &clocks, timeline)),
        )
        .await?;
        record(&deployed)?;
        peers.extend(
            deployed
                .into_iter()
                .map(|each| (each.name, each.peer_address)),
        );
    }
    Ok(())
}

/// Applies a pod's `peers` ConfigMap again, for addresses that have changed, and has the kubelet take it now.
pub async fn update_peers(
    request: &Request<'_>,
    pod: &PodPlan,
    peers: &BTreeMap<WorkloadName, PeerAddress>,
) -> anyhow::Result<()> {
    let (cluster, options) = (cluster_of(request, pod)?, options(request, pod, peers)?);
    let policy = render::peers_policy(pod, &options).map(Object::NetworkPolicy);
    let peers = Object::ConfigMap(render::peers(pod, &options)?);
    // The way is opened before it is taken.
    let objects: Vec<_> = policy.into_iter().chain([peers]).collect();
    cluster.apply(&objects).await?;
    cluster
        .nudge(&pod.name, &Timestamp::now().to_string())
        .await
}

async fn deploy_pod(
    request: &Request<'_>,
    pod: &PodPlan,
    peers: &BTreeMap<WorkloadName, PeerAddress>,
    clocks: &Mutex<Clocks>,
    timeline: &Timeline,
) -> anyhow::Result<Deployed> {
    let (name, cluster) = (&pod.name, cluster_of(request, pod)?);
    let title = format!(
        "deploy {} in {} ({})",
        name.pod(),
        name.cluster(),
        name.blueprint()
    );
    timeline
        .run(title, |step| async move {
            let applied_at = Timestamp::now();
            prepare_namespace(request, cluster, pod).await?;
            // Before anything is awaited of them, and with the credentials of now.
            let controller = Controller::of(pod.role);
            cluster.replace_broken(name, controller).await?;
            for manifest in render::pod(pod, &options(request, pod, peers)?)? {
                step.progress(format!("apply {}", manifest.file));
                cluster.apply(&manifest.objects).await?;
            }
            let limits = request.limits;
            let address = async {
                if let Some(host) = render::bound_to(pod, request.target) {
                    return Ok(host.to_owned());
                }
                let came = cluster
                    .load_balancer_address(name, pod.public_port, limits.address, &step)
                    .await?;
                render::check_address(pod, request.target, &came)?;
                Ok(came)
            };
            let up = async {
                let up = cluster.rolled_out(name, controller, limits.rollout, &step);
                tokio::try_join!(up, address)
            };
            let (live, load_balancer) = clocks::unless_apart(request, pod, clocks, up).await?;
            if request.nodes_are_here {
                cluster.nodes_answer(pod.public_port, &step).await?;
            }
            let peer_address = (request.peer_address)(pod, &load_balancer);
            let dialled_at = dial(request, pod, &peer_address, &step).await?;
            Ok(Deployed {
                name: name.clone(),
                live,
                load_balancer,
                peer_address,
                applied_at,
                dialled_at,
            })
        })
        .await
}

/// Creates the namespace of a pod with what its images need, unless it exists and has another
/// owner.
async fn prepare_namespace(
    request: &Request<'_>,
    cluster: &Cluster,
    pod: &PodPlan,
) -> anyhow::Result<()> {
    let namespace = pod.name.namespace();
    cluster
        .check_namespace_is_ours(&namespace, request.environment)
        .await?;
    let nobody = BTreeMap::new();
    let options = options(request, pod, &nobody)?;
    let manifests = render::pod(pod, &options)?;
    let own = manifests
        .iter()
        .flat_map(|manifest| &manifest.objects)
        .filter(|object| matches!(object, Object::Namespace(_)));
    for object in own {
        cluster.apply(std::slice::from_ref(object)).await?;
    }
    let Some(credentials) = request.pull_secret else {
        return Ok(());
    };
    let secret = render::pull_secret(pod, &options, credentials);
    cluster.apply(&[Object::Secret(secret)]).await
}

/// Labels of what is made beside the manifests.
fn labels(request: &Request<'_>) -> serde_json::Value {
    json!({
        ENVIRONMENT_LABEL: request.environment,
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        "app.kubernetes.io/part-of": "ferry",
    })
}

fn options<'a>(
    request: &'a Request<'_>,
    pod: &PodPlan,
    peers: &'a BTreeMap<WorkloadName, PeerAddress>,
) -> anyhow::Result<Options<'a>> {
    let secrets = request
        .secrets
        .get(&pod.name)
        .with_context(|| format!("no authority was created for {}", pod.name))?;
    Ok(Options {
        environment: request.environment,
        target: request.target,
        images: request.own_images.get(&pod.name).unwrap_or(request.images),
        peers,
        secrets,
        settings: request.settings,
    })
}

fn cluster_of<'a>(request: &'a Request<'_>, pod: &PodPlan) -> anyhow::Result<&'a Cluster> {
    request.clusters.get(pod.name.cluster()).with_context(|| {
        format!(
            "{} names cluster {}, which is not connected",
            pod.name,
            pod.name.cluster()
        )
    })
}

/// Asks the pod's `/health` from inside each cluster that will send to it; `None` if none does.
async fn dial(
    request: &Request<'_>,
    pod: &PodPlan,
    address: &PeerAddress,
    step: &Step,
) -> anyhow::Result<Option<Timestamp>> {
    let from: BTreeSet<&str> = pod.upstreams.iter().map(WorkloadName::cluster).collect();
    if from.is_empty() {
        return Ok(None);
    }
    let dials = from.into_iter().map(|from| async move {
        let cluster = request
            .clusters
            .get(from)
            .with_context(|| format!("cluster {from} is not connected"))?;
        dial_from(request, cluster, pod, address, step).await
    });
    try_join_all(dials).await?;
    Ok(Some(Timestamp::now()))
}

async fn dial_from(
    request: &Request<'_>,
    cluster: &Cluster,
    pod: &PodPlan,
    address: &PeerAddress,
    step: &Step,
) -> anyhow::Result<()> {
    let what = format!("dial {address} from inside {}", cluster.name());
    step.progress(&*what);
    let namespace = dial_namespace(request, cluster, pod).await?;
    let dials = (DIALLED_PORT_LABEL.to_owned(), address.port.to_string());
    let policies = render::dialling(&namespace, &[dials.clone()].into(), address.port);
    let policies: Vec<_> = policies.into_iter().map(Object::NetworkPolicy).collect();
    cluster.apply(&policies).await?;
    let mut labels = labels(request);
    labels[dials.0] = json!(dials.1);
    let name = format!(
        "dial-{}-{}",
        pod.name.pod(),
        uuid::Uuid::new_v4().simple().to_string().split_at(8).0
    );
    let probe: Pod = serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": namespace, "labels": labels },
        "spec": {
            "imagePullSecrets": request.images.pull_secret.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
            "restartPolicy": "Never",
            "nodeSelector": render::node_selector(),
            "affinity": render::node_affinity(&request.images.architectures),
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 0,
            "securityContext": { "runAsNonRoot": true, "runAsUser": USER, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "probe",
                "image": request.images.services,
                "imagePullPolicy": request.images.pull_policy,
                "command": ["/probe", format!("http://{address}/health"), request.limits.dial_seconds.to_string()],
                "resources": { "requests": { "cpu": "10m", "memory": "8Mi" }, "limits": { "memory": "32Mi" } },
                "securityContext": { "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] } },
            }],
        },
    }))?;
    cluster.create_pod(&probe).await?;
    let limit = Duration::from_secs(request.limits.dial_seconds.into()) + DIAL_ALLOWANCE;
    let ended = cluster.ended(&namespace, &name, &what, limit, step).await;
    // The verdict stands whatever becomes of the probe's remains; the namespace goes with its environment.
    let removed = cluster.delete_pod(&namespace, &name).await;
    let Err(error) = ended else {
        return removed;
    };
    if let Some(explain) = request.explain {
        let unreached = Unreached {
            from: cluster.name().to_owned(),
            pod: pod.name.clone(),
            address: address.clone(),
            seen: format!("{error:#}"),
        };
        if let Some(failure) = explain(unreached).await {
            return Err(error.context(failure));
        }
    }
    Err(unreachable(request, cluster, pod, address, error))
}

/// The failure of a pod that does not answer where it is dialled.
fn unreachable(
    request: &Request<'_>,
    cluster: &Cluster,
    pod: &PodPlan,
    address: &PeerAddress,
    error: anyhow::Error,
) -> anyhow::Error {
    // The pod has not dialled where something else is known to be wrong with it.
    if Failure::of(&error).and_then(Failure::next_step).is_some() {
        return error;
    }
    let other = match request.dialling {
        Dialling::OwnNamespace => "",
        Dialling::UpstreamNamespace => "; `--address CLUSTER=HOST[:PORT]` names another address",
    };
    let hint = format!(
        "see that {address} is reachable from the nodes of {}, and that nothing else answers there{other}",
        cluster.name()
    );
    error.context(
        Failure::infrastructure(format!(
            "{}: {} is not reachable at {address}",
            cluster.name(),
            pod.name
        ))
        .hint(hint),
    )
}

/// The namespace for a pod that dials `pod` from inside `cluster`, made where it is not there yet.
async fn dial_namespace(
    request: &Request<'_>,
    cluster: &Cluster,
    pod: &PodPlan,
) -> anyhow::Result<String> {
    match request.dialling {
        Dialling::OwnNamespace => {
            let mut labels = labels(request);
            labels["pod-security.kubernetes.io/enforce"] = json!("restricted");
            let namespace: Namespace = serde_json::from_value(
                json!({ "metadata": { "name": DIAL_NAMESPACE, "labels": labels } }),
            )?;
            cluster.apply(&[Object::Namespace(namespace)]).await?;
            Ok(DIAL_NAMESPACE.into())
        }
        Dialling::UpstreamNamespace => {
            let mut upstreams = pod.upstreams.iter();
            let upstream = upstreams
                .find(|upstream| upstream.cluster() == cluster.name())
                .and_then(|upstream| request.plan.pod(upstream))
                .with_context(|| format!("no pod in {} sends to {}", cluster.name(), pod.name))?;
            prepare_namespace(request, cluster, upstream).await?;
            Ok(upstream.name.namespace())
        }
    }
}
