//! Removes what a test made with `k3d` and `docker`, however the test ends.

use std::process::Stdio;

use anyhow::{Context as _, ensure};
use e2e::testing::show;
use tokio::process::{Child, Command};

/// Waits for the end of its standard input, whose other end the test alone holds. The kernel closes it
/// with the test, after Ctrl-C and SIGKILL too. `k3d cluster delete` leaves what a killed creation made
/// before the first node, so the network and the volumes follow by name.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
image=$1
shift
for cluster; do
    k3d cluster delete "$cluster" || status=1
    for node in $(docker ps --all --quiet --filter "label=k3d.cluster=$cluster"); do
        docker rm --force --volumes "$node" || status=1
    done
    if docker network inspect "k3d-$cluster" >/dev/null 2>&1; then
        docker network rm "k3d-$cluster" || status=1
    fi
    if docker volume inspect "k3d-$cluster-images" >/dev/null 2>&1; then
        docker volume rm "k3d-$cluster-images" || status=1
    fi
done
if [ -n "$image" ] && docker image inspect "$image" >/dev/null 2>&1; then
    docker image rm "$image" || status=1
fi
exit "${status:-0}"
"#;

/// Deletes clusters and an image when it is dropped, and after the end of this process.
pub(crate) struct Guard {
    child: Child,
    clusters: Vec<String>,
}

impl Guard {
    /// Of these clusters, made or not, and of an image of the test's own.
    pub(crate) fn of(clusters: &[String], image: Option<&str>) -> anyhow::Result<Self> {
        let child = Command::new("sh")
            .args(["-uc", SCRIPT, "guard", image.unwrap_or_default()])
            .args(clusters)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal reaches the group of the test.
            .process_group(0)
            .spawn()
            .context("cannot start `sh`")?;
        Ok(Self {
            child,
            clusters: clusters.to_vec(),
        })
    }

    /// Removes everything now.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        let done = self.child.wait_with_output().await?;
        ensure!(
            done.status.success(),
            "{} cannot be removed: {}",
            self.clusters.join(", "),
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(())
    }

    /// Ends the guard and passes on what a test came to.
    pub(crate) async fn after(
        self,
        outcome: std::thread::Result<anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let ended = self.end().await;
        if let (Err(error), false) = (&ended, matches!(outcome, Ok(Ok(())))) {
            show(&format!("{error:#}"));
        }
        match outcome {
            Ok(Ok(())) => ended,
            Ok(Err(error)) => Err(error),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
