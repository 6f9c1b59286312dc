//! One pod, run by `node::serve` as the services run it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use hyper::StatusCode;
use messages::{Protocol, Role, WorkloadName};
use node::{
    Config, Connections, Hooks, Listeners,
    config::{Downstream, Token},
};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

use super::{LIMIT, door::door, eventually, http, mint::Root};

pub(crate) const TOKEN: &str = "a-token-for-the-tests-only";
pub(crate) const BLUEPRINT: &str = "test-ferry";

/// Hooks that let everything pass.
pub(crate) struct Pass;
impl Hooks for Pass {}

/// Returns the name of a pod, which is alone in its cluster.
pub(crate) fn name(pod: &str) -> WorkloadName {
    WorkloadName::new(BLUEPRINT, &format!("cluster-of-{pod}"), pod).unwrap()
}

/// The connections of the blueprint that all tests share.
fn connections() -> Connections {
    const ALL: &str = "gateway>sink gateway>processor processor>sink \
                       gateway>left left>sink gateway>right right>sink \
                       gateway>north north>join gateway>south south>join join>sink \
                       one>sink two>sink gateway>west gateway>east";
    let pairs = ALL.split_whitespace().map(|pair| {
        let (from, to) = pair.split_once('>').unwrap();
        (name(from), name(to))
    });
    pairs.collect()
}

/// A pod to be started.
pub(crate) struct Spec {
    pub(crate) config: Config,
    dir: TempDir,
}

impl Spec {
    /// Returns a pod named after its role, in its own cluster, with a valid identity.
    pub(crate) fn new(root: &Root, role: Role) -> Self {
        Self::named(root, role, role.as_str())
    }

    pub(crate) fn named(root: &Root, role: Role, pod: &str) -> Self {
        let spec = Self::without_identity(role, pod);
        Root::trust(&[root], spec.dir.path());
        root.issue(&spec.config.name, spec.dir.path(), Duration::from_secs(600));
        spec
    }

    pub(crate) fn without_identity(role: Role, pod: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let name = name(pod);
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let config = Config {
            name,
            role,
            pod_name: format!("{pod}-6d4f5c-x2k4p"),
            node: "test".into(),
            http_listen: free,
            relay_listen: free,
            downstream: Vec::new(),
            connections: connections(),
            identity_dir: dir.path().to_owned(),
            data_dir: (role == Role::Sink).then(|| dir.path().join("data")),
            token: Token::from_text(TOKEN),
            auto_trigger: 0,
            window: 1024,
            session_lifetime: Duration::from_secs(600),
            drain_limit: Duration::from_secs(10),
            retention: node::config::Retention::default(),
            repeats: Duration::from_secs(3600),
        };
        Self { config, dir }
    }

    /// Adds a connection to the relay port `address`, through a tunnel.
    pub(crate) fn to(mut self, pod: &str, protocol: Protocol, address: SocketAddr) -> Self {
        let address = door(address, &self.config.name);
        self.config.downstream.push(Downstream {
            pod: pod.into(),
            protocol,
            address,
        });
        self
    }

    pub(crate) async fn start(self) -> Pod {
        self.start_with(Pass).await
    }

    pub(crate) async fn start_with(self, hooks: impl Hooks) -> Pod {
        let Self { config, dir } = self;
        let listeners = Listeners::bind(&config).await.unwrap();
        let (http, relay) = (
            listeners.http_address().unwrap(),
            listeners.relay_address().unwrap(),
        );
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            // A dropped pod stops as well.
            let _ = stopped.await;
        };
        let running = tokio::spawn(node::serve(config.clone(), listeners, hooks, shutdown));
        Pod {
            config,
            http,
            relay,
            stop: Some(stop),
            running,
            dir: Some(dir),
        }
    }
}

/// Starts a sink, and waits until it is ready.
pub(crate) async fn sink(root: &Root) -> Pod {
    Spec::new(root, Role::Sink).start().await.ready().await
}

/// Starts a pod that sends to `next`, and waits until it is ready.
pub(crate) async fn upstream(root: &Root, role: Role, protocol: Protocol, next: &Pod) -> Pod {
    let spec = Spec::new(root, role).to(next.config.name.pod(), protocol, next.relay);
    spec.start().await.ready().await
}

/// Starts a gateway that sends to a sink, and waits until both are ready.
pub(crate) async fn gateway_and_sink(root: &Root, protocol: Protocol) -> (Pod, Pod) {
    let sink = sink(root).await;
    (upstream(root, Role::Gateway, protocol, &sink).await, sink)
}

/// A running pod. Stops when dropped.
pub(crate) struct Pod {
    pub(crate) config: Config,
    pub(crate) http: SocketAddr,
    pub(crate) relay: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), node::ServeError>>,
    dir: Option<TempDir>,
}

impl Pod {
    pub(crate) fn identity_dir(&self) -> &Path {
        &self.config.identity_dir
    }

    /// Replaces its identity by one that is valid for `life`, and its roots by `root`.
    pub(crate) fn issue(&self, root: &Root, life: Duration) {
        Root::trust(&[root], self.identity_dir());
        root.issue(&self.config.name, self.identity_dir(), life);
    }

    /// Waits until exactly `count` messages are in flight.
    pub(crate) async fn in_flight(&self, count: f64) {
        let what = format!("{count} messages in flight at {}", self.config.name);
        eventually(&what, async || {
            (http::metric(self.http, "ferry_in_flight").await == count).then_some(())
        })
        .await;
    }

    pub(crate) async fn ready(self) -> Self {
        eventually(&format!("readiness of {}", self.config.name), async || {
            (http::get(self.http, "/ready").await.0 == StatusCode::OK).then_some(())
        })
        .await;
        self
    }

    /// Asks it to end, as SIGTERM does.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) {
        let running = timeout(LIMIT, &mut self.running).await;
        running
            .unwrap_or_else(|_| panic!("{} must end", self.config.name))
            .unwrap()
            .unwrap();
    }

    /// Ends it and starts it again with the same folders, on the same ports.
    pub(crate) async fn restart(mut self) -> Self {
        self.stop();
        self.ended().await;
        let mut config = self.config.clone();
        (config.http_listen, config.relay_listen) = (self.http, self.relay);
        let dir = self.dir.take().unwrap();
        Spec { config, dir }.start().await
    }
}
