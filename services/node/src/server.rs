//! Serves HTTP/1.1 and HTTP/2 without TLS on one listener, until a step of the pod's shutdown.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Extension, Router};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    preamble::{self, Peer},
    transport::{PING_INTERVAL, SILENCE_LIMIT, grpc},
};

/// Connections at the same time. The next one waits in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;
/// Longest time to send the head of an HTTP/1.1 request.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// Pause after a failed `accept`, such as without a free file descriptor. Descriptors come back as
/// connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest time for connections to close in good order.
const GRACE: Duration = Duration::from_secs(1);

/// When a server stops.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    /// Cancelled when the server takes no more connections, and lets open ones finish.
    pub(crate) graceful: CancellationToken,
    /// Cancelled [`GRACE`] before connections that are still open are cut.
    pub(crate) forced: CancellationToken,
}

impl Stop {
    async fn cut(&self) {
        self.forced.cancelled().await;
        sleep(GRACE).await;
    }
}

/// What a connection begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Door {
    /// HTTP.
    Open,
    /// The preamble of the pod's own Envoy. A connection without it is closed.
    Preamble,
}

/// Serves `router` until `stop`. Behind [`Door::Preamble`] each request has its [`Peer`] as an
/// extension.
pub(crate) async fn serve(listener: TcpListener, router: Router, door: Door, stop: Stop) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let accept = async {
            let slot = slots.clone().acquire_owned().await;
            (slot, accept(&listener).await)
        };
        tokio::select! {
            () = stop.graceful.cancelled() => break,
            (slot, stream) = accept => {
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    let _slot = slot;
                    if let Some((stream, router)) = enter(stream, router, door).await {
                        connection(stream, router, &stop).await;
                    }
                });
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // The client hung up before it was accepted: accept(2).
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                let address = listener
                    .local_addr()
                    .map(|address: SocketAddr| address.to_string());
                let address = address.unwrap_or_default();
                tracing::warn!(%error, address, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Reads what comes before HTTP. Returns `None` for a connection that is refused.
async fn enter(mut stream: TcpStream, router: Router, door: Door) -> Option<(TcpStream, Router)> {
    match door {
        Door::Open => Some((stream, router)),
        Door::Preamble => match timeout(HEAD_LIMIT, preamble::read(&mut stream)).await {
            Ok(Ok(peer)) => Some((stream, router.layer(Extension::<Peer>(peer)))),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a connection without the preamble of Envoy was refused");
                None
            }
            Err(_) => None,
        },
    }
}

async fn connection(stream: TcpStream, router: Router, stop: &Stop) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection closed before it was served");
        return;
    }
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(SILENCE_LIMIT - PING_INTERVAL)
        .initial_stream_window_size(grpc::STREAM_WINDOW)
        .initial_connection_window_size(grpc::CONNECTION_WINDOW)
        .max_concurrent_streams(100);
    let service = TowerToHyperService::new(router);
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(served);
    let result = tokio::select! {
        result = &mut served => result,
        () = stop.graceful.cancelled() => {
            served.as_mut().graceful_shutdown();
            tokio::select! {
                result = &mut served => result,
                () = stop.cut() => return,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Waits for servers after the pod's end, at most twice [`GRACE`].
pub(crate) async fn join(mut servers: JoinSet<()>) {
    let all = async { while servers.join_next().await.is_some() {} };
    if timeout(GRACE * 2, all).await.is_err() {
        tracing::debug!("connections were cut at the end");
    }
}
