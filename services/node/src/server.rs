//! Answers HTTP/1.1 and HTTP/2 without TLS on one listener, until the pod reaches a phase of its end.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
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

use crate::{
    shutdown::{Life, Phase},
    transport::{PING_INTERVAL, SILENCE_LIMIT, grpc},
};

/// Connections at once; the next waits in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;
/// Longest time to send the head of an HTTP/1.1 request.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// Wait after a failed `accept`, such as with no file descriptor left: they come back as connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest time for connections to end in good order.
const GRACE: Duration = Duration::from_secs(1);

/// Serves until `until`: then takes no more connections, and lets those there are finish their requests. They are cut
/// at the end of the pod.
pub(crate) async fn serve(listener: TcpListener, router: Router, life: Life, until: Phase) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let stop = life.reached(until);
    tokio::pin!(stop);
    loop {
        let accept = async {
            let slot = slots.clone().acquire_owned().await;
            (slot, accept(&listener).await)
        };
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            (slot, stream) = accept => {
                let (router, life) = (router.clone(), life.clone());
                connections.spawn(async move {
                    let _slot = slot;
                    connection(stream, router, life, until).await;
                });
            }
        }
    }
    drop(listener);
    let finish = async { while connections.join_next().await.is_some() {} };
    tokio::select! {
        () = finish => {}
        () = async { life.reached(Phase::Ended).await; sleep(GRACE).await } => {}
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // The one that was to be accepted is gone again; accept(2).
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                let address = listener
                    .local_addr()
                    .map(|address: SocketAddr| address.to_string());
                tracing::warn!(%error, address = address.unwrap_or_default(), "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, life: Life, until: Phase) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone before it was served");
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
        () = life.reached(until) => {
            served.as_mut().graceful_shutdown();
            let ended = async { life.reached(Phase::Ended).await; sleep(GRACE).await };
            tokio::select! {
                result = &mut served => result,
                () = ended => return,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Longest wait for servers after the pod's end.
pub(crate) async fn join(servers: JoinSet<()>) {
    let mut servers = servers;
    let all = async { while servers.join_next().await.is_some() {} };
    if timeout(GRACE * 2, all).await.is_err() {
        tracing::debug!("connections were cut at the end");
    }
}
