//! Connects to the pods of an environment on its runtime.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context as _;
use cluster::kubernetes::Cluster;
use futures_util::future::try_join_all;
use host::environment::Environment;
use identity::{Authority, Server};
use messages::WorkloadName;

use super::{Live, clusters};
use crate::runtime::{self, clusters as of_clusters, embedded};

/// How the pods of an environment are reached.
pub(super) enum Reach<'a> {
    /// Their `wosp` reads the state folder itself.
    Processes(&'a Environment),
    /// By the cluster's name in the blueprint.
    Clusters(BTreeMap<String, Cluster>),
}

impl<'a> Reach<'a> {
    pub(super) async fn of(environment: &'a Environment) -> anyhow::Result<Self> {
        Ok(
            match runtime::of(environment.record.runtime).has_api_servers() {
                false => Self::Processes(environment),
                true => {
                    let names = environment.record.clusters.iter();
                    let connections = names.map(|cluster| async move {
                        let cluster = of_clusters::connect(environment, &cluster.name).await?;
                        anyhow::Ok((cluster.name().to_owned(), cluster))
                    });
                    Self::Clusters(try_join_all(connections).await?.into_iter().collect())
                }
            },
        )
    }

    pub(super) async fn look(&self, name: &WorkloadName) -> anyhow::Result<Vec<Live>> {
        match self {
            Self::Processes(environment) => Ok(vec![embedded::look(environment, name).await?]),
            Self::Clusters(all) => clusters::look(cluster(all, name)?, name).await,
        }
    }

    /// Brings to the pod what the state folder has already.
    pub(super) async fn bring(
        &self,
        name: &WorkloadName,
        authority: &Authority,
    ) -> anyhow::Result<()> {
        match self {
            Self::Processes(_) => Ok(()),
            Self::Clusters(all) => {
                clusters::apply_authority(cluster(all, name)?, name, authority).await?;
                self.nudge(name).await
            }
        }
    }

    /// Brings to the pod the certificate of its pinhole, which the state folder has already.
    pub(super) async fn bring_server(
        &self,
        name: &WorkloadName,
        server: &Server,
        token_file: &Path,
    ) -> anyhow::Result<()> {
        match self {
            Self::Processes(_) => Ok(()),
            Self::Clusters(all) => {
                let token = fs::read_to_string(token_file)
                    .with_context(|| format!("cannot read `{}`", token_file.display()))?;
                clusters::apply_server(cluster(all, name)?, name, server, token).await?;
                self.nudge(name).await
            }
        }
    }

    pub(super) async fn nudge(&self, name: &WorkloadName) -> anyhow::Result<()> {
        match self {
            Self::Processes(_) => Ok(()),
            Self::Clusters(all) => clusters::nudge(cluster(all, name)?, name).await,
        }
    }
}

fn cluster<'a>(
    all: &'a BTreeMap<String, Cluster>,
    name: &WorkloadName,
) -> anyhow::Result<&'a Cluster> {
    all.get(name.cluster())
        .with_context(|| format!("cluster {} is not connected", name.cluster()))
}
