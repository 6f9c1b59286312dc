//! Reconciles a running environment: restarts only what has exited or changed, in place. Keys,
//! tokens, public ports and stored messages are kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use blueprint::plan::{PeerAddress, Plan, Ports, Sockets};
use futures_util::future::try_join;
use host::{
    binaries,
    environment::{Environment, PodRecord, Record, Seat},
    envoy_binary, process,
    timeline::Timeline,
};
use identity::Root;
use messages::{Role, WorkloadName};

use super::{
    bring_up::bring_up,
    network::{self, Networks, Placed, Standing},
    pod::{PodFile, Workshop},
    shared::Shared,
    tear_down::{self, SHORT_LIMIT},
};
use crate::runtime::request::{PublicAddress, UpRequest};

/// `environment` is up to date afterwards, whatever came of it.
pub(crate) async fn refresh(
    environment: &mut Environment,
    request: &UpRequest,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    // Everything that can be refused is refused before anything is changed.
    let (ports, public) = manner(&environment.record, request);
    let mut plan = Plan::of(&request.blueprints, ports, &|_| Sockets::in_pod())?;
    let layout = environment.layout().clone();
    let root = Root::load(&layout.identity())?;
    let (envoy, binaries) = try_join(
        envoy_binary::envoy(timeline),
        binaries::binaries(request.profile, timeline),
    )
    .await?;
    let networks = network::networks(&plan, public, &standing(&environment.record, &plan))?;
    network::check_public_ports(&plan, &networks, Some(layout.root()))?;

    end_strays(environment, timeline).await?;
    end_unwanted(environment, &plan, &networks, timeline).await?;
    network::place_pods(&mut plan, &networks, public, &placed(environment))?;
    let drafted = request.draft();
    let record = &mut environment.record;
    record.blueprints = drafted.blueprints;
    record.settings = drafted.settings;
    record.seat = Some(Seat::here().clone());
    let shared = Shared::new(environment.clone());
    let workshop = Workshop {
        layout: &layout,
        binaries: &binaries,
        envoy: &envoy,
        root: &root,
        settings: &request.settings,
    };
    let result = bring_up(&workshop, &plan, &networks, &shared, timeline).await;
    *environment = shared.lock().clone();
    result
}

/// How its public ports were given out: one with separate addresses keeps them.
fn manner(record: &Record, request: &UpRequest) -> (Ports, PublicAddress) {
    let addresses = record
        .pods
        .iter()
        .filter_map(|pod| pod.local_address.as_ref());
    let mut own = addresses.filter_map(|address| address.host.parse::<IpAddr>().ok());
    match own.find(|ip| *ip != IpAddr::V4(Ipv4Addr::LOCALHOST)) {
        None => (request.ports, request.public),
        Some(IpAddr::V4(_)) => (Ports::Spread, PublicAddress::OwnNetwork),
        Some(IpAddr::V6(_)) => (Ports::Spread, PublicAddress::OwnNetworkV6),
    }
}

fn standing(record: &Record, plan: &Plan) -> BTreeMap<String, Standing> {
    let clusters = record.clusters.iter().map(|cluster| {
        let has = |pod: &PodRecord| {
            let PeerAddress { host, port } = pod.local_address.as_ref()?;
            let planned = plan.pod(&pod.name)?;
            let socket = SocketAddr::new(host.parse().ok()?, *port);
            Some((planned.public_port, socket))
        };
        let pods = record.pods.iter();
        let standing = Standing {
            reference: cluster.reference.clone(),
            is_claimed: cluster.processes.iter().any(|one| one.id.is_running()),
            public: pods
                .filter(|pod| pod.name.cluster() == cluster.name)
                .filter_map(has)
                .collect(),
        };
        (cluster.name.clone(), standing)
    });
    clusters.collect()
}

/// Where the pods listen that are there. Older versions did not write all of it down: such a pod gets a new place.
fn placed(environment: &Environment) -> BTreeMap<WorkloadName, Placed> {
    let pods = environment.record.pods.iter();
    pods.filter_map(|pod| {
        let file = PodFile::load(environment.layout(), &pod.name).ok()?;
        Some((pod.name.clone(), file.placed()?))
    })
    .collect()
}

/// Ends what a command started that was killed before it could write it down.
async fn end_strays(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let recorded: BTreeSet<_> = environment
        .record
        .processes()
        .map(|process| process.id.pid)
        .collect();
    let mut strays = process::processes_under(environment.layout().root())?;
    strays.retain(|process| !recorded.contains(&process.pid));
    tear_down::end(&strays, SHORT_LIMIT, timeline).await?;
    Ok(())
}

/// Ends the pods and load balancers that are not wanted any more. The folders of such pods stay: a later
/// request for the same pods finds what they have stored.
async fn end_unwanted(
    environment: &mut Environment,
    plan: &Plan,
    networks: &Networks,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let is_wanted = |pod: &PodRecord| plan.pod(&pod.name).is_some();
    let unwanted: Vec<_> = environment
        .record
        .pods
        .iter()
        .filter(|pod| !is_wanted(pod))
        .cloned()
        .collect();
    tear_down::end_pods(&unwanted, super::DRAIN_LIMIT, timeline).await?;
    for sink in unwanted.iter().filter(|pod| pod.role == Role::Sink) {
        timeline.note(format!(
            "{} in {} is not wanted any more and was ended; what it has stored stays in `{}`",
            sink.name.pod(),
            sink.name.cluster(),
            environment.layout().pod(&sink.name).display()
        ));
    }
    environment.record.pods.retain(is_wanted);
    for cluster in &mut environment.record.clusters {
        let network = networks.get(&cluster.name);
        if network.is_none_or(|own| own.network.reference() != cluster.reference) {
            let processes = std::mem::take(&mut cluster.processes);
            let running = tear_down::running(processes.iter());
            tear_down::end(&running, SHORT_LIMIT, timeline).await?;
        }
    }
    environment
        .record
        .clusters
        .retain(|cluster| networks.contains_key(&cluster.name));
    environment.save()
}
