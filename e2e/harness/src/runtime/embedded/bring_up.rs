//! Brings pods up from blueprints, farthest first.

use std::collections::BTreeMap;

use anyhow::Context as _;
use blueprint::{
    container::Container,
    plan::{PeerAddress, Plan, PodPlan, Sockets},
};
use futures_util::future::{join_all, try_join, try_join_all};
use host::{
    binaries,
    environment::{ClusterRecord, Environment, Lock, PodRecord, ProcessRecord, Store, random_hex},
    envoy_binary,
    timeline::{Step, Timeline},
};
use identity::Root;
use jiff::Timestamp;
use render::envoy;

use super::{
    balancers,
    judge::{self, Reason},
    network::{self, Networks},
    pod::{self, PodFile, Workshop},
    probe,
    shared::Shared,
    tear_down::{self, SHORT_LIMIT},
};
use crate::runtime::{
    UpError,
    request::{UpRequest, planned},
};

pub(crate) async fn up(
    store: &Store,
    lock: &Lock,
    request: &UpRequest,
    timeline: &Timeline,
) -> Result<Environment, UpError> {
    // Everything that can be refused is refused before anything is made.
    let mut plan = Plan::of(&request.blueprints, request.ports, &|_| Sockets::in_pod())?;
    let networks = network::networks(&plan, request.public, &BTreeMap::new())?;
    network::check_public_ports(&plan, &networks, None)?;
    let (envoy, binaries) = try_join(
        envoy_binary::envoy(timeline),
        binaries::binaries(request.profile, timeline),
    )
    .await?;
    // Again, since a build takes its time.
    network::check_public_ports(&plan, &networks, None)?;
    network::place_pods(&mut plan, &networks, request.public, &BTreeMap::new())?;
    let environment = store.create(lock, request.draft())?;
    let layout = environment.layout().clone();
    let shared = Shared::new(environment);
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
    UpError::or(environment, result)
}

/// Makes an environment what the plan says. Pods that already match the plan keep running.
pub(super) async fn bring_up(
    workshop: &Workshop<'_>,
    plan: &Plan,
    networks: &Networks,
    shared: &Shared,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    record_plan(workshop, plan, networks, shared)?;
    let balancers = balancers::start(workshop, plan, networks, shared, timeline).await?;
    let files = plan
        .pods
        .iter()
        .map(|pod| {
            let record = shared.lock().record.pod(&pod.name).cloned();
            let record = record.with_context(|| format!("{} is not recorded", pod.name))?;
            Ok((pod.name.clone(), workshop.prepare(pod, &record)?))
        })
        .collect::<anyhow::Result<BTreeMap<_, _>>>()?;
    let balance = balancers::wait(networks, &balancers, timeline);
    let carry = async {
        let mut addresses = BTreeMap::new();
        for stage in plan.stages() {
            let pods = stage.iter().map(|pod| {
                let (balancers, addresses, files) = (&balancers, &addresses, &files);
                async move {
                    pod::write_peers(workshop.layout, pod, addresses)?;
                    let file = files.get(&pod.name).context("its files are not made")?;
                    let balancer = balancers.get(pod.name.cluster());
                    let balancer = balancer.context("its cluster has no load balancer")?;
                    let address = network::public_address(pod, networks)?;
                    let work = Work {
                        workshop,
                        pod,
                        file,
                        balancer: &balancer.process,
                        public: &address,
                        shared,
                    };
                    work.run(timeline).await?;
                    anyhow::Ok((pod.name.clone(), address))
                }
            });
            // The addresses of this stage are what the next one dials.
            let ready: Vec<_> = try_join_all(pods).await?;
            addresses.extend(ready);
        }
        anyhow::Ok(())
    };
    try_join(balance, carry).await.map(|_| ())
}

/// Writes down what is going to be. What is known of a cluster or pod that is there stays.
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
    let mut before = std::mem::take(&mut record.clusters);
    record.clusters = networks
        .iter()
        .map(|(name, cluster)| ClusterRecord {
            name: name.clone(),
            reference: cluster.network.reference(),
            processes: before
                .iter_mut()
                .find(|before| before.name == *name)
                .map(|before| std::mem::take(&mut before.processes))
                .unwrap_or_default(),
        })
        .collect();
    let before = std::mem::take(&mut record.pods);
    record.pods = plan
        .pods
        .iter()
        .map(|pod| {
            let planned = planned(workshop.layout, pod);
            match before.iter().find(|before| before.name == pod.name) {
                // It goes by the same name as long as it is the same workload, as containers do that are started again.
                Some(before) => PodRecord {
                    pod_name: before.pod_name.clone(),
                    node: before.node.clone(),
                    peer_address: before.peer_address.clone(),
                    local_address: before.local_address.clone(),
                    started_at: before.started_at,
                    ready_at: before.ready_at,
                    processes: before.processes.clone(),
                    ..planned
                },
                None => PodRecord {
                    pod_name: format!("{}-{}-{}", pod.name.pod(), random_hex(10), random_hex(5)),
                    node: node.trim().to_owned(),
                    ..planned
                },
            }
        })
        .collect();
    environment.save()
}

/// One pod that is going to be as it is wanted.
struct Work<'a> {
    workshop: &'a Workshop<'a>,
    pod: &'a PodPlan,
    file: &'a PodFile,
    balancer: &'a ProcessRecord,
    public: &'a PeerAddress,
    shared: &'a Shared,
}

/// In the order in which they end: the app drains through the two others.
const ENDING: [Container; 3] = [Container::App, Container::Envoy, Container::Wosp];

impl Work<'_> {
    async fn run(&self, timeline: &Timeline) -> anyhow::Result<()> {
        let due = self.due()?;
        timeline
            .run(self.title(&due), |step| async move {
                self.settle(due, &step, timeline).await
            })
            .await
    }

    /// The containers that are to be started.
    fn due(&self) -> anyhow::Result<BTreeMap<Container, Reason>> {
        let mut due = BTreeMap::new();
        for container in Container::ALL {
            let launch = self.file.launch(container)?;
            let made_of = pod::made_of(container, launch)?;
            let recorded = self.recorded(container);
            if let Some(reason) = judge::reason_to_start(recorded.as_ref(), launch, &made_of)? {
                due.insert(container, reason);
            }
        }
        Ok(due)
    }

    fn recorded(&self, container: Container) -> Option<ProcessRecord> {
        let environment = self.shared.lock();
        let record = environment.record.pod(&self.pod.name)?;
        pod::process_of(record, container).cloned()
    }

    fn title(&self, due: &BTreeMap<Container, Reason>) -> String {
        let (cluster, pod) = (self.pod.name.cluster(), self.pod.name.pod());
        if due.is_empty() {
            return format!("{cluster}: see that `{pod}` is ready");
        }
        if due.len() == Container::ALL.len() && due.values().all(|reason| *reason == Reason::New) {
            return format!("{cluster}: start `{pod}`");
        }
        let due = due
            .iter()
            .map(|(container, reason)| format!("{container} ({reason})"));
        let due: Vec<_> = due.collect();
        format!("{cluster}: start again of `{pod}`: {}", due.join(", "))
    }

    /// Starts what is due, and waits until the pod answers through its cluster's load balancer and has all it needs.
    async fn settle(
        &self,
        mut due: BTreeMap<Container, Reason>,
        step: &Step,
        timeline: &Timeline,
    ) -> anyhow::Result<()> {
        for hung in self.hung(&due).await {
            timeline.note(format!(
                "{}: {hung} is started again: {}",
                probe::named(&self.pod.name),
                Reason::Hangs
            ));
            due.insert(hung, Reason::Hangs);
        }
        for container in ENDING {
            if due.contains_key(&container) {
                self.stop(container, timeline).await?;
            }
        }
        let name = &self.pod.name;
        if due.contains_key(&Container::App) {
            let now = Some(Timestamp::now());
            self.shared
                .change_pod(name, |record| record.started_at = now)?;
        }
        // The app waits for its first identity by itself; only Envoy needs it to be there.
        let mut processes = vec![
            self.start(Container::Wosp, &due)?,
            self.start(Container::App, &due)?,
        ];
        if let Some(offset) = probe::wait_for_clock(name, self.file, &processes, step).await? {
            self.shared.check_clock(name, offset)?;
        }
        let identity = self
            .workshop
            .layout
            .pod(name)
            .join(envoy::EnvoyPaths::in_working_directory().identity_dir);
        probe::wait_for_identity(name, &identity, &processes, step).await?;
        processes.push(self.start(Container::Envoy, &due)?);
        probe::wait_for_pod(name, self.file, &processes, step).await?;
        // An answer from the far side of the load balancer, not a mere connection to it.
        processes.push(self.balancer.clone());
        let named = probe::named(name);
        probe::wait_for_answer(&named, self.public, "/health", &processes, step).await?;
        self.shared.change_pod(name, |record| {
            record.peer_address = Some(self.public.clone());
            record.local_address = Some(self.public.clone());
            if !due.is_empty() || record.ready_at.is_none() {
                record.ready_at = Some(Timestamp::now());
            }
        })
    }

    /// The containers that match the plan but do not respond.
    async fn hung(&self, due: &BTreeMap<Container, Reason>) -> Vec<Container> {
        let looks = Container::ALL
            .into_iter()
            .filter(|container| !due.contains_key(container))
            .map(|container| async move {
                (!probe::container_answers(self.file, container).await).then_some(container)
            });
        join_all(looks).await.into_iter().flatten().collect()
    }

    async fn stop(&self, container: Container, timeline: &Timeline) -> anyhow::Result<()> {
        let Some(recorded) = self.recorded(container).filter(|one| one.id.is_running()) else {
            return Ok(());
        };
        let limit = match container {
            Container::App => super::DRAIN_LIMIT,
            Container::Wosp | Container::Envoy => SHORT_LIMIT,
        };
        tear_down::end(&[recorded.id], limit, timeline).await?;
        Ok(())
    }

    /// The container's process: a new one where it is due.
    fn start(
        &self,
        container: Container,
        due: &BTreeMap<Container, Reason>,
    ) -> anyhow::Result<ProcessRecord> {
        let recorded = self.recorded(container);
        if let (false, Some(recorded)) = (due.contains_key(&container), recorded) {
            return Ok(recorded);
        }
        let launch = self.file.launch(container)?;
        pod::start(&mut self.shared.lock(), &self.pod.name, container, launch)
    }
}
