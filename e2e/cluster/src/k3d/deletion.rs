//! Deletes an environment's clusters and checks that nothing of them is left.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use futures_util::future::{join_all, try_join_all};
use host::{
    docker::{self, Container},
    process,
    timeline::Timeline,
    wait::{Seen, Wait},
};

use super::{
    clusters::{Clusters, foreign, image_volume, network},
    nodes::{self, CLUSTER_LABEL, Ownership},
};

/// A deletion is tried again until then.
const LIMIT: Duration = Duration::from_secs(90);
/// The engine may still finish what a killed k3d had asked it for, so one look that finds nothing is not enough.
const CLEAN_LOOKS: u32 = 2;

/// What is remembered from one try to the next.
struct Memory {
    /// Volumes of containers that may be gone by now; nothing but their names tells whose they were.
    volumes: BTreeSet<String>,
    clean_looks: u32,
}

impl Clusters {
    /// Names of all clusters of this environment: those that run, are stopped, or were only begun.
    pub async fn names(&self) -> anyhow::Result<Vec<String>> {
        let labelled = docker::containers(&self.owner.labels()).await?;
        let mut names: BTreeSet<String> = labelled
            .iter()
            .filter_map(|container| container.label(CLUSTER_LABEL))
            .map(str::to_owned)
            .collect();
        if let Ok(claims) = std::fs::read_dir(self.claims()) {
            names.extend(
                claims
                    .flatten()
                    .filter_map(|entry| entry.file_name().into_string().ok()),
            );
        }
        Ok(names.into_iter().collect())
    }

    /// Deletes all clusters of this environment and their kubeconfig files, side by side, and checks that nothing is
    /// left. Every one is tried; the first failure is returned, else of how many there was anything.
    pub async fn down(&self, timeline: &Timeline) -> anyhow::Result<usize> {
        let names = self.names().await?;
        let deletions = names
            .iter()
            .map(|name| timeline.run(format!("delete cluster `{name}`"), |_| self.delete(name)));
        let deleted: Vec<bool> = join_all(deletions)
            .await
            .into_iter()
            .collect::<anyhow::Result<_>>()?;
        absent(&self.kubeconfig(), std::fs::remove_file(self.kubeconfig()))?;
        absent(&self.claims(), std::fs::remove_dir(self.claims()))?;
        Ok(deleted.into_iter().filter(|there| *there).count())
    }

    /// Deletes a cluster of ours with its containers, volumes and network, tried again until nothing of it is left; one
    /// that is not there is no error. Needs no `k3d`, which would rewrite the user's kubeconfig, and sees what a killed
    /// creation left as well. Returns whether there was a container of it.
    pub async fn delete(&self, name: &str) -> anyhow::Result<bool> {
        let folder = self.folder(name);
        process::stop(&process::processes_under(&folder)?, Duration::ZERO).await?;
        let seen = self.look(name).await?;
        if self.ownership(name, &seen) == Ownership::Free {
            return Ok(false);
        }
        let memory = Mutex::new(Memory {
            volumes: BTreeSet::from([image_volume(name)]),
            clean_looks: 0,
        });
        Wait::until(format!("the end of cluster `{name}`"))
            .within(LIMIT)
            .hint(format!(
                "run `docker ps --all --filter label={CLUSTER_LABEL}={name}` to see what is \
                 left; run `cargo xtask sweep` to retry"
            ))
            .poll(|| self.delete_once(name, &memory))
            .await?;
        absent(&folder, std::fs::remove_dir_all(&folder))?;
        Ok(!seen.is_empty())
    }

    async fn delete_once(&self, name: &str, memory: &Mutex<Memory>) -> anyhow::Result<Seen<()>> {
        let seen = self.look(name).await?;
        if let Ownership::Foreign(whose) = self.ownership(name, &seen) {
            return Err(foreign(name, &whose));
        }
        let volumes = {
            let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            memory.volumes.extend(
                seen.iter()
                    .flat_map(|container| container.volumes.iter().cloned()),
            );
            memory.volumes.clone()
        };
        if let Err(error) = remove(name, &seen, &volumes).await {
            return Ok(Seen::Waiting(format!("{error:#}")));
        }
        if let Some(left) = self.remains(name, &volumes).await? {
            return Ok(Seen::Waiting(left));
        }
        let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.clean_looks += 1;
        Ok(if memory.clean_looks < CLEAN_LOOKS {
            Seen::Waiting("nothing is left, looking again".into())
        } else {
            Seen::Ready(())
        })
    }

    pub(super) fn ownership(&self, name: &str, seen: &[Container]) -> Ownership {
        nodes::ownership(&self.owner, seen, self.folder(name).exists())
    }

    /// What is there of a cluster; `None` for nothing.
    async fn remains(
        &self,
        name: &str,
        volumes: &BTreeSet<String>,
    ) -> anyhow::Result<Option<String>> {
        if let Some(container) = self.look(name).await?.first() {
            return Ok(Some(format!(
                "container `{}` is {}",
                container.name, container.state
            )));
        }
        if docker::networks()
            .await?
            .iter()
            .any(|found| found.name == network(name))
        {
            return Ok(Some(format!("network `{}` is there", network(name))));
        }
        let left = docker::volumes()
            .await?
            .into_iter()
            .find(|volume| volumes.contains(volume));
        Ok(left.map(|volume| format!("volume `{volume}` is there")))
    }
}

async fn remove(name: &str, seen: &[Container], volumes: &BTreeSet<String>) -> anyhow::Result<()> {
    let containers: Vec<_> = seen
        .iter()
        .map(|container| container.name.clone())
        .collect();
    docker::remove_containers(&containers).await?;
    // The anonymous ones went with their containers, unless a container was removed without them.
    let left = docker::volumes().await?;
    let left = left.iter().filter(|volume| volumes.contains(*volume));
    try_join_all(left.map(|volume| docker::remove_volume(volume))).await?;
    docker::remove_network(&network(name)).await
}

/// The result of a removal, where "not there" is as good.
fn absent(path: &Path, removed: std::io::Result<()>) -> anyhow::Result<()> {
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot delete `{}`", path.display()))
        }
        _ => Ok(()),
    }
}
