//! Creates, reuses, starts and deletes clusters, but only those of Ferry.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use blueprint::failure::Failure;
use futures_util::future::try_join_all;
use host::{
    docker::{self, Container, Owner},
    timeline::Timeline,
};
use sha2::{Digest as _, Sha256};

use super::{
    cli, k3s_image, kubeconfig,
    nodes::{self, CLUSTER_LABEL, Ownership},
};

/// k3d refuses longer ones.
const LONGEST_NAME: usize = 32;
const PULL_LIMIT: Duration = Duration::from_secs(600);

/// A cluster that is wanted.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    /// k3d's name for it: a DNS label of at most 32 characters, see [`cluster_name`].
    pub name: String,
    pub ports: Vec<PortMapping>,
}

/// A port of the cluster's load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortMapping {
    pub host: HostPort,
    /// Port of the Service of type LoadBalancer.
    pub service: u16,
}

/// Where a port is on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPort {
    Fixed(u16),
    /// Whichever is free; another one if it is taken in the meantime.
    Free,
}

impl HostPort {
    pub fn fixed(self) -> Option<u16> {
        match self {
            Self::Fixed(port) => Some(port),
            Self::Free => None,
        }
    }
}

/// A cluster that runs.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub name: String,
    /// Names of the containers that run pods, the server first.
    pub nodes: Vec<String>,
    /// When each of these was last started.
    pub started: BTreeMap<String, jiff::Timestamp>,
    /// Port of a Service → the port of this machine.
    pub ports: BTreeMap<u16, u16>,
    /// Its kubeconfig, mode 0600.
    pub kubeconfig: PathBuf,
}

impl Cluster {
    /// Its context in either kubeconfig.
    pub fn context(&self) -> String {
        context(&self.name)
    }

    /// Its Docker network.
    pub fn network(&self) -> String {
        network(&self.name)
    }
}

impl ClusterSpec {
    /// What [`Cluster::nodes`] will be.
    pub fn nodes(&self) -> Vec<String> {
        ["server-0", "agent-0"]
            .map(|node| format!("k3d-{}-{node}", self.name))
            .into()
    }
}

pub(super) fn context(cluster: &str) -> String {
    format!("k3d-{cluster}")
}

pub fn network(cluster: &str) -> String {
    format!("k3d-{cluster}")
}

pub(super) fn image_volume(cluster: &str) -> String {
    format!("k3d-{cluster}-images")
}

/// `<environment>-<cluster>` as k3d takes it, see [`fitting`].
pub fn cluster_name(environment: &str, cluster: &str) -> String {
    fitting(format!("{environment}-{cluster}"))
}

/// A name as k3d takes it: cut, and made unique again by a hash, where it is too long.
pub fn fitting(name: String) -> String {
    if name.len() <= LONGEST_NAME {
        return name;
    }
    let hash = format!("{:x}", Sha256::digest(&name));
    format!(
        "{}-{}",
        name[..LONGEST_NAME - 9].trim_end_matches('-'),
        &hash[..8]
    )
}

/// The clusters of one environment.
#[derive(Clone, Debug)]
pub struct Clusters {
    pub(super) owner: Owner,
    pub(super) image: String,
}

impl Clusters {
    /// `state` is the environment's state folder, absolute; it must be there for [`Clusters::up`].
    pub fn new(environment: &str, state: &Path) -> Self {
        Self::of(Owner {
            environment: environment.into(),
            state: state.into(),
        })
    }

    pub fn of(owner: Owner) -> Self {
        Self {
            owner,
            image: k3s_image(),
        }
    }

    /// Another k3s image than [`k3s_image`].
    #[must_use]
    pub fn with_image(self, image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            ..self
        }
    }

    /// The kubeconfig with all clusters.
    pub fn kubeconfig(&self) -> PathBuf {
        self.owner.state.join("kubeconfig")
    }

    /// One folder per cluster; its existence claims the name, even before there is a container.
    pub fn claims(&self) -> PathBuf {
        self.owner.state.join("k3d")
    }

    pub fn folder(&self, cluster: &str) -> PathBuf {
        self.claims().join(cluster)
    }

    /// The kubeconfig of one cluster, by k3d's name for it.
    pub fn kubeconfig_of(&self, cluster: &str) -> PathBuf {
        self.own_kubeconfig(cluster)
    }

    /// Written last, so it also marks the cluster as completely created.
    pub fn own_kubeconfig(&self, cluster: &str) -> PathBuf {
        self.folder(cluster).join("kubeconfig")
    }

    /// Makes these clusters run, side by side, and writes the kubeconfig files. One that is there and is as wanted is
    /// taken as it is, and started if it is stopped; one of ours that is not as wanted is replaced. A creation that
    /// fails is deleted and tried once more. Stops at the first failure: what was made by then is for [`Clusters::down`].
    pub async fn up(
        &self,
        specs: &[ClusterSpec],
        timeline: &Timeline,
    ) -> anyhow::Result<Vec<Cluster>> {
        for spec in specs {
            if !messages::is_dns_label(&spec.name) || spec.name.len() > LONGEST_NAME {
                return Err(
                    Failure::usage(format!("invalid k3d cluster name `{}`", spec.name))
                        .hint(format!(
                            "use a DNS label of at most {LONGEST_NAME} characters"
                        ))
                        .into(),
                );
            }
        }
        if docker::image(&self.image).await?.is_none() {
            timeline
                .run(format!("pull `{}`", self.image), |_| {
                    docker::pull(&self.image, PULL_LIMIT)
                })
                .await
                .map_err(|error| no_image(&self.image, &error))?;
        }
        let clusters = try_join_all(specs.iter().map(|spec| self.one_up(spec, timeline))).await?;
        let files: Vec<_> = clusters.iter().map(|cluster| &cluster.kubeconfig).collect();
        kubeconfig::merge(&files, &self.kubeconfig())?;
        Ok(clusters)
    }

    /// Why [`Clusters::up`] would replace one of these clusters, with all that is in it; `None` where it takes all that are
    /// there as they are.
    ///
    /// # Errors
    ///
    /// Where the engine does not say what it has.
    pub async fn reason_to_replace(&self, specs: &[ClusterSpec]) -> anyhow::Result<Option<String>> {
        for spec in specs {
            let name = &spec.name;
            let seen = self.look(name).await?;
            // One whose creation was not finished never had anything in it.
            let is_there = !seen.is_empty() && self.own_kubeconfig(name).exists();
            let ours = nodes::ownership(&self.owner, &seen, self.folder(name).exists());
            if let (true, Ownership::Ours, Some(reason)) = (is_there, ours, self.unfit(spec, &seen))
            {
                return Ok(Some(format!("of cluster `{name}` {reason}")));
            }
        }
        Ok(None)
    }

    fn unfit(&self, spec: &ClusterSpec, seen: &[Container]) -> Option<String> {
        let ports = spec.ports.iter();
        let ports: Vec<_> = ports
            .map(|port| (port.host.fixed(), port.service))
            .collect();
        let finished = self.own_kubeconfig(&spec.name).exists();
        nodes::reason_to_replace(seen, &self.image, &ports, finished)
    }

    async fn one_up(&self, spec: &ClusterSpec, timeline: &Timeline) -> anyhow::Result<Cluster> {
        let name = &spec.name;
        let seen = self.look(name).await?;
        match nodes::ownership(&self.owner, &seen, self.folder(name).exists()) {
            Ownership::Foreign(whose) => return Err(foreign(name, &whose)),
            Ownership::Free => refuse_remains(name).await?,
            Ownership::Ours => match self.unfit(spec, &seen) {
                None => return self.take(name, &seen, timeline).await,
                Some(reason) => {
                    if !seen.is_empty() {
                        timeline.note(format!("cluster `{name}` is replaced: {reason}"));
                    }
                    self.delete(name).await?;
                }
            },
        }
        timeline
            .run(format!("create cluster `{name}`"), |step| async move {
                self.create(spec, &step).await
            })
            .await
    }

    /// A cluster that is whole, started where it is stopped.
    async fn take(
        &self,
        name: &str,
        seen: &[Container],
        timeline: &Timeline,
    ) -> anyhow::Result<Cluster> {
        if !seen.iter().all(Container::is_running) {
            timeline
                .run(format!("start cluster `{name}`"), |_| async {
                    cli::start(name, &self.folder(name)).await
                })
                .await?;
            return Ok(self.cluster(name, &self.look(name).await?));
        }
        Ok(self.cluster(name, seen))
    }

    /// Stops those of these clusters that are there and ours, side by side; returns how many that were.
    pub async fn stop(&self, names: &[String], timeline: &Timeline) -> anyhow::Result<usize> {
        let stops = names.iter().map(|name| async move {
            let seen = self.look(name).await?;
            if self.ownership(name, &seen) != Ownership::Ours || seen.is_empty() {
                return Ok(0);
            }
            timeline
                .run(format!("stop cluster `{name}`"), |_| async {
                    cli::stop(name, &self.folder(name)).await
                })
                .await?;
            anyhow::Ok(1)
        });
        Ok(try_join_all(stops).await?.into_iter().sum())
    }

    pub fn cluster(&self, name: &str, seen: &[Container]) -> Cluster {
        Cluster {
            name: name.into(),
            nodes: nodes::kubernetes_nodes(seen),
            started: nodes::starts(seen),
            ports: nodes::published(seen),
            kubeconfig: self.own_kubeconfig(name),
        }
    }

    pub async fn look(&self, name: &str) -> anyhow::Result<Vec<Container>> {
        docker::containers(&[format!("{CLUSTER_LABEL}={name}")]).await
    }
}

/// Refuses a name of which there is a network or a volume that is not ours: k3d would take them over.
async fn refuse_remains(name: &str) -> anyhow::Result<()> {
    let (volume, network) = (image_volume(name), network(name));
    let (what, fix) = if docker::networks()
        .await?
        .iter()
        .any(|found| found.name == network)
    {
        (
            format!("network `{network}`"),
            format!("docker network rm {network}"),
        )
    } else if docker::volumes().await?.contains(&volume) {
        (
            format!("volume `{volume}`"),
            format!("docker volume rm {volume}"),
        )
    } else {
        return Ok(());
    };
    Err(Failure::infrastructure(format!(
        "cluster `{name}`: a Docker {what} of this name exists and is not Ferry's"
    ))
    .hint(format!("if it is no longer needed, run `{fix}`"))
    .into())
}

pub(super) fn foreign(name: &str, whose: &str) -> anyhow::Error {
    Failure::infrastructure(format!(
        "k3d cluster `{name}` already exists and belongs to {whose}"
    ))
    .hint(format!(
        "it was not changed; if it is no longer needed, run `k3d cluster delete {name}`"
    ))
    .into()
}

fn no_image(image: &str, error: &anyhow::Error) -> anyhow::Error {
    Failure::infrastructure(format!("cannot pull the k3s image `{image}`: {error:#}"))
        .hint(format!(
            "run `docker pull {image}` to see the reason, or set `{}` to another image",
            super::K3S_IMAGE_VARIABLE
        ))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_names_fit_and_stay_apart() {
        assert_eq!(
            cluster_name("e2e-0a1b2c3d", "cluster-a"),
            "e2e-0a1b2c3d-cluster-a"
        );
        let [one, other] = ["cluster-a", "cluster-b"]
            .map(|cluster| cluster_name("a-very-long-environment-indeed", cluster));
        for name in [&one, &other] {
            assert!(
                name.len() <= LONGEST_NAME && messages::is_dns_label(name),
                "{name}"
            );
        }
        assert_ne!(one, other);
        let [one, other] = ["a", "b"].map(|last| fitting(format!("{}-{last}", "c".repeat(61))));
        assert!(one.len() <= LONGEST_NAME && one != other, "{one} {other}");
    }

    #[tokio::test]
    async fn name_invalid_for_k3d_is_refused_early() {
        let folder = tempfile::tempdir().unwrap();
        let clusters = Clusters::new("x", folder.path());
        for name in ["", "A", "a_b", &"a".repeat(33)] {
            let spec = ClusterSpec {
                name: name.into(),
                ports: vec![],
            };
            let error = clusters
                .up(&[spec], &Timeline::default())
                .await
                .unwrap_err();
            assert_eq!(Failure::exit_code(&error), 2, "{error}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
