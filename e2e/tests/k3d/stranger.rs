//! A container on cluster A's Docker network, which knows cluster B's public port and nothing else.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use futures_util::future::try_join_all;
use host::{
    process::{self, CommandLine},
    select,
};
use hyper::{Request, Response, body::Incoming, server, service::service_fn};
use hyper_util::rt::TokioIo;
use render::K3D_HOST;
use serde::{Deserialize, Serialize};
use testcontainers::{
    GenericImage, ImageExt as _,
    core::{Host, WaitFor, wait::ExitWaitStrategy},
    runners::AsyncRunner as _,
};
use tokio::{
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

use crate::{
    broken::own_image,
    scene::{BLUEPRINTS, STRANGER_LABEL, Scene},
};

/// Hands the errand to the process that has testcontainers in it.
const ERRAND_VARIABLE: &str = "FERRY_TEST_STRANGER";
const LIMIT: Duration = Duration::from_secs(90);

/// What a stranger asks, and what it must be answered.
const ASKED: [(&str, &str); 6] = [
    ("/health", "200"),
    // Without the bearer token.
    ("/output", "401"),
    ("/trigger", "404"),
    ("/metrics", "404"),
    ("/ready", "404"),
    ("/", "404"),
];

#[derive(Serialize, Deserialize)]
struct Errand {
    environment: String,
    image: String,
    network: String,
    /// The public ports on this machine.
    ports: Vec<u16>,
}

/// testcontainers takes its engine from the environment alone, so this test starts itself in a process
/// whose environment has it.
#[tokio::test]
#[ignore = "needs k3d: .ci/k3d"]
async fn stranger_gets_health_alone() -> anyhow::Result<()> {
    if let Ok(errand) = std::env::var(ERRAND_VARIABLE) {
        return run_errand(&serde_json::from_str(&errand)?).await;
    }
    let scene = &Scene::shared().await?;
    let mut ports = vec![];
    for blueprint in BLUEPRINTS {
        for sink in select::sinks(&scene.environment.record, blueprint) {
            ports.push(sink.local_address.as_ref().context("an address")?.port);
        }
    }
    let errand = Errand {
        environment: scene.environment.name().to_string(),
        image: own_image(scene).await?,
        network: format!("k3d-{}", scene.reference("cluster-a")?),
        ports,
    };
    let name = "stranger::stranger_gets_health_alone";
    let mut process = CommandLine::new(std::env::current_exe()?.to_string_lossy())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env(ERRAND_VARIABLE, serde_json::to_string(&errand)?)
        .within(LIMIT);
    let engine = Engine::of_docker().await?;
    if let Some(engine) = &engine {
        process = process.env(
            "DOCKER_HOST",
            format!("unix://{}", engine.socket().display()),
        );
    }
    let done = process::output(&process).await?;
    anyhow::ensure!(done.status.success(), "{}{}", done.stdout, done.tail(40));
    assert!(done.stdout.contains("1 passed"), "{}", done.stdout);
    Ok(())
}

async fn run_errand(errand: &Errand) -> anyhow::Result<()> {
    let questions = errand
        .ports
        .iter()
        .flat_map(|port| ASKED.map(|(path, status)| (*port, path, status)));
    let asked = questions.map(|(port, path, status)| ask(errand, port, path, status));
    try_join_all(asked).await?;
    Ok(())
}

async fn ask(errand: &Errand, port: u16, path: &str, status: &str) -> anyhow::Result<()> {
    let (name, tag) = errand.image.rsplit_once(':').context("a tag")?;
    let url = format!("http://{K3D_HOST}:{port}{path}");
    let stranger = GenericImage::new(name, tag)
        .with_wait_for(WaitFor::exit(ExitWaitStrategy::new()))
        .with_network(&errand.network)
        // As `/probe` dials it: the whole name.
        .with_host(format!("{K3D_HOST}."), Host::HostGateway)
        .with_label(STRANGER_LABEL, &errand.environment)
        .with_cmd(["/probe", &url, "5", "--expect", status])
        .start()
        .await?;
    let (code, said) = (stranger.exit_code().await?, stranger.stderr_to_vec().await?);
    stranger.rm().await?;
    assert_eq!(
        code,
        Some(0),
        "{path} must be answered {status}: {}",
        String::from_utf8_lossy(&said)
    );
    Ok(())
}

/// The engine's socket under another name, where every version of the API is taken for the engine's own.
///
/// testcontainers asks for the one version of the API that it was written for, and an engine refuses a version that is
/// newer than its own: 1.53 needs Docker 29. What is used here is the same in all of them.
struct Engine {
    folder: tempfile::TempDir,
    task: JoinHandle<()>,
}

impl Engine {
    /// `None` where the engine is not reached by a socket file.
    async fn of_docker() -> anyhow::Result<Option<Self>> {
        let endpoint = CommandLine::new("docker").args([
            "context",
            "inspect",
            "--format={{.Endpoints.docker.Host}}",
        ]);
        let done = process::run(&endpoint).await?;
        let Some(socket) = done.stdout.trim().strip_prefix("unix://") else {
            return Ok(None);
        };
        let socket = PathBuf::from(socket);
        let folder = tempfile::tempdir()?;
        let listener = UnixListener::bind(folder.path().join("docker.sock"))?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let socket = socket.clone();
                let service = service_fn(move |request| forward(request, socket.clone()));
                let connection = server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Ok(Some(Self { folder, task }))
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(
    mut request: Request<Incoming>,
    engine: PathBuf,
) -> anyhow::Result<Response<Incoming>> {
    let path = request.uri().path_and_query().context("a path")?;
    *request.uri_mut() = without_version(path.as_str()).parse()?;
    let stream = TokioIo::new(UnixStream::connect(Path::new(&engine)).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// `/v1.53/containers/json` → `/containers/json`, which stands for the engine's own version.
/// <https://docs.docker.com/reference/api/engine/#specify-the-api-version>
fn without_version(path: &str) -> &str {
    match path
        .strip_prefix("/v")
        .and_then(|rest| rest.split_once('/'))
    {
        Some((version, rest)) if version.starts_with(|first: char| first.is_ascii_digit()) => {
            &path[path.len() - rest.len() - 1..]
        }
        _ => path,
    }
}

#[test]
fn a_version_is_taken_off_a_path() {
    assert_eq!(
        without_version("/v1.53/containers/json?all=1"),
        "/containers/json?all=1"
    );
    for path in ["/_ping", "/volumes/a", "/"] {
        assert_eq!(without_version(path), path);
    }
}
