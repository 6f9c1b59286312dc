//! A bundle on two clusters that were made by hand: its scripts alone, then `kubectl` alone in the wrong order. The load balancers
//! of the sink's cluster have host names, as on some clouds.
//!
//! The steps run one after the other, each on what the one before has left.

use std::{
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use anyhow::ensure;
use e2e::testing::show;
use futures_util::FutureExt as _;
use host::wait::{Seen, Wait};
use tokio::process::Command;

use crate::hand::{AT_ONCE, CLUSTERS, Hand, expect};

/// How a pod of a k3d cluster reaches this machine; here the host name that the load balancer gets.
const HOST_NAME: &str = "host.k3d.internal";
const LIMIT: Duration = Duration::from_secs(180);
const NAMESPACES: [&str; 2] = [
    "international-ferry-gateway-ns",
    "international-ferry-sink-ns",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs k3d: .ci/k3d"]
async fn bundle_deploys_with_kubectl_alone() -> anyhow::Result<()> {
    let _turn = CLUSTERS.take_many(AT_ONCE).await?;
    let hand = Hand::new();
    let guard = hand.guard()?;
    let work = AssertUnwindSafe(async {
        hand.make_clusters().await?;
        let operator = Operator::new(&hand)?;
        operator.by_scripts().await?;
        operator.by_kubectl().await
    });
    guard.after(work.catch_unwind().await).await
}

/// Somebody with a bundle, a kubeconfig and `kubectl`.
struct Operator<'a> {
    hand: &'a Hand,
    folder: tempfile::TempDir,
    /// Of the clusters `a` and `b`.
    contexts: [String; 2],
    sink_port: u16,
}

impl<'a> Operator<'a> {
    fn new(hand: &'a Hand) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("ferry-bundle-").tempdir()?;
        let [gateway, sink] = [hand.pod("gateway")?, hand.pod("sink")?];
        let written = include_str!("../../../manifests/international-ferry/blueprint.yaml")
            .replace("30100", &gateway.public_port.to_string())
            .replace("30200", &sink.public_port.to_string());
        std::fs::write(folder.path().join("ferry.yaml"), written)?;
        Ok(Self {
            hand,
            folder,
            contexts: ["a", "b"].map(|letter| format!("k3d-{}", hand.cluster(letter))),
            sink_port: sink.public_port,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn by_scripts(&self) -> anyhow::Result<()> {
        let [a, b] = [&self.contexts[0][..], &self.contexts[1]];
        self.bundle("scripts", &[]).await?;
        let bundle = self.path("scripts");

        show("the gateway does not start without the sink's address");
        let done = self
            .run(&bundle, "./deploy-cluster-a.sh", &["--cluster", a])
            .await?;
        expect(&done, 2, "where cluster-b/sink is, is not known")?;
        ensure!(
            !self.is_there(a, NAMESPACES[0]).await?,
            "nothing may be made"
        );

        show("the sink's cluster is deployed, and its load balancer's host name is recorded");
        let args = ["--cluster", b];
        let deployed = self.run(&bundle, "./deploy-cluster-b.sh", &args);
        let (done, cloud) = tokio::join!(deployed, self.cloud());
        expect(&done?, 0, "done; next deploy-cluster-a.sh")?;
        cloud?;
        let addresses = std::fs::read_to_string(bundle.join("addresses"))?;
        ensure!(
            addresses == format!("cluster-b/sink={HOST_NAME}\n"),
            "{addresses}"
        );

        show("the gateway's takes it, and every message crosses");
        let done = self
            .run(&bundle, "./deploy-cluster-a.sh", &["--cluster", a])
            .await?;
        expect(&done, 0, "done; next verify.sh")?;
        self.verified(&bundle, &["--save", "messages"]).await?;
        let messages = bundle.join("messages").display().to_string();
        let roots = self.path("scripts.identity/identity/root.crt");
        let roots = roots.display().to_string();
        let args = ["trail", "--verify", "--from", &messages, "--roots", &roots];
        expect(&self.hand.xtask(&args).await?, 0, "")?;

        show("both may be done again");
        for (script, context) in [("./deploy-cluster-b.sh", b), ("./deploy-cluster-a.sh", a)] {
            let args = ["--cluster", context];
            expect(&self.run(&bundle, script, &args).await?, 0, "done")?;
        }

        show("a deployment of other keys is refused");
        self.bundle("other", &["--address", "cluster-b=192.0.2.1"])
            .await?;
        let args = ["--cluster", a];
        let done = self
            .run(&self.path("other"), "./deploy-cluster-a.sh", &args)
            .await?;
        expect(&done, 3, "another deployment or somebody else made it")?;

        show("nothing is left");
        let done = self.run(&bundle, "./teardown.sh", &[]).await?;
        expect(&done, 0, "removed")?;
        for (context, namespace) in [(a, NAMESPACES[0]), (b, NAMESPACES[1])] {
            ensure!(!self.is_there(context, namespace).await?, "{namespace}");
        }
        expect(
            &self.run(&bundle, "./teardown.sh", &[]).await?,
            2,
            "`--cluster cluster-",
        )
    }

    async fn by_kubectl(&self) -> anyhow::Result<()> {
        let [a, b] = [&self.contexts[0][..], &self.contexts[1]];
        let address = format!("cluster-b={HOST_NAME}");
        self.bundle("kubectl.tar.gz", &["--address", &address])
            .await?;
        let archive = self.path("kubectl.tar.gz").display().to_string();
        let done = self
            .run(self.folder.path(), "tar", &["-xzf", &archive])
            .await?;
        expect(&done, 0, "")?;
        let bundle = self.path("kubectl");

        show("the gateway is applied first, and heals once the sink is there");
        self.apply(&bundle, a, "gateway/").await?;
        self.apply(&bundle, b, "sink/").await?;
        self.cloud().await?;
        for (context, namespace, what) in [
            (b, NAMESPACES[1], "statefulset/sink"),
            (a, NAMESPACES[0], "deployment/gateway"),
        ] {
            let rollout = [
                "--context",
                context,
                "--namespace",
                namespace,
                "rollout",
                "status",
                what,
                "--timeout=180s",
            ];
            expect(&self.run(&bundle, "kubectl", &rollout).await?, 0, "")?;
        }
        let contexts = [format!("cluster-a={a}"), format!("cluster-b={b}")];
        let named = ["--cluster", &contexts[0], "--cluster", &contexts[1]];
        self.verified(&bundle, &named).await?;
        let done = self.run(&bundle, "./teardown.sh", &named).await?;
        expect(&done, 0, "removed")
    }

    async fn bundle(&self, out: &str, more: &[&str]) -> anyhow::Result<()> {
        let [blueprint, out] = ["ferry.yaml", out].map(|name| self.path(name));
        let [blueprint, out] = [blueprint, out].map(|path| path.display().to_string());
        let all = [
            "bundle",
            &blueprint,
            "--target",
            "generic",
            "--image",
            &self.hand.image,
            "--out",
            &out,
        ];
        expect(&self.hand.xtask(&[&all[..], more].concat()).await?, 0, "")
    }

    /// The 5/5, and for each message a pod of both clusters.
    async fn verified(&self, bundle: &Path, args: &[&str]) -> anyhow::Result<()> {
        let done = self.run(bundle, "./verify.sh", args).await?;
        expect(&done, 0, "5/5 messages sent.")?;
        let text = String::from_utf8_lossy(&done.stdout);
        let crossed = |line: &&str| {
            let at = |cluster| line.contains(cluster);
            at(" gateway-") && at("@cluster-a -> sink-") && line.ends_with("@cluster-b")
        };
        ensure!(
            text.lines().filter(crossed).count() == 5,
            "five trails over both clusters must be shown:\n{text}"
        );
        Ok(())
    }

    async fn apply(&self, bundle: &Path, context: &str, folder: &str) -> anyhow::Result<()> {
        let args = ["--context", context, "apply", "-f", folder];
        expect(&self.run(bundle, "kubectl", &args).await?, 0, "")
    }

    async fn is_there(&self, context: &str, namespace: &str) -> anyhow::Result<bool> {
        let args = ["--context", context, "get", "namespace", namespace];
        let done = self.run(self.folder.path(), "kubectl", &args).await?;
        Ok(done.status.success())
    }

    /// What a cloud's controller does: the sink's Service, once it is there, gets a port on the nodes and a host name.
    async fn cloud(&self) -> anyhow::Result<()> {
        let port = self.sink_port;
        let node_port = format!(
            r#"{{"spec":{{"ports":[{{"port":{port},"protocol":"TCP","nodePort":{port}}}]}}}}"#
        );
        let address = format!(
            r#"{{"status":{{"loadBalancer":{{"ingress":[{{"hostname":"{HOST_NAME}"}}]}}}}}}"#
        );
        let patch = |patch: Vec<&'static str>, text: String| async move {
            let service = [
                "--context",
                &self.contexts[1],
                "--namespace",
                NAMESPACES[1],
                "patch",
                "service",
                "sink",
                "--patch",
                &text,
            ];
            self.run(
                self.folder.path(),
                "kubectl",
                &[&service[..], &patch].concat(),
            )
            .await
        };
        Wait::until("the sink's Service")
            .within(LIMIT)
            .poll(|| async {
                let done = patch(vec![], node_port.clone()).await?;
                Ok(match done.status.success() {
                    true => Seen::Ready(()),
                    false => Seen::Waiting(String::from_utf8_lossy(&done.stderr).into_owned()),
                })
            })
            .await?;
        let done = patch(vec!["--subresource", "status", "--type", "merge"], address).await?;
        expect(&done, 0, "")
    }

    async fn run(&self, folder: &Path, program: &str, args: &[&str]) -> anyhow::Result<Output> {
        // A script of the folder, or a program of the PATH.
        let program = match program.strip_prefix("./") {
            Some(script) => folder.join(script),
            None => program.into(),
        };
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(folder)
            .env("KUBECONFIG", self.hand.kubeconfig());
        Ok(command.output().await?)
    }
}
