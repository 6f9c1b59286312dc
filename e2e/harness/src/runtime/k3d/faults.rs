//! Sends signals to the processes of one container, from its node, since the container itself
//! may not.

use std::time::Duration;

use blueprint::{container::Container, failure::Failure};
use host::{docker, environment::Environment};
use messages::WorkloadName;

use crate::runtime::clusters;

/// Time for a node to find the processes.
const LIMIT: Duration = Duration::from_secs(30);

/// Sends the signal `$2` to each process whose control group names the container `$1`.
/// <https://man7.org/linux/man-pages/man7/cgroups.7.html>
const SCRIPT: &str = r#"pids=$(grep -ls "$1" /proc/[0-9]*/cgroup | cut -d/ -f3)
[ -n "$pids" ] && kill -"$2" $pids"#;

/// `signal` is its name without `SIG`.
pub(crate) async fn signal(
    environment: &Environment,
    pod: &WorkloadName,
    container: Container,
    signal: &str,
) -> anyhow::Result<()> {
    let cluster = clusters::connect(environment, pod.cluster()).await?;
    let (node, id) = cluster.container_on_node(pod, container).await?;
    let done = docker::exec(&node, &["sh", "-c", SCRIPT, "sh", &id, signal], LIMIT).await?;
    if done.status.success() {
        return Ok(());
    }
    Err(Failure::infrastructure(format!(
        "{}: cannot send SIG{signal} to {container} of {} on node {node}: {}",
        pod.cluster(),
        pod.pod(),
        done.tail(5)
    ))
    .hint("run `cargo xtask status` to check that it is running")
    .into())
}
