//! Load balancers: one Envoy per cluster, on its public ports.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use anyhow::Context as _;
use blueprint::plan::{PeerAddress, Plan};
use futures_util::future::try_join_all;
use host::{
    environment::{ProcessRecord, private_folder},
    process::Launch,
    timeline::Timeline,
};
use render::envoy;

use super::{
    judge::{self, Reason},
    network::{self, ClusterNetwork, Networks},
    pod::{Workshop, replace_where_different},
    probe,
    shared::Shared,
    tear_down::{self, SHORT_LIMIT},
};

const LOAD_BALANCER: &str = "load-balancer";
const LOAD_BALANCER_FILE: &str = "envoy.json";
const ADMIN_SOCKET: &str = "admin.sock";

/// A load balancer that runs.
pub(super) struct Balancer {
    pub(super) process: ProcessRecord,
    /// Why it was started just now; `None` where it ran before.
    started: Option<Reason>,
}

/// One that is going to be.
struct Wanted {
    launch: Launch,
    made_of: String,
    recorded: Option<ProcessRecord>,
    due: Option<Reason>,
}

/// Makes every cluster's load balancer what is wanted; those that are already are left alone.
pub(super) async fn start(
    workshop: &Workshop<'_>,
    plan: &Plan,
    networks: &Networks,
    shared: &Shared,
    timeline: &Timeline,
) -> anyhow::Result<BTreeMap<String, Balancer>> {
    let mut all = BTreeMap::new();
    for (cluster, own) in networks {
        let wanted = wanted(workshop, plan, cluster, own, shared).await?;
        all.insert(cluster.clone(), wanted);
    }
    // All that must go before any comes: one may want the port of another.
    for wanted in all.values().filter(|wanted| wanted.due.is_some()) {
        let running = wanted.recorded.iter().map(|recorded| recorded.id);
        let running: Vec<_> = running.filter(|id| id.is_running()).collect();
        tear_down::end(&running, SHORT_LIMIT, timeline).await?;
    }
    let started = all.into_iter().map(|(cluster, wanted)| {
        let balancer = wanted.start(&cluster, shared)?;
        Ok((cluster, balancer))
    });
    started.collect()
}

async fn wanted(
    workshop: &Workshop<'_>,
    plan: &Plan,
    cluster: &str,
    own: &ClusterNetwork,
    shared: &Shared,
) -> anyhow::Result<Wanted> {
    let state = Some(workshop.layout.root());
    let routes: Vec<(SocketAddr, SocketAddr)> = plan
        .pods
        .iter()
        .filter(|pod| pod.name.cluster() == cluster)
        .filter_map(|pod| Some((*own.public.get(&pod.public_port)?, pod.sockets.ingress)))
        .flat_map(|(public, ingress)| {
            let all = [Some(public), network::by_v6(public, state)];
            all.into_iter()
                .flatten()
                .map(move |public| (public, ingress))
        })
        .collect();
    let folder = workshop.layout.cluster(cluster);
    private_folder(&folder)?;
    let bootstrap = envoy::load_balancer(&routes, own.network.claim(), Path::new(ADMIN_SOCKET));
    let bootstrap = serde_json::to_vec_pretty(&bootstrap)?;
    replace_where_different(&folder.join(LOAD_BALANCER_FILE), &bootstrap)?;
    let launch = Launch {
        program: workshop.envoy.into(),
        args: envoy::arguments(Path::new(LOAD_BALANCER_FILE)),
        env: BTreeMap::new(),
        folder,
        log: workshop.layout.cluster_log(cluster, LOAD_BALANCER),
    };
    let made_of = launch.made_of(&bootstrap)?;
    let recorded = recorded(cluster, shared);
    let mut due = judge::reason_to_start(recorded.as_ref(), &launch, &made_of)?;
    if due.is_none() && !probe::answers(&claim(own), "/ready").await {
        due = Some(Reason::Hangs);
    }
    Ok(Wanted {
        launch,
        made_of,
        recorded,
        due,
    })
}

fn recorded(cluster: &str, shared: &Shared) -> Option<ProcessRecord> {
    let environment = shared.lock();
    let mut clusters = environment.record.clusters.iter();
    let record = clusters.find(|record| record.name == cluster)?;
    record.processes.first().cloned()
}

impl Wanted {
    fn start(self, cluster: &str, shared: &Shared) -> anyhow::Result<Balancer> {
        if let (None, Some(process)) = (self.due, self.recorded) {
            return Ok(Balancer {
                process,
                started: None,
            });
        }
        let log_start = self.launch.log_length();
        let id = self
            .launch
            .start()
            .with_context(|| format!("{cluster}: the load balancer"))?;
        let process = ProcessRecord {
            container: LOAD_BALANCER.into(),
            id,
            log: self.launch.log,
            log_start,
            made_of: Some(self.made_of),
        };
        let mut environment = shared.lock();
        let mut clusters = environment.record.clusters.iter_mut();
        if let Some(record) = clusters.find(|record| record.name == cluster) {
            record.processes = vec![process.clone()];
        }
        environment.save()?;
        Ok(Balancer {
            process,
            started: self.due,
        })
    }
}

/// Where a load balancer answers by itself.
fn claim(own: &ClusterNetwork) -> PeerAddress {
    let claim = own.network.claim();
    PeerAddress {
        host: claim.ip().to_string(),
        port: claim.port(),
    }
}

/// Waits until those that were started answer.
pub(super) async fn wait(
    networks: &Networks,
    balancers: &BTreeMap<String, Balancer>,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let waits = networks.iter().filter_map(|(cluster, own)| {
        let balancer = balancers.get(cluster)?;
        let title = match balancer.started? {
            Reason::New => format!("{cluster}: start the load balancer"),
            reason => format!("{cluster}: start the load balancer again: {reason}"),
        };
        let address = claim(own);
        let process = std::slice::from_ref(&balancer.process);
        Some(timeline.run(title, move |step| async move {
            probe::wait_for_answer(cluster, &address, "/ready", process, &step).await
        }))
    });
    try_join_all(waits).await.map(|_| ())
}
