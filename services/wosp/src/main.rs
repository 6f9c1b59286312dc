//! `wosp`: mints, publishes and rotates the workload identity of its pod.

use std::{process::ExitCode, sync::Arc};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use wosp::{
    agent::Agent,
    config::Config,
    http::{Shared, router},
};

/// Exit code if the machine refuses what is needed, such as the port.
const INFRASTRUCTURE: u8 = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let config = match settings::start(Config::from_env) {
        Ok(config) => config,
        Err(code) => return code,
    };
    match serve(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(INFRASTRUCTURE)
        }
    }
}

/// Serves and rotates until SIGTERM or Ctrl-C. Published files stay: Envoy may still finish
/// requests.
async fn serve(config: Config) -> Result<(), String> {
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| format!("SIGTERM: {error}"))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|error| format!("SIGINT: {error}"))?;
    let listener = messages::listen::bind(config.listen)
        .and_then(TcpListener::from_std)
        .map_err(|error| {
            format!(
                "cannot listen on {}: {error}; free the port, or change FERRY_WOSP_LISTEN",
                config.listen
            )
        })?;
    let address = listener
        .local_addr()
        .map_err(|error| format!("no address: {error}"))?;
    let Config {
        name,
        lifetime,
        rotation,
        ..
    } = &config;
    tracing::info!(%address, ?lifetime, ?rotation, "wosp of `{name}` listens");

    let shared = Shared {
        status: Arc::default(),
        metrics: Arc::default(),
        rotation: config.rotation,
    };
    let agent = Agent::new(config, shared.status.clone(), shared.metrics.clone());
    let served = axum::serve(listener, router(shared));
    tokio::select! {
        result = async { served.await } => result.map_err(|error| format!("HTTP: {error}")),
        () = agent.run() => Ok(()),
        _ = terminate.recv() => { tracing::info!("ends on SIGTERM"); Ok(()) }
        _ = interrupt.recv() => { tracing::info!("ends on SIGINT"); Ok(()) }
    }
}
