//! What every Ferry pod does. It takes messages over WebSocket or gRPC, signs them, calls its
//! hooks, passes them on in order, and acknowledges each once the far end has. The three services
//! are a `main` and their hooks.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::{io, net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use tokio::{net::TcpListener, task::JoinSet, time::timeout};
use tokio_util::task::TaskTracker;

pub mod config;
mod connections;
mod hooks;
mod http;
mod metrics;
mod panics;
mod preamble;
mod ready;
mod relay;
mod server;
mod shutdown;
mod sign;
mod skew;
mod store;
mod transport;
mod trust;
mod unavailable;

pub use config::Config;
pub use connections::Connections;
pub use hooks::{Headers, Hooks, Refusal};
pub use messages::{InvalidPayload, Payload, Role};
pub use shutdown::shutdown_signal;

use metrics::Metrics;
use ready::Ready;
use relay::{
    Destination, Pod,
    link::{LinkSettings, link},
    origin::{Origin, auto_trigger},
};
use server::{Door, Stop};
use shutdown::Shutdown;
use sign::Identity;
use store::{Ended, Store, StoreError};
use transport::{SessionHandler, dialer, grpc, websocket};
use trust::Refusals;

/// Longest wait for the store to close at the end.
const STORE_LIMIT: Duration = Duration::from_secs(2);
/// How long a store opens its disk again before the process ends.
const STORE_PATIENCE: Duration = Duration::from_secs(120);

/// The ports of a pod, bound before it starts.
#[derive(Debug)]
pub struct Listeners {
    http: TcpListener,
    relay: TcpListener,
}

/// Why a pod could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {address} ({what}): {cause}; free the port, or change {variable}")]
    Listen {
        address: SocketAddr,
        what: &'static str,
        variable: &'static str,
        cause: io::Error,
    },
    #[error("{0}")]
    Start(String),
    #[error("{0}")]
    Store(String),
}

impl From<StoreError> for ServeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

impl Listeners {
    /// Binds both ports of `config`. Port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// Returns [`ServeError::Listen`] with the address and its variable if a port cannot be bound.
    pub async fn bind(config: &Config) -> Result<Self, ServeError> {
        let bind = |address, what, variable| {
            messages::listen::bind(address)
                .and_then(TcpListener::from_std)
                .map_err(|cause| ServeError::Listen {
                    address,
                    what,
                    variable,
                    cause,
                })
        };
        Ok(Self {
            http: bind(config.http_listen, "HTTP", messages::env::HTTP_LISTEN)?,
            relay: bind(config.relay_listen, "relay", messages::env::RELAY_LISTEN)?,
        })
    }

    /// Returns the address of `/health` and the rest of the HTTP side.
    ///
    /// # Errors
    ///
    /// Returns the error of the kernel if it does not know the address.
    pub fn http_address(&self) -> io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Returns the address at which messages are taken.
    ///
    /// # Errors
    ///
    /// Returns the error of the kernel if it does not know the address.
    pub fn relay_address(&self) -> io::Result<SocketAddr> {
        self.relay.local_addr()
    }
}

/// Runs a service from its environment until SIGTERM or Ctrl-C. It is the whole `main` of the three
/// services.
///
/// Exit codes: 0 after an orderly shutdown; 2 for wrong settings, every problem on its own line; 3
/// if a port is taken, or if the store cannot be opened or its disk fails for two minutes; 101
/// after a panic outside of the hooks.
pub async fn run(role: Role, hooks: impl Hooks) -> ExitCode {
    panics::end_the_process();
    let signal = shutdown_signal();
    let config = match settings::start(|| Config::from_env(role)) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let result = match Listeners::bind(&config).await {
        Ok(listeners) => serve(config, listeners, hooks, signal).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(3)
        }
    }
}

/// Runs a pod until `signal` resolves, and then until everything in flight is finished, at most
/// `config.drain_limit`.
///
/// # Errors
///
/// Returns [`ServeError::Start`] if a sink has no folder for its store, and [`ServeError::Store`] if
/// the store cannot be opened, or cannot go on. The pod is not drained then: it can store nothing.
pub async fn serve(
    config: Config,
    listeners: Listeners,
    hooks: impl Hooks,
    signal: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let shutdown = Shutdown::new();
    // Whatever ends this function ends the tasks that it started.
    let _ended = shutdown.ended.clone().drop_guard();
    let work = TaskTracker::new();
    let ready = Ready::new();
    let (mut metrics, mut store_ended) = (Metrics::new(), None);
    let limit = config.drain_limit;
    let identity = Identity::new(&config, ready.clone());

    let mut links = JoinSet::new();
    let mut helpers = JoinSet::new();
    helpers.spawn(identity.clone().follow());
    let destination = match (config.role, &config.data_dir) {
        (Role::Sink, Some(dir)) => {
            let settings = store::Settings {
                dir: dir.clone(),
                retention: config.retention,
                repeats: config.repeats,
                disk: Arc::new(journal::RealDisk),
                patience: STORE_PATIENCE,
            };
            let store_metrics;
            (metrics, store_metrics) = Metrics::with_store();
            let (store, ended) = Store::start(settings, ready.clone(), store_metrics)?;
            store_ended = Some(ended);
            Destination::Store(store)
        }
        (Role::Sink, None) => return Err(ServeError::Start("a sink needs FERRY_DATA_DIR".into())),
        (Role::Gateway | Role::Processor, _) => {
            let settings = config.downstream.iter().map(|downstream| LinkSettings {
                pod: downstream.pod.clone(),
                dial: dialer(downstream.protocol, downstream.address),
                window: config.window,
                session_lifetime: config.session_lifetime,
                ready: ready.clone(),
                closing: shutdown.closing.clone(),
                metrics: metrics.link(&downstream.pod),
            });
            let made = settings.map(link).map(|(link, work)| {
                links.spawn(work);
                link
            });
            Destination::Links(made.collect())
        }
    };
    let pod = Arc::new(Pod {
        config,
        hooks: Arc::new(hooks),
        identity,
        ready: ready.clone(),
        shutdown: shutdown.clone(),
        metrics: metrics.clone(),
        refusals: Refusals::default(),
        destination,
        work: work.clone(),
    });

    let origin = (pod.config.role == Role::Gateway).then(|| Origin::new(pod.clone()));
    let mut servers = JoinSet::new();
    let http = http::router(&pod, origin.clone());
    let stop = Stop {
        graceful: shutdown.ended.clone(),
        forced: shutdown.ended.clone(),
    };
    servers.spawn(server::serve(listeners.http, http, Door::Open, stop));
    let health = tonic_health::server::HealthReporter::new();
    let relay = relay_router(pod.clone(), health.clone())?;
    let stop = Stop {
        graceful: shutdown.draining.clone(),
        forced: shutdown.ended.clone(),
    };
    servers.spawn(server::serve(listeners.relay, relay, Door::Preamble, stop));
    helpers.spawn(grpc::follow_readiness(health, ready.clone()));
    if let (Some(origin), count @ 1..) = (origin, pod.config.auto_trigger) {
        helpers.spawn(auto_trigger(origin, count));
    }
    tracing::info!(
        workload = %pod.config.name,
        role = %pod.config.role,
        pod = pod.config.pod_name,
        "started"
    );

    tokio::select! {
        () = signal => {}
        Err(error) = until_ended(store_ended.as_mut()) => return Err(error.into()),
    }

    let _draining = ready.pending("another pod: this one is ending");
    shutdown.draining.cancel();
    work.close();
    let drained = timeout(limit, async {
        work.wait().await;
        shutdown.closing.cancel();
        while links.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        tracing::warn!(
            in_flight = metrics.in_flight_now(),
            "not everything finished within {limit:?}; senders will resend it"
        );
    }
    shutdown.ended.cancel();
    server::join(servers).await;
    helpers.shutdown().await;
    links.shutdown().await;
    drop(pod);
    if let Some(ended) = &mut store_ended
        && timeout(STORE_LIMIT, ended.wait()).await.is_err()
    {
        tracing::warn!("the store did not close in time");
    }
    tracing::info!("ended");
    Ok(())
}

/// Waits until the store ends; forever if there is none.
async fn until_ended(store: Option<&mut Ended>) -> Result<(), StoreError> {
    match store {
        Some(ended) => ended.wait().await,
        None => std::future::pending().await,
    }
}

/// Returns the routes of both protocols, which share one port.
fn relay_router(
    handler: Arc<dyn SessionHandler>,
    health: tonic_health::server::HealthReporter,
) -> Result<Router, ServeError> {
    let websocket = Router::new()
        .route(websocket::PATH, get(websocket::upgrade))
        .with_state(handler.clone());
    grpc::router(handler, health)
        .map(|grpc| grpc.merge(websocket))
        .map_err(|error| ServeError::Start(error.to_string()))
}
