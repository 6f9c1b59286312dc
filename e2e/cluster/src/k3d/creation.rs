//! Creates a cluster: chooses its ports, tries twice, and adds its containers' logs to a
//! failure.

use anyhow::Context as _;
use blueprint::failure::Failure;
use host::{docker, environment::private_folder, ports, timeline::Step};

use super::{
    cli,
    clusters::{Cluster, ClusterSpec, Clusters, HostPort, context},
    kubeconfig, nodes,
};

/// Lines of a node's log in a report.
const LOG_LINES: usize = 15;

impl Clusters {
    /// Creates a cluster of which there is nothing; one that fails is deleted and tried once more.
    pub async fn create(&self, spec: &ClusterSpec, step: &Step) -> anyhow::Result<Cluster> {
        let first = match self.try_create(spec).await {
            Ok(cluster) => return Ok(cluster),
            Err(error) => error,
        };
        let first = self.explain(spec, first).await;
        self.delete(&spec.name)
            .await
            .context("after a failed creation")?;
        if first.is_final {
            return Err(first.error);
        }
        let said = format!("{:#}", first.error);
        step.progress(format!(
            "trying again: {}",
            said.lines().next().unwrap_or_default()
        ));
        let second = match self.try_create(spec).await {
            Ok(cluster) => return Ok(cluster),
            Err(error) => error,
        };
        let second = self.explain(spec, second).await;
        self.delete(&spec.name)
            .await
            .context("after a failed creation")?;
        Err(second.error)
    }

    async fn try_create(&self, spec: &ClusterSpec) -> anyhow::Result<Cluster> {
        let name = &spec.name;
        let folder = self.folder(name);
        private_folder(&folder)?;
        let mut ports = vec![];
        for mapping in &spec.ports {
            let host = match mapping.host {
                HostPort::Fixed(port) => port,
                HostPort::Free => ports::free()?,
            };
            ports.push((host, mapping.service));
        }
        if let Some(taken) = self.taken(spec).await {
            return Err(taken);
        }
        cli::create(name, &folder, &self.owner, &self.image, &ports).await?;
        let text = cli::kubeconfig(name, &folder).await?;
        kubeconfig::save(&text, &context(name), &self.own_kubeconfig(name))?;
        Ok(self.cluster(name, &self.look(name).await?))
    }

    /// The failure for a fixed port that another process holds.
    async fn taken(&self, spec: &ClusterSpec) -> Option<anyhow::Error> {
        for port in spec.ports.iter().filter_map(|mapping| mapping.host.fixed()) {
            if let Some(holder) = ports::holder(port).await {
                return Some(ports::taken(
                    &format!("cluster `{}`", spec.name),
                    port,
                    &holder,
                ));
            }
        }
        None
    }

    /// Adds to a failed creation what its containers tell, before they are deleted.
    async fn explain(&self, spec: &ClusterSpec, error: anyhow::Error) -> Explained {
        let text = format!("{error:#}");
        let is_port = [
            "port is already allocated",
            "address already in use",
            "is in use by",
        ]
        .iter()
        .any(|part| text.contains(part));
        // With ports of our choice another try takes others; a fixed one stays taken.
        if is_port
            && spec
                .ports
                .iter()
                .any(|mapping| mapping.host.fixed().is_some())
        {
            let error = self.taken_by_others(spec).await.unwrap_or(error);
            return Explained {
                error,
                is_final: true,
            };
        }
        let is_final = text.contains("is not on the PATH");
        let seen = self.look(&spec.name).await.unwrap_or_default();
        let Some(node) = nodes::suspect(&seen) else {
            return Explained { error, is_final };
        };
        let log = docker::logs(&node.name, LOG_LINES)
            .await
            .unwrap_or_else(|error| error.to_string());
        let cause = format!(
            "{text}\nlog of `{}` ({}, exit code {}):\n{log}",
            node.name, node.state, node.exit_code
        );
        let failure = Failure::infrastructure(cause);
        let hint = Failure::of(&error)
            .and_then(Failure::next_step)
            .map(str::to_owned);
        let error = match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        };
        Explained {
            error: error.into(),
            is_final,
        }
    }

    /// As [`Clusters::taken`], for a cluster that may hold some of its ports itself.
    async fn taken_by_others(&self, spec: &ClusterSpec) -> Option<anyhow::Error> {
        let own = format!("k3d-{}-", spec.name);
        for port in spec.ports.iter().filter_map(|mapping| mapping.host.fixed()) {
            match ports::holder(port).await {
                Some(holder) if holder.to_string().contains(&own) => {}
                Some(holder) => {
                    return Some(ports::taken(
                        &format!("cluster `{}`", spec.name),
                        port,
                        &holder,
                    ));
                }
                None => {}
            }
        }
        None
    }
}

struct Explained {
    error: anyhow::Error,
    /// Another try would end the same.
    is_final: bool,
}
