//! From blueprints to ready pods on clusters of this machine. What is there already is taken as it is, so that doing it
//! again changes what has changed and heals what is broken.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use anyhow::Context as _;
use futures_util::future::try_join_all;
use messages::WorkloadName;

use super::clusters::{self, ClusterSpec, Clusters, HostPort, PortMapping};
use crate::{
    blueprint::Target,
    deploy,
    doctor::{self, Outcome},
    environment::{
        ClusterRecord, Environment, ImagesRecord, Layout, Lock, PodRecord, Store, private_folder,
        replace_file,
    },
    failure::Failure,
    http::Request,
    identity::{self, Authority, Root, Server},
    image,
    kubernetes::Cluster,
    plan::{PeerAddress, Plan, PodPlan, Sockets},
    render::{Images, K3D_HOST, PodSecrets},
    runtime::{PublicAddress, UpRequest, pinhole_folder, planned, token_file},
    services,
    timeline::{Step, Timeline},
    wait::{Seen, Wait},
};

/// Time for an API server that k3d calls up to answer and to have a ready node.
const API_LIMIT: Duration = Duration::from_secs(60);
/// Time for a ready pod to answer through the load balancer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Fails where nothing was made; else the environment as far as it came, and how that went.
pub(in crate::runtime) async fn up(
    store: &Store,
    lock: &Lock,
    request: &UpRequest,
    timeline: &Timeline,
) -> anyhow::Result<(Environment, anyhow::Result<()>)> {
    // Everything that can be refused is refused before anything is made.
    let plan = plan(request)?;
    let ports = match request.public {
        PublicAddress::Localhost => plan
            .clusters
            .iter()
            .flat_map(|cluster| cluster.public_ports.iter().copied())
            .collect(),
        PublicAddress::OwnNetwork => vec![],
    };
    check_machine(&ports, timeline).await?;
    let mut environment = store.create(lock, request.draft())?;
    let result = bring_up(&mut environment, request, &plan, timeline).await;
    Ok((environment, result))
}

/// Brings an environment that is there to what `request` asks for: clusters that are stopped are started, services that
/// changed are built and rolled out.
pub(in crate::runtime) async fn refresh(
    environment: &mut Environment,
    request: &UpRequest,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    bring_up(environment, request, &plan(request)?, timeline).await
}

fn plan(request: &UpRequest) -> anyhow::Result<Plan> {
    Plan::of(&request.blueprints, request.ports, &|_| Sockets::in_pod())
}

/// The doctor's checks; the first that fails is the failure, the others are shown beside it.
async fn check_machine(ports: &[u16], timeline: &Timeline) -> anyhow::Result<()> {
    let checks = timeline
        .run("check this machine", |_| async {
            Ok(doctor::run(crate::environment::RuntimeKind::K3d, ports).await)
        })
        .await?;
    let mut failed = vec![];
    for check in checks {
        match check.outcome {
            Outcome::Ok => {}
            Outcome::Warn => timeline.warning(format!(
                "{}: {}; {}",
                check.name,
                check.detail,
                check.fix.unwrap_or_default()
            )),
            Outcome::Fail => failed.push(check),
        }
    }
    let mut failed = failed.into_iter();
    let Some(first) = failed.next() else {
        return Ok(());
    };
    for other in failed {
        timeline.warning(format!(
            "{}: {}; {}",
            other.name,
            other.detail,
            other.fix.unwrap_or_default()
        ));
    }
    Err(
        Failure::infrastructure(format!("{}: {}", first.name, first.detail))
            .hint(first.fix.unwrap_or_default())
            .into(),
    )
}

async fn bring_up(
    environment: &mut Environment,
    request: &UpRequest,
    plan: &Plan,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let layout = environment.layout().clone();
    record_plan(environment, request, plan)?;
    let specs: Vec<_> = plan
        .clusters
        .iter()
        .map(|cluster| spec(request, cluster))
        .collect();
    let ours = Clusters::new(environment.name().as_str(), layout.root());
    // The clusters take longest, so everything else is done beside their creation.
    let planned_nodes: Vec<_> = specs.iter().flat_map(ClusterSpec::nodes).collect();
    let (running, (images, secrets)) = tokio::try_join!(ours.up(&specs, timeline), async {
        let images = make_images(timeline).await?;
        let secrets = secrets(environment, plan)?;
        image::preload(&images.all(), &planned_nodes, timeline).await;
        anyhow::Ok((images, secrets))
    })?;
    environment.record.images = Some(ImagesRecord {
        services: images.services.clone(),
        envoy: images.envoy.clone(),
    });
    let nodes: Vec<_> = running
        .iter()
        .flat_map(|cluster| cluster.nodes.iter().cloned())
        .collect();
    let connect = try_join_all(plan.clusters.iter().zip(&running).map(
        |(planned, cluster)| async move {
            let connected = Cluster::connect(&planned.name, &cluster.kubeconfig).await?;
            let step = timeline.step(format!("reach the API server of {}", planned.name));
            connected.answers(API_LIMIT, &step).await?;
            connected.caught_up(&cluster.started, &step).await?;
            connected.settle_dns(&step).await?;
            step.done();
            Ok((planned.name.clone(), connected))
        },
    ));
    let wanted = images.all();
    let (_, connected) = tokio::try_join!(image::import(&wanted, &nodes, timeline), connect)?;
    let connected: BTreeMap<_, _> = connected.into_iter().collect();
    let host_ports: BTreeMap<_, _> = plan
        .clusters
        .iter()
        .zip(&running)
        .map(|(planned, cluster)| (planned.name.clone(), cluster.ports.clone()))
        .collect();
    let host_port = |pod: &PodPlan| {
        host_ports
            .get(pod.name.cluster())
            .and_then(|ports| ports.get(&pod.public_port))
            .copied()
            .unwrap_or(pod.public_port)
    };
    let deployment = deploy::Request {
        environment: environment.name().as_str(),
        plan,
        target: Target::K3d,
        clusters: &connected,
        images: &images,
        secrets: &secrets,
        settings: &request.settings,
        // A pod of one cluster knows nothing of the other's Docker network; this machine's published port is the way across.
        peer_address: &|pod, _| PeerAddress {
            host: K3D_HOST.into(),
            port: host_port(pod),
        },
        nodes_are_here: true,
    };
    let mut record = environment.clone();
    deploy::deploy(&deployment, timeline, |deployed| {
        for each in deployed {
            let pod = record
                .record
                .pod_mut(&each.name)
                .with_context(|| format!("{} is not recorded", each.name))?;
            let planned = plan
                .pod(&each.name)
                .with_context(|| format!("{} is not planned", each.name))?;
            pod.pod_name = each.live.name.clone();
            pod.node = each.live.node.clone();
            pod.load_balancer = Some(each.load_balancer.clone());
            pod.peer_address = Some(each.peer_address.clone());
            pod.local_address = Some(PeerAddress {
                host: Ipv4Addr::LOCALHOST.to_string(),
                port: host_port(planned),
            });
            pod.started_at = each.live.created_at.or(Some(each.applied_at));
            pod.ready_at = each.live.ready_at;
            pod.dialled_at = each.dialled_at;
        }
        record.save()
    })
    .await?;
    environment.record = record.record;
    answer_here(&environment.record.pods, timeline).await
}

/// Waits until every pod answers on its port of this machine: after a restart, k3d's load balancer leaves a node out for
/// 10 s once it was refused.
async fn answer_here(pods: &[PodRecord], timeline: &Timeline) -> anyhow::Result<()> {
    timeline
        .run("reach every pod from this machine", |step| async move {
            try_join_all(pods.iter().map(|pod| answers_here(pod, &step))).await?;
            Ok(())
        })
        .await
}

async fn answers_here(pod: &PodRecord, step: &Step) -> anyhow::Result<()> {
    let Some(address) = &pod.local_address else {
        return Ok(());
    };
    Wait::until(format!("{} at {address}", pod.name))
        .within(ANSWER_LIMIT)
        .hint("`cargo xtask status` shows how it is, `cargo xtask logs` what it says")
        .showing(step)
        .poll(|| async {
            Ok(match Request::get(address, "/health").send().await {
                Ok(answer) if answer.status == 200 => Seen::Ready(()),
                Ok(answer) => Seen::Waiting(format!("it answers {}", answer.status)),
                Err(error) => Seen::Waiting(format!("{error:#}")),
            })
        })
        .await
}

/// `local-up` has the clusters under the names that the blueprint gives them; others share the machine with more of their kind.
fn spec(request: &UpRequest, cluster: &crate::plan::ClusterPlan) -> ClusterSpec {
    let port = |service: u16| match request.public {
        PublicAddress::Localhost => PortMapping {
            host: HostPort::Fixed(service),
            service,
        },
        PublicAddress::OwnNetwork => PortMapping {
            host: HostPort::Free,
            service,
        },
    };
    let name = match request.public {
        PublicAddress::Localhost => cluster.name.clone(),
        PublicAddress::OwnNetwork => clusters::cluster_name(request.name.as_str(), &cluster.name),
    };
    ClusterSpec {
        name,
        ports: cluster.public_ports.iter().copied().map(port).collect(),
    }
}

async fn make_images(timeline: &Timeline) -> anyhow::Result<Images> {
    let services = async { image::services(&services::binaries(timeline).await?, timeline).await };
    let (services, envoy) = tokio::try_join!(services, image::envoy(timeline))?;
    Ok(Images {
        services,
        envoy,
        pull_policy: "Never".into(),
    })
}

/// Writes down what is going to be, so that whatever ends this command, a later one knows what there may be.
fn record_plan(
    environment: &mut Environment,
    request: &UpRequest,
    plan: &Plan,
) -> anyhow::Result<()> {
    let layout = environment.layout().clone();
    let record = &mut environment.record;
    record.clusters = plan
        .clusters
        .iter()
        .map(|cluster| ClusterRecord {
            name: cluster.name.clone(),
            reference: spec(request, cluster).name,
            processes: vec![],
        })
        .collect();
    let before = std::mem::take(&mut record.pods);
    record.pods = plan
        .pods
        .iter()
        .map(|pod| {
            let known = before.iter().find(|known| known.name == pod.name).cloned();
            known.unwrap_or_else(|| planned(&layout, pod))
        })
        .collect();
    environment.save()
}

/// The authorities and tokens of all pods: made once, and the same again whenever the environment is brought up anew. The
/// root's key stays in the state folder.
fn secrets(
    environment: &Environment,
    plan: &Plan,
) -> anyhow::Result<BTreeMap<WorkloadName, PodSecrets>> {
    let layout = environment.layout();
    let folder = layout.identity();
    let root = if folder.join(identity::ROOT_CERTIFICATE).exists() {
        Root::load(&folder)?
    } else {
        let root = Root::create(environment.name().as_str())?;
        root.save(&folder)?;
        root
    };
    plan.pods
        .iter()
        .map(|pod| Ok((pod.name.clone(), pod_secrets(layout, &root, pod)?)))
        .collect()
}

fn pod_secrets(layout: &Layout, root: &Root, pod: &PodPlan) -> anyhow::Result<PodSecrets> {
    let folder = layout.pod(&pod.name);
    private_folder(&folder)?;
    let authority_folder = layout.authority(&pod.name);
    let authority = if authority_folder.join(identity::AUTHORITY_KEY).exists() {
        Authority::load(&authority_folder)?
    } else {
        let authority = root.authority(&pod.name)?;
        authority.save(&authority_folder)?;
        authority
    };
    let token_file = token_file(layout, &pod.name);
    if !token_file.exists() {
        replace_file(&token_file, identity::token().as_bytes(), 0o600)?;
    }
    let token = std::fs::read_to_string(&token_file)
        .with_context(|| format!("cannot read `{}`", token_file.display()))?;
    let files = [
        (
            identity::AUTHORITY_CERTIFICATE,
            authority.certificate_pem().to_owned(),
        ),
        (identity::AUTHORITY_KEY, authority.key_pem()),
        (identity::ROOTS, authority.roots_pem().to_owned()),
    ];
    let server = Server::keep(root, &pod.name, &pinhole_folder(layout, &pod.name))?;
    Ok(PodSecrets {
        authority: files.map(|(name, text)| (name.to_owned(), text)).into(),
        token,
        server_certificate: server.certificate_pem().to_owned(),
        server_key: server.key_pem().to_owned(),
    })
}
