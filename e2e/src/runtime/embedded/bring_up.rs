//! From blueprints to ready pods, in the only order that works.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::Context as _;
use futures_util::future::{try_join, try_join_all};
use jiff::Timestamp;
use messages::WorkloadName;

use super::{
    network::{self, Networks},
    pod::{self, PodFile, Workshop},
    probe,
};
use crate::{
    clock::{self, Clocks, Offset, Seen},
    environment::{
        ClusterRecord, Environment, Lock, PodRecord, ProcessRecord, Store, private_folder,
        random_hex, replace_file,
    },
    envoy,
    failure::Failure,
    identity::Root,
    plan::{PeerAddress, Plan, PodPlan, Sockets},
    process::Launch,
    runtime::{Container, UpRequest, planned},
    services,
    timeline::{Step, Timeline},
    tools,
};

const LOAD_BALANCER: &str = "load-balancer";
const LOAD_BALANCER_FILE: &str = "envoy.json";
const ADMIN_SOCKET: &str = "admin.sock";

/// The environment while several pods are started side by side. Each change is saved at once, so that a later command
/// finds every process whenever this one is killed.
struct Shared {
    environment: Mutex<Environment>,
    clocks: Mutex<Clocks>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Environment> {
        self.environment
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a pod's clock against those that were seen before: with clocks too far apart there is no handshake, and the reason
    /// of that is better said than waited for.
    fn check_clock(&self, name: &WorkloadName, offset: Offset) -> anyhow::Result<()> {
        let record = self.lock().record.clone();
        let mut clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        clocks.see(Seen {
            cluster: name.cluster().into(),
            pod: Some(name.pod().into()),
            offset,
        });
        let tolerance = clock::tolerance(&record.settings);
        let checked = clocks.check(record.connections(), tolerance);
        checked.map_err(|far| Failure::from(far).into())
    }

    fn change_pod(
        &self,
        name: &WorkloadName,
        change: impl FnOnce(&mut PodRecord),
    ) -> anyhow::Result<()> {
        let mut environment = self.lock();
        let record = environment.record.pod_mut(name);
        change(record.with_context(|| format!("{name} is not recorded"))?);
        environment.save()
    }
}

/// Fails where nothing was made; else the environment as far as it came, and how that went.
pub(in crate::runtime) async fn up(
    store: &Store,
    lock: &Lock,
    request: &UpRequest,
    timeline: &Timeline,
) -> anyhow::Result<(Environment, anyhow::Result<()>)> {
    // Everything that can be refused is refused before anything is made.
    let mut plan = Plan::of(&request.blueprints, request.ports, &|_| Sockets::in_pod())?;
    let networks = network::networks(&plan, request.public)?;
    network::check_public_ports(&plan, &networks)?;
    let (envoy, binaries) = try_join(tools::envoy(timeline), services::binaries(timeline)).await?;
    // Again, since a build takes its time.
    network::check_public_ports(&plan, &networks)?;
    network::place_pods(&mut plan, &networks, request.public)?;
    let environment = store.create(lock, request.draft())?;
    let layout = environment.layout().clone();
    let shared = Shared {
        environment: Mutex::new(environment),
        clocks: Mutex::default(),
    };
    let result = async {
        let root = Root::create(&request.name.to_string())?;
        root.save(&layout.identity())?;
        let workshop = Workshop {
            layout: &layout,
            binaries: &binaries,
            envoy: &envoy,
            root: &root,
            settings: &request.settings,
        };
        bring_up(&workshop, &plan, &networks, &shared, timeline).await
    }
    .await;
    let environment = shared.lock().clone();
    Ok((environment, result))
}

async fn bring_up(
    workshop: &Workshop<'_>,
    plan: &Plan,
    networks: &Networks,
    shared: &Shared,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    record_plan(workshop, plan, networks, shared)?;
    let mut balancers = BTreeMap::new();
    for cluster in &plan.clusters {
        let process = start_load_balancer(workshop, plan, networks, &cluster.name, shared)?;
        balancers.insert(cluster.name.clone(), process);
    }
    let files = plan
        .pods
        .iter()
        .map(|pod| {
            let record = shared.lock().record.pod(&pod.name).cloned();
            let record = record.with_context(|| format!("{} is not recorded", pod.name))?;
            Ok((pod.name.clone(), workshop.prepare(pod, &record)?))
        })
        .collect::<anyhow::Result<BTreeMap<_, _>>>()?;
    let balance = wait_for_load_balancers(networks, &balancers, timeline);
    let carry = async {
        let mut addresses = BTreeMap::new();
        for stage in plan.stages() {
            let pods = stage.iter().map(|pod| {
                let (balancers, addresses, files) = (&balancers, &addresses, &files);
                let what = format!("{}: start `{}`", pod.name.cluster(), pod.name.pod());
                timeline.run(what, move |step| async move {
                    pod::write_peers(workshop.layout, pod, addresses)?;
                    let file = files.get(&pod.name).context("its files are not made")?;
                    let balancer = balancers.get(pod.name.cluster());
                    let balancer = balancer.context("its cluster has no load balancer")?;
                    let address = network::public_address(pod, networks)?;
                    start_pod(workshop, pod, file, balancer, &address, shared, &step).await?;
                    Ok((pod.name.clone(), address))
                })
            });
            // The addresses of this stage are what the next one dials.
            let ready = try_join_all(pods).await?;
            addresses.extend(ready);
        }
        Ok(())
    };
    try_join(balance, carry).await.map(|_| ())
}

fn record_plan(
    workshop: &Workshop<'_>,
    plan: &Plan,
    networks: &Networks,
    shared: &Shared,
) -> anyhow::Result<()> {
    let node = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .context("cannot read the name of this machine")?;
    let mut environment = shared.lock();
    let record = &mut environment.record;
    record.clusters = networks
        .iter()
        .map(|(name, cluster)| ClusterRecord {
            name: name.clone(),
            reference: cluster.network.reference(),
            processes: vec![],
        })
        .collect();
    record.pods = plan
        .pods
        .iter()
        .map(|pod| PodRecord {
            pod_name: format!("{}-{}-{}", pod.name.pod(), random_hex(10), random_hex(5)),
            node: node.trim().to_owned(),
            ..planned(workshop.layout, pod)
        })
        .collect();
    environment.save()
}

fn start_load_balancer(
    workshop: &Workshop<'_>,
    plan: &Plan,
    networks: &Networks,
    cluster: &str,
    shared: &Shared,
) -> anyhow::Result<ProcessRecord> {
    let own = networks
        .get(cluster)
        .with_context(|| format!("{cluster} has no network"))?;
    let routes: Vec<(SocketAddr, SocketAddr)> = plan
        .pods
        .iter()
        .filter(|pod| pod.name.cluster() == cluster)
        .filter_map(|pod| Some((*own.public.get(&pod.public_port)?, pod.sockets.ingress)))
        .flat_map(|(public, ingress)| {
            let all = [Some(public), network::by_v6(public)];
            all.into_iter()
                .flatten()
                .map(move |public| (public, ingress))
        })
        .collect();
    let folder = workshop.layout.cluster(cluster);
    private_folder(&folder)?;
    let bootstrap = envoy::load_balancer(&routes, own.network.claim(), Path::new(ADMIN_SOCKET));
    replace_file(
        &folder.join(LOAD_BALANCER_FILE),
        &serde_json::to_vec_pretty(&bootstrap)?,
        0o600,
    )?;
    let launch = Launch {
        program: workshop.envoy.into(),
        args: envoy::arguments(Path::new(LOAD_BALANCER_FILE)),
        env: BTreeMap::new(),
        folder,
        log: workshop.layout.cluster_log(cluster, LOAD_BALANCER),
    };
    let id = launch
        .start()
        .with_context(|| format!("{cluster}: the load balancer"))?;
    let process = ProcessRecord {
        container: LOAD_BALANCER.into(),
        id,
        log: launch.log,
    };
    let mut environment = shared.lock();
    let mut clusters = environment.record.clusters.iter_mut();
    if let Some(record) = clusters.find(|record| record.name == cluster) {
        record.processes.push(process.clone());
    }
    environment.save()?;
    Ok(process)
}

async fn wait_for_load_balancers(
    networks: &Networks,
    balancers: &BTreeMap<String, ProcessRecord>,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let waits = networks.iter().map(|(cluster, own)| async move {
        let process = balancers.get(cluster).map(std::slice::from_ref);
        let claim = own.network.claim();
        let address = PeerAddress {
            host: claim.ip().to_string(),
            port: claim.port(),
        };
        timeline
            .run(
                format!("{cluster}: start the load balancer"),
                |step| async move {
                    probe::wait_for_answer(
                        cluster,
                        &address,
                        "/ready",
                        process.unwrap_or_default(),
                        &step,
                    )
                    .await
                },
            )
            .await
    });
    try_join_all(waits).await.map(|_| ())
}

/// Starts a pod, and waits until it answers through its cluster's load balancer and has all it needs.
async fn start_pod(
    workshop: &Workshop<'_>,
    pod: &PodPlan,
    file: &PodFile,
    balancer: &ProcessRecord,
    public: &PeerAddress,
    shared: &Shared,
    step: &Step,
) -> anyhow::Result<()> {
    let name = &pod.name;
    let start = |container| {
        let launch = file.launch(container)?;
        pod::start(&mut shared.lock(), name, container, launch)
    };
    shared.change_pod(name, |record| record.started_at = Some(Timestamp::now()))?;
    // The app waits for its first identity by itself; only Envoy needs it to be there.
    let mut processes = vec![start(Container::Wosp)?, start(Container::App)?];
    if let Some(offset) = probe::wait_for_clock(name, file, &processes, step).await? {
        shared.check_clock(name, offset)?;
    }
    let identity = workshop
        .layout
        .pod(name)
        .join(envoy::EnvoyPaths::in_working_directory().identity_dir);
    probe::wait_for_identity(name, &identity, &processes, step).await?;
    processes.push(start(Container::Envoy)?);
    probe::wait_for_pod(name, file, &processes, step).await?;
    // An answer from the far side of the load balancer, not a mere connection to it.
    processes.push(balancer.clone());
    probe::wait_for_answer(&probe::named(name), public, "/health", &processes, step).await?;
    shared.change_pod(name, |record| {
        record.peer_address = Some(public.clone());
        record.local_address = Some(public.clone());
        record.ready_at = Some(Timestamp::now());
    })
}
