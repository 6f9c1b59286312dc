//! Brings pods up on k3d clusters. Existing parts are reused, so a repetition updates what has
//! changed and repairs what is broken.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use blueprint::{
    Target,
    failure::Failure,
    plan::{PeerAddress, Plan, PodPlan, Sockets},
};
use cluster::{
    image::{self, architecture},
    k3d::{self, ClusterSpec, Clusters, ENGINE_ELSEWHERE, HostPort, PortMapping},
    kubernetes::Cluster,
};
use futures_util::{FutureExt as _, future::try_join_all};
use host::{
    binaries::{self, Binaries, Profile},
    docker::{self, Place},
    environment::{ClusterRecord, Environment, ImagesRecord, Lock, Store},
    ports,
    timeline::Timeline,
};
use render::{Architecture, Images, K3D_HOST};

use super::{images, reach};
use crate::{
    ops::{
        doctor::{self, Outcome},
        local,
    },
    runtime::{
        UpError,
        clusters::{self, deploy},
        request::{PublicAddress, UpRequest},
    },
};

/// Time for an API server that k3d calls up to answer and to have a ready node.
const API_LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn up(
    store: &Store,
    lock: &Lock,
    request: &UpRequest,
    timeline: &Timeline,
) -> Result<Environment, UpError> {
    // Everything that can be refused is refused before anything is made.
    let plan = plan(request)?;
    let ports: Vec<u16> = match request.public {
        PublicAddress::Localhost => plan
            .clusters
            .iter()
            .flat_map(|cluster| cluster.public_ports.iter().copied())
            .collect(),
        PublicAddress::OwnNetwork | PublicAddress::OwnNetworkV6 => vec![],
    };
    check_machine(timeline).await?;
    for port in ports {
        // Also where it is Ferry's own: another environment cannot have it too.
        if let Some(holder) = ports::holder(port).await {
            return Err(ports::taken(&format!("`{}`", request.name), port, &holder).into());
        }
    }
    settle_place(request.profile, timeline).await?;
    let mut environment = store.create(lock, request.draft())?;
    let result = bring_up(&mut environment, request, &plan, timeline).await;
    UpError::or(environment, result)
}

/// Brings an environment that is there to what `request` asks for: clusters that are stopped are started, services that
/// changed are built and rolled out.
pub(crate) async fn refresh(
    environment: &mut Environment,
    request: &UpRequest,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    settle_place(request.profile, timeline).await?;
    let plan = plan(request)?;
    let ours = Clusters::new(environment.name().as_str(), environment.layout().root());
    if let Some(reason) = ours.reason_to_replace(&specs(request, &plan)).await? {
        local::may_be_replaced(environment, &reason).await?;
    }
    bring_up(environment, request, &plan, timeline).await
}

/// Refuses an engine whose published ports do not arrive here. Where that is not known, the image of the services is made
/// first, and a container of it answers.
async fn settle_place(profile: Profile, timeline: &Timeline) -> anyhow::Result<()> {
    let info = docker::info().await?;
    let mut place = docker::place(&info, image::REPOSITORY).await;
    if matches!(place, Place::Unknown(_)) {
        let services =
            image::services(&binaries::binaries(profile, timeline).await?, timeline).await?;
        place = docker::by_port(&info, &services).await;
    }
    match place {
        Place::Here => Ok(()),
        Place::Elsewhere(why) | Place::Unknown(why) => Err(Failure::infrastructure(format!(
            "{why}, so k3d's clusters would be unreachable"
        ))
        .hint(ENGINE_ELSEWHERE)
        .into()),
    }
}

fn plan(request: &UpRequest) -> anyhow::Result<Plan> {
    Plan::of(&request.blueprints, request.ports, &|_| Sockets::in_pod())
}

/// The doctor's checks; the first that fails is the failure, the others are shown beside it.
async fn check_machine(timeline: &Timeline) -> anyhow::Result<()> {
    let checks = timeline
        .run("check this machine", |_| async {
            Ok(doctor::run(host::environment::RuntimeKind::K3d, &[]).await)
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
    let specs = specs(request, plan);
    let ours = Clusters::new(environment.name().as_str(), layout.root());
    // The clusters take longest, so everything else is done beside their creation.
    let planned_nodes: Vec<_> = specs.iter().flat_map(ClusterSpec::nodes).collect();
    let (running, (images, binaries, secrets)) =
        tokio::try_join!(ours.up(&specs, timeline), async {
            let (images, binaries) = make_images(request.profile, timeline).await?;
            let secrets = clusters::secrets(environment, plan)?;
            image::preload(&images.all(), &planned_nodes, timeline).await;
            anyhow::Ok((images, binaries, secrets))
        })?;
    environment.record.images = Some(ImagesRecord {
        services: images.services.clone(),
        envoy: images.envoy.clone(),
        digests: BTreeMap::new(),
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
    let chosen = images::choose(plan, &connected, &images, &binaries).await?;
    image::import(&chosen.earlier, &nodes, timeline).await?;
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
    clusters::must_not_lose(environment, plan, &connected).await?;
    let label = environment.record.label().to_owned();
    let deployment = deploy::Request {
        environment: &label,
        plan,
        target: Target::K3d,
        clusters: &connected,
        images: &images,
        own_images: &chosen.of_pods,
        secrets: &secrets,
        settings: &request.settings,
        // A pod of one cluster knows nothing of the other's Docker network; this machine's published port is the way across.
        peer_address: &|pod, _| PeerAddress {
            host: K3D_HOST.into(),
            port: host_port(pod),
        },
        nodes_are_here: true,
        explain: Some(&|unreached: deploy::Unreached| {
            let clusters: Vec<_> = specs.iter().map(|spec| spec.name.clone()).collect();
            async move { reach::explain(&unreached, &clusters).await }.boxed()
        }),
        pull_secret: None,
        dialling: deploy::Dialling::OwnNamespace,
        limits: deploy::Limits::PREPARED,
    };
    deploy::deploy(&deployment, timeline, |deployed| {
        clusters::record_deployed(environment, plan, deployed, |pod, _| PeerAddress {
            host: Ipv4Addr::LOCALHOST.to_string(),
            port: host_port(pod),
        })
    })
    .await?;
    // After a restart, k3d's load balancer leaves a node out for 10 s once it was refused.
    let hint = "run `cargo xtask status` for its state and `cargo xtask logs` for its log";
    clusters::answer_here(&environment.record.pods, hint, timeline).await
}

fn specs(request: &UpRequest, plan: &Plan) -> Vec<ClusterSpec> {
    let clusters = plan.clusters.iter();
    clusters.map(|cluster| spec(request, cluster)).collect()
}

/// `local-up` has the clusters under the names that the blueprint gives them, where k3d takes such long ones; others share the machine with more of their kind.
fn spec(request: &UpRequest, cluster: &blueprint::plan::ClusterPlan) -> ClusterSpec {
    let port = |service: u16| match request.public {
        PublicAddress::Localhost => PortMapping {
            host: HostPort::Fixed(service),
            service,
        },
        PublicAddress::OwnNetwork | PublicAddress::OwnNetworkV6 => PortMapping {
            host: HostPort::Free,
            service,
        },
    };
    let name = match request.public {
        PublicAddress::Localhost => k3d::fitting(cluster.name.clone()),
        PublicAddress::OwnNetwork | PublicAddress::OwnNetworkV6 => {
            k3d::cluster_name(request.name.as_str(), &cluster.name)
        }
    };
    ClusterSpec {
        name,
        ports: cluster.public_ports.iter().copied().map(port).collect(),
    }
}

/// The newest images, and the programs that are in them.
async fn make_images(profile: Profile, timeline: &Timeline) -> anyhow::Result<(Images, Binaries)> {
    let services = async {
        let binaries = binaries::binaries(profile, timeline).await?;
        anyhow::Ok((image::services(&binaries, timeline).await?, binaries))
    };
    let ((services, binaries), envoy) = tokio::try_join!(services, image::envoy(timeline))?;
    let both = [services.clone(), envoy.clone()];
    architecture::check(&both, &docker::info().await?).await?;
    let images = Images {
        services,
        envoy,
        pull_policy: "Never".into(),
        pull_secret: None,
        architectures: Architecture::here().into_iter().collect(),
        programs: None,
    };
    Ok((images, binaries))
}

/// Writes down what is going to be, so that whatever ends this command, a later one knows what there may be.
fn record_plan(
    environment: &mut Environment,
    request: &UpRequest,
    plan: &Plan,
) -> anyhow::Result<()> {
    environment.record.clusters = plan
        .clusters
        .iter()
        .map(|cluster| ClusterRecord {
            name: cluster.name.clone(),
            reference: spec(request, cluster).name,
            processes: vec![],
        })
        .collect();
    clusters::record_pods(environment, plan)
}
