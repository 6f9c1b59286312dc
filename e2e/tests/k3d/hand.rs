//! Somebody with two clusters, and the commands that they give.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Output,
};

use anyhow::{Context as _, ensure};
use blueprint::plan::{Plan, PodPlan, Ports, Sockets};
use cluster::{image, kubernetes::Cluster};
use e2e::testing::Turns;
use host::{manifests, timeline::Timeline};

use crate::guard::Guard;

/// Tests with clusters of their own at once; one with two clusters and their pods takes all places.
pub(crate) const AT_ONCE: u32 = 2;
pub(crate) const CLUSTERS: Turns = Turns::new("k3d-clusters", AT_ONCE);

/// What a service's node port may be, and so what the test's own load balancer can give.
const NODE_PORTS: std::ops::Range<u16> = 30000..32768;

/// Somebody with two clusters, a kubeconfig and an image.
pub(crate) struct Hand {
    folder: tempfile::TempDir,
    id: String,
    pub(crate) image: String,
    /// Of each blueprint, the public ports of the gateway and of the sink.
    ports: [[u16; 2]; 2],
}

/// The gRPC ferry and the WebSocket ferry.
pub(crate) const BLUEPRINTS: [&str; 2] = ["international-ferry", "fast-international-ferry"];

impl Hand {
    pub(crate) fn new() -> Self {
        let mut free = NODE_PORTS.filter(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok());
        let mut two = || [free.next().unwrap(), free.next().unwrap()];
        let id = uuid::Uuid::new_v4().simple().to_string()[..8].to_owned();
        Self {
            folder: tempfile::Builder::new().prefix("ferry-").tempdir().unwrap(),
            image: format!("ferry/by-hand:{id}"),
            id,
            ports: [two(), two()],
        }
    }

    pub(crate) fn cluster(&self, letter: &str) -> String {
        format!("hand-{}-{letter}", self.id)
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A file of the hand's own.
    pub(crate) fn file(&self, name: &str, content: &str) -> anyhow::Result<String> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content)?;
        Ok(path.display().to_string())
    }

    /// The file of a ferry on ports that are free here.
    fn blueprint(&self, index: usize) -> anyhow::Result<String> {
        let (name, [gateway, sink]) = (BLUEPRINTS[index], self.ports[index]);
        let written =
            std::fs::read_to_string(root().join(format!("manifests/{name}/blueprint.yaml")))?;
        let text = written
            .replace("30100", &gateway.to_string())
            .replace("30200", &sink.to_string());
        self.file(&format!("{name}.yaml"), &text)
    }

    /// A pod of the gRPC ferry.
    pub(crate) fn pod(&self, name: &str) -> anyhow::Result<PodPlan> {
        let blueprint = manifests::load(self.blueprint(0)?)?;
        let plan = Plan::of(&[blueprint], Ports::AsWritten, &|_| Sockets::in_pod())?;
        let mut pods = plan.pods.into_iter();
        pods.find(|pod| pod.name.pod() == name)
            .context("no such pod")
    }

    pub(crate) fn record(&self) -> anyhow::Result<serde_json::Value> {
        let path = self.state().join("local/environment.json");
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }

    pub(crate) async fn connect(&self, letter: &str) -> anyhow::Result<Cluster> {
        let config = kube::config::Kubeconfig::read_from(self.kubeconfig())?;
        let context = format!("k3d-{}", self.cluster(letter));
        Cluster::connect_by(letter, config, &context).await
    }

    /// Has every command reach the clusters by a proxy on a port of this machine.
    pub(crate) fn behind(&self, proxy: u16) -> anyhow::Result<()> {
        let config = std::fs::read_to_string(self.kubeconfig())?;
        let line = format!("    proxy-url: http://127.0.0.1:{proxy}\n    server: ");
        let behind = config.replace("    server: ", &line);
        ensure!(behind.matches("proxy-url").count() == 2, "two clusters");
        std::fs::write(self.kubeconfig(), behind)?;
        Ok(())
    }

    /// The lines of the guide, and the image in both.
    pub(crate) async fn make_clusters(&self) -> anyhow::Result<()> {
        let make = |letter: &'static str, pod: usize, more: &'static [&str]| async move {
            let name = self.cluster(letter);
            let ports = self
                .ports
                .map(|of_ferry| format!("{0}:{0}@loadbalancer", of_ferry[pod]));
            let line = [
                "cluster",
                "create",
                &name,
                "--agents",
                "1",
                "--port",
                &ports[0],
                "--port",
                &ports[1],
                "--image",
                cluster::k3d::K3S_IMAGE,
                "--k3s-arg",
                "--disable=traefik@server:0",
                "--kubeconfig-update-default=false",
            ];
            self.k3d(&[&line[..], more].concat()).await
        };
        let image = async {
            let done = self.xtask(&["image", "--tag", &self.image]).await?;
            expect(&done, 0, &self.image)
        };
        tokio::try_join!(
            image,
            make("a", 0, &[]),
            make("b", 1, &["--k3s-arg", "--disable=servicelb@server:0"]),
        )?;
        let [a, b] = [self.cluster("a"), self.cluster("b")];
        // Two creations at once would each write a whole file.
        let kubeconfig = self.kubeconfig().display().to_string();
        self.k3d(&["kubeconfig", "merge", &a, &b, "--output", &kubeconfig])
            .await?;
        let envoy = image::envoy(&Timeline::default()).await?;
        self.k3d(&[
            "image",
            "import",
            "--cluster",
            &a,
            "--cluster",
            &b,
            &self.image,
            &envoy,
        ])
        .await
    }

    /// Removes the clusters and the image, however the test ends.
    pub(crate) fn guard(&self) -> anyhow::Result<Guard> {
        Guard::of(
            &["a", "b"].map(|letter| self.cluster(letter)),
            Some(&self.image),
        )
    }

    async fn k3d(&self, args: &[&str]) -> anyhow::Result<()> {
        let mut command = tokio::process::Command::new("k3d");
        let done = command
            .args(args)
            .env("KUBECONFIG", self.kubeconfig())
            .output()
            .await?;
        expect(&done, 0, "").with_context(|| format!("k3d {}", args.join(" ")))
    }

    /// The gRPC ferry.
    pub(crate) async fn deploy(&self, more: &[&str]) -> anyhow::Result<Output> {
        let blueprint = self.blueprint(0)?;
        self.on_clusters(&["deploy", &blueprint], more).await
    }

    /// As [`Self::deploy`], with another context for the sink's cluster.
    pub(crate) async fn deploy_on(&self, context: &str, more: &[&str]) -> anyhow::Result<Output> {
        let blueprint = self.blueprint(0)?;
        let contexts = [
            format!("cluster-a=k3d-{}", self.cluster("a")),
            format!("cluster-b={context}"),
        ];
        self.on(&contexts, &["deploy", &blueprint], more).await
    }

    /// A kubeconfig with another context for the cluster of a letter.
    pub(crate) fn named_again(&self, letter: &str, context: &str) -> anyhow::Result<String> {
        let mut config = kube::config::Kubeconfig::read_from(self.kubeconfig())?;
        let known = format!("k3d-{}", self.cluster(letter));
        let found = config.contexts.iter().find(|named| named.name == known);
        let again = kube::config::NamedContext {
            name: context.into(),
            ..found.context("no context")?.clone()
        };
        let of_it = kube::config::Kubeconfig {
            contexts: vec![again],
            ..kube::config::Kubeconfig::default()
        };
        config = config.merge(of_it)?;
        self.file("again", &serde_json::to_string_pretty(&config)?)
    }

    /// Both ferries at once.
    pub(crate) async fn e2e(&self, more: &[&str]) -> anyhow::Result<Output> {
        let both = [self.blueprint(0)?, self.blueprint(1)?];
        let command = ["e2e", &both[0], &both[1], "--runtime", "existing"];
        self.on_clusters(&command, more).await
    }

    async fn on_clusters(&self, command: &[&str], more: &[&str]) -> anyhow::Result<Output> {
        let contexts =
            ["a", "b"].map(|letter| format!("cluster-{letter}=k3d-{}", self.cluster(letter)));
        self.on(&contexts, command, more).await
    }

    async fn on(
        &self,
        contexts: &[String; 2],
        command: &[&str],
        more: &[&str],
    ) -> anyhow::Result<Output> {
        let clusters = [
            "--context",
            &contexts[0],
            "--context",
            &contexts[1],
            "--image",
            &self.image,
            "--reach",
            "cluster-a=127.0.0.1",
            "--reach",
            "cluster-b=127.0.0.1",
        ];
        self.xtask(&[command, &clusters, more].concat()).await
    }

    pub(crate) async fn xtask(&self, args: &[&str]) -> anyhow::Result<Output> {
        let mut command = tokio::process::Command::new(env!("CARGO"));
        command
            .arg("xtask")
            .args(args)
            .env("FERRY_STATE", self.state())
            .env("KUBECONFIG", self.kubeconfig())
            .current_dir(root());
        for (name, _) in std::env::vars_os() {
            // A build must not see what this package's own build was told, or it would build anew.
            let of_the_outer = name.to_str().is_some_and(|name| {
                name.starts_with("CARGO_PKG_")
                    || name.starts_with("CARGO_MANIFEST_")
                    || name == "CARGO_TARGET_TMPDIR"
            });
            if of_the_outer {
                command.env_remove(name);
            }
        }
        Ok(command.output().await?)
    }
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Fails with all that a command said, unless it ended so and said so.
pub(crate) fn expect(done: &Output, code: i32, says: &str) -> anyhow::Result<()> {
    let text = [&done.stdout, &done.stderr]
        .map(|text| String::from_utf8_lossy(text))
        .concat();
    ensure!(
        done.status.code() == Some(code) && text.contains(says),
        "exit code {code} and `{says}` were expected, not {}:\n{text}",
        done.status
    );
    Ok(())
}
