//! One blueprint in an environment that is up; what is done with it is in the modules beside this one.

use std::sync::Arc;

use blueprint::{failure::Failure, plan};
use harness::runtime::clusters;
use host::{
    environment::{Environment, Name, PodRecord, RuntimeKind, Store},
    select,
};
use messages::WorkloadName;

use super::{
    Faults, Messages, Pod,
    inside::{Forward, Inside},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Made,
    Attached,
}

/// One blueprint in an environment that is up.
#[derive(Clone, Debug)]
pub struct Ferry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    name: Name,
    blueprint: String,
    origin: Origin,
    inside: Option<Inside>,
}

impl Ferry {
    pub(super) fn new(store: Store, name: Name, blueprint: String, origin: Origin) -> Self {
        Self(Arc::new(Inner {
            store,
            name,
            blueprint,
            origin,
            inside: None,
        }))
    }

    pub fn blueprint(&self) -> &str {
        &self.0.blueprint
    }

    /// Another blueprint of the same environment.
    #[must_use]
    pub fn other(&self, blueprint: &str) -> Self {
        let Inner {
            store,
            name,
            origin,
            ..
        } = &*self.0;
        Self::new(store.clone(), name.clone(), blueprint.into(), *origin)
    }

    /// Sends messages and reads them again.
    pub fn messages(&self) -> Messages<'_> {
        Messages(self)
    }

    /// Breaks pods and heals them.
    pub fn faults(&self) -> Faults<'_> {
        Faults(self)
    }

    /// Asks the pod of this name in the blueprint.
    pub fn pod<'a>(&'a self, pod: &'a str) -> Pod<'a> {
        Pod { ferry: self, pod }
    }

    pub(super) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(super) fn origin(&self) -> Origin {
        self.0.origin
    }

    /// The environment as it is recorded at this moment.
    pub fn environment(&self) -> anyhow::Result<Environment> {
        let mut environment = self.0.store.load(&self.0.name)?;
        if let Some(inside) = &self.0.inside {
            for pod in &mut environment.record.pods {
                pod.local_address = inside.address(&pod.name);
                // The app itself speaks no TLS.
                pod.roots_file = None;
            }
        }
        Ok(environment)
    }

    /// The same blueprint, its pods asked at their `app` itself: past their Envoys, which may be gone, and past what is in
    /// front of a pod on a cluster, which gives one that is not ready no new connection.
    pub async fn inside(&self) -> anyhow::Result<Self> {
        if self.0.inside.is_some() {
            return Ok(self.clone());
        }
        let environment = self.environment()?;
        let mut inside = Inside::default();
        for pod in environment.record.pods_of(self.blueprint()) {
            match environment.record.runtime {
                RuntimeKind::Embedded => {
                    inside.add(&pod.name, self.pod(pod.name.pod()).file()?.http)
                }
                RuntimeKind::K3d | RuntimeKind::Existing => {
                    let port = plan::HTTP_PORT;
                    inside.add_forward(&pod.name, forward(&environment, &pod.name, port).await?);
                }
            }
        }
        Ok(Self(Arc::new(Inner {
            store: self.0.store.clone(),
            name: self.0.name.clone(),
            blueprint: self.0.blueprint.clone(),
            origin: self.0.origin,
            inside: Some(inside),
        })))
    }

    /// The blueprint's only gateway.
    pub fn gateway(&self) -> anyhow::Result<PodRecord> {
        self.only(select::gateways(
            &self.environment()?.record,
            self.blueprint(),
        ))
    }

    /// The blueprint's only sink.
    pub fn sink(&self) -> anyhow::Result<PodRecord> {
        self.only(select::sinks(&self.environment()?.record, self.blueprint()))
    }

    fn only<'a>(&self, mut pods: impl Iterator<Item = &'a PodRecord>) -> anyhow::Result<PodRecord> {
        match (pods.next(), pods.next()) {
            (Some(pod), None) => Ok(pod.clone()),
            _ => Err(Failure::usage(format!(
                "`{}` has not exactly one such pod",
                self.blueprint()
            ))
            .into()),
        }
    }
}

/// A port of this machine that leads to one of a pod on a cluster.
async fn forward(
    environment: &Environment,
    pod: &WorkloadName,
    port: u16,
) -> anyhow::Result<Forward> {
    let cluster = clusters::connect(environment, pod.cluster()).await?;
    Ok(Forward::to(cluster, pod.clone(), port).await?)
}
