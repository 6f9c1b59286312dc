//! Brings pods up on existing clusters; updates those that exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use blueprint::{
    Target,
    container::Container,
    failure::Failure,
    plan::{PeerAddress, Plan, Sockets},
};
use cluster::{image::architecture, kubeconfig, kubernetes::Cluster};
use futures_util::future::try_join_all;
use host::{
    clock,
    environment::{
        ClusterRecord, Environment, ExistingRecord, ImagesRecord, Lock, Store, random_hex,
    },
    timeline::Timeline,
};
use render::{Architecture, ENVOY_IMAGE, Images, PULL_SECRET};

use super::{Destination, addresses, distinct, pull_secret};
use crate::runtime::{
    UpError,
    clusters::{self, deploy},
    request::UpRequest,
};

/// Time for an API server to answer for the first time.
const API_LIMIT: Duration = Duration::from_secs(30);
/// Characters of a label's value, by the rules of Kubernetes.
const LONGEST_LABEL: usize = 63;

/// Everything that can be settled before anything is asked of a cluster.
struct Settled<'a> {
    plan: Plan,
    destination: &'a Destination,
    /// Cluster → context.
    contexts: BTreeMap<String, String>,
    kubeconfig: kubeconfig::Read,
    images: Images,
    credentials: Option<String>,
}

pub(crate) async fn up(
    store: &Store,
    lock: &Lock,
    request: &UpRequest,
    timeline: &Timeline,
) -> Result<Environment, UpError> {
    let settled = settle(request)?;
    let clusters = connect(&settled, timeline).await?;
    compare_clocks(&settled.plan, &clusters, &request.settings, timeline).await?;
    let label = label(request.name.as_str());
    check_namespaces(&settled.plan, &clusters, &label).await?;
    let mut environment = store.create(lock, request.draft())?;
    environment.record.existing = Some(ExistingRecord {
        kubeconfig: vec![],
        label,
    });
    let result = bring_up(&mut environment, request, &settled, &clusters, timeline).await;
    UpError::or(environment, result)
}

/// Brings an environment that is there to what `request` asks for; it must be of the same blueprints and contexts.
pub(crate) async fn refresh(
    environment: &mut Environment,
    request: &UpRequest,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let settled = settle(request)?;
    refuse_another(environment, &settled)?;
    let clusters = connect(&settled, timeline).await?;
    compare_clocks(&settled.plan, &clusters, &request.settings, timeline).await?;
    check_namespaces(&settled.plan, &clusters, environment.record.label()).await?;
    bring_up(environment, request, &settled, &clusters, timeline).await
}

fn settle(request: &UpRequest) -> anyhow::Result<Settled<'_>> {
    let destination = request.existing.as_ref().ok_or_else(|| {
        Failure::usage("the existing runtime requires `--context CLUSTER=NAME` for each cluster")
            .hint("run `kubectl config get-contexts` to list the contexts")
    })?;
    let mut plan = Plan::of(&request.blueprints, request.ports, &|_| Sockets::in_pod())?;
    let contexts = destination.contexts(&plan)?;
    addresses::check(&destination.addresses, &plan, "--address")?;
    addresses::check(&destination.reach, &plan, "--reach")?;
    if let Some(target) = destination.target {
        for pod in &mut plan.pods {
            if let Some(address) = addresses::given(&destination.addresses, pod) {
                let name = pod.name.pod().to_owned();
                pod.reserved.set_address(target, &name, &address.host);
            }
        }
    }
    let services = destination.image.clone().ok_or_else(|| {
        Failure::usage("missing `--image REGISTRY/NAME:TAG`, which the nodes pull").hint(
            "build it with `cargo xtask image --tag REGISTRY/NAME:TAG`, then upload it \
                   with `docker push`",
        )
    })?;
    let (images, credentials) = pulled_images(
        services,
        destination.envoy_image.clone(),
        destination.pull_secret.as_deref(),
        &destination.architectures,
    )?;
    let kubeconfig = kubeconfig::read(&kubeconfig::files(destination.kubeconfig.as_deref())?)?;
    for context in contexts.values() {
        kubeconfig.check_context(context)?;
    }
    Ok(Settled {
        plan,
        destination,
        contexts,
        kubeconfig,
        images,
        credentials,
    })
}

/// Images that nodes pull where they do not have them, and what the Secret that the pods name then holds. `envoy` is another
/// than [`ENVOY_IMAGE`]; `pull_secret` is Docker's `config.json`. `architectures` are those that the images are for; none are named
/// where they are as `cargo xtask image` builds them, for this machine's.
///
/// # Errors
///
/// A [`Failure::usage`] where one has a name that no image can have, and for credentials that no node can use.
pub(crate) fn pulled_images(
    services: String,
    envoy: Option<String>,
    pull_secret: Option<&Path>,
    architectures: &[Architecture],
) -> anyhow::Result<(Images, Option<String>)> {
    let images = Images {
        services,
        envoy: envoy.unwrap_or_else(|| ENVOY_IMAGE.into()),
        pull_policy: "IfNotPresent".into(),
        pull_secret: pull_secret.map(|_| PULL_SECRET.into()),
        architectures: match architectures {
            [] => Architecture::here().into_iter().collect(),
            given => given.to_vec(),
        },
        programs: None,
    };
    if let Some(bad) = images.all().iter().find(|image| !is_image(image)) {
        return Err(Failure::usage(format!("invalid image name `{bad}`"))
            .hint("use the form REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:…")
            .into());
    }
    let credentials = pull_secret.map(|path| pull_secret::read(path, &images));
    Ok((images, credentials.transpose()?))
}

/// Characters that a name with a tag or digest may have.
/// <https://github.com/distribution/reference/blob/main/reference.go>
fn is_image(name: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"./:@_-".contains(&byte);
    !name.is_empty()
        && name.bytes().all(letters)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.ends_with(|last: char| last.is_ascii_alphanumeric())
}

/// A label that no other environment has, even one of the same name on the same clusters.
fn label(name: &str) -> String {
    let unique = random_hex(8);
    let room = LONGEST_LABEL - unique.len() - 1;
    let name = name[..name.len().min(room)].trim_end_matches('-');
    format!("{name}-{unique}")
}

/// Whatever a deployment leaves out would be left behind, so it is another environment.
fn refuse_another(environment: &Environment, settled: &Settled<'_>) -> anyhow::Result<()> {
    let record = &environment.record;
    let has: BTreeMap<_, _> = record
        .clusters
        .iter()
        .map(|cluster| (cluster.name.clone(), cluster.reference.clone()))
        .collect();
    let pods: BTreeSet<_> = record.pods.iter().map(|pod| pod.name.to_string()).collect();
    let wanted: BTreeSet<_> = settled
        .plan
        .pods
        .iter()
        .map(|pod| pod.name.to_string())
        .collect();
    let other = if has != settled.contexts {
        let has: Vec<_> = has
            .iter()
            .map(|(cluster, context)| format!("{cluster}={context}"))
            .collect();
        format!("is on other clusters: {}", has.join(", "))
    } else if pods != wanted {
        let has: Vec<_> = record
            .pods
            .iter()
            .map(|pod| format!("{}/{}", pod.name.blueprint(), pod.name.pod()))
            .collect();
        format!("has other pods: {}", has.join(", "))
    } else {
        return Ok(());
    };
    let name = environment.name();
    Err(Failure::usage(format!("environment `{name}` {other}"))
        .hint(format!(
            "remove it with `cargo xtask undeploy --name {name}`, or pass another `--name`"
        ))
        .into())
}

async fn connect(
    settled: &Settled<'_>,
    timeline: &Timeline,
) -> anyhow::Result<BTreeMap<String, Cluster>> {
    let connected = settled.contexts.iter().map(|(name, context)| async move {
        timeline
            .run(
                format!("reach the API server of {name} (context `{context}`)"),
                |step| async move {
                    let config = settled.kubeconfig.config.clone();
                    let cluster = Cluster::connect_by(name, config, context).await?;
                    cluster.suits(context, API_LIMIT, &step).await?;
                    Ok((name.clone(), cluster))
                },
            )
            .await
    });
    let images = settled.images.all();
    let (connected, doubts) = tokio::join!(
        try_join_all(connected),
        architecture::doubts(&images, &settled.images.architectures)
    );
    for doubt in doubts {
        timeline.warning(doubt);
    }
    let connected = connected?.into_iter().collect();
    distinct::check(&settled.contexts, &connected, timeline).await?;
    Ok(connected)
}

/// Writes down where later commands find the kubeconfig.
fn record_kubeconfig(
    environment: &mut Environment,
    read: &kubeconfig::Read,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let folder = environment.layout().root().to_owned();
    if let Some(existing) = &mut environment.record.existing {
        existing.kubeconfig = read.keep(&folder, &existing.kubeconfig, timeline)?;
    }
    Ok(())
}

/// Holds the API servers' clocks against each other, before anything is made: the nodes' are like them, or the pods will say.
async fn compare_clocks(
    plan: &Plan,
    clusters: &BTreeMap<String, Cluster>,
    settings: &BTreeMap<String, String>,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let clocks = clusters::api_clocks(clusters.values()).await;
    if !clocks.all().is_empty() {
        timeline.note(format!("clocks: {clocks}"));
    }
    let checked = clocks.check(plan.connections(), clock::tolerance(settings));
    checked.map_err(|far| Failure::from(far).into())
}

/// All of them before anything is made in any.
async fn check_namespaces(
    plan: &Plan,
    clusters: &BTreeMap<String, Cluster>,
    label: &str,
) -> anyhow::Result<()> {
    let checks = plan.pods.iter().map(|pod| async move {
        let cluster = clusters
            .get(pod.name.cluster())
            .with_context(|| format!("{} is not connected", pod.name.cluster()))?;
        cluster
            .check_namespace_is_ours(&pod.name.namespace(), label)
            .await
    });
    try_join_all(checks).await?;
    Ok(())
}

async fn bring_up(
    environment: &mut Environment,
    request: &UpRequest,
    settled: &Settled<'_>,
    clusters: &BTreeMap<String, Cluster>,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let Settled {
        plan, destination, ..
    } = settled;
    record_kubeconfig(environment, &settled.kubeconfig, timeline)?;
    let cluster_record = |(name, context): (&String, &String)| ClusterRecord {
        name: name.clone(),
        reference: context.clone(),
        processes: vec![],
    };
    environment.record.clusters = settled.contexts.iter().map(cluster_record).collect();
    clusters::record_pods(environment, plan)?;
    clusters::must_not_lose(environment, plan, clusters).await?;
    let secrets = clusters::secrets(environment, plan)?;
    let label = environment.record.label().to_owned();
    let deployment = deploy::Request {
        environment: &label,
        plan,
        target: destination.target.unwrap_or(Target::K3d),
        clusters,
        images: &settled.images,
        own_images: &BTreeMap::new(),
        secrets: &secrets,
        settings: &request.settings,
        peer_address: &|pod, load_balancer| {
            addresses::given(&destination.addresses, pod).unwrap_or_else(|| PeerAddress {
                host: load_balancer.into(),
                port: pod.public_port,
            })
        },
        nodes_are_here: false,
        explain: None,
        pull_secret: settled.credentials.as_deref(),
        dialling: deploy::Dialling::UpstreamNamespace,
        limits: deploy::Limits::ANYWHERE,
    };
    deploy::deploy(&deployment, timeline, |deployed| {
        for each in deployed
            .iter()
            .filter(|each| each.peer_address.host != each.load_balancer)
        {
            timeline.note(format!(
                "{} in {}: its load balancer is {}, others dial {} as asked",
                each.name.pod(),
                each.name.cluster(),
                each.load_balancer,
                each.peer_address
            ));
        }
        clusters::record_deployed(environment, plan, deployed, |pod, deployed| {
            addresses::given(&destination.reach, pod).unwrap_or_else(|| PeerAddress {
                host: deployed.load_balancer.clone(),
                port: pod.public_port,
            })
        })
    })
    .await?;
    record_images(environment, &settled.images, clusters, timeline).await?;
    let boundary = environment
        .record
        .pods
        .iter()
        .filter(|pod| pod.token_file.is_some());
    let hint = "where this machine cannot reach that address, say by `--reach CLUSTER=HOST[:PORT]` what it can";
    clusters::answer_here(boundary, hint, timeline).await
}

/// Writes down what the nodes run: a registry may give something else under the same name tomorrow.
async fn record_images(
    environment: &mut Environment,
    images: &Images,
    clusters: &BTreeMap<String, Cluster>,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let mut digests = BTreeMap::<String, BTreeSet<String>>::new();
    for pod in &environment.record.pods {
        let cluster = clusters
            .get(pod.name.cluster())
            .with_context(|| format!("{} is not connected", pod.name.cluster()))?;
        for (container, id) in cluster.image_ids(&pod.name).await? {
            let image = match container {
                Container::Envoy => &images.envoy,
                Container::App | Container::Wosp => &images.services,
            };
            digests.entry(image.clone()).or_default().insert(id);
        }
    }
    for (image, ids) in digests.iter().filter(|(_, ids)| ids.len() > 1) {
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        timeline.warning(format!(
            "`{image}` is not the same on every node: {}; name it by its digest",
            ids.join(", ")
        ));
    }
    environment.record.images = Some(ImagesRecord {
        services: images.services.clone(),
        envoy: images.envoy.clone(),
        digests,
    });
    environment.save()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_of_one_environment_only_and_fits() {
        assert_ne!(label("local"), label("local"));
        assert!(label("local").starts_with("local-"));
        let longest = label(&"a".repeat(63));
        assert!(
            longest.len() <= LONGEST_LABEL && messages::is_dns_label(&longest),
            "{longest}"
        );
    }

    #[test]
    fn an_image_is_named_by_tag_or_digest() {
        for name in [
            "ferry/services:1",
            "localhost:5000/ferry:1",
            "r.example/a@sha256:00",
        ] {
            assert!(is_image(name), "{name}");
        }
        for name in ["", "a b", "-a", "a:", "a\"b", "a,b"] {
            assert!(!is_image(name), "`{name}`");
        }
    }
}
