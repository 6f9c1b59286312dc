//! A runtime of the tests' own: what another runtime has to write, and what it gets for that.

use std::collections::BTreeMap;

use async_trait::async_trait;
use blueprint::{container::Container, failure::Failure, plan::Ports};
use futures_util::StreamExt as _;
use host::{
    binaries::Profile,
    environment::{Lock, RuntimeKind},
};
use messages::WorkloadName;

use super::*;
use crate::runtime::{
    Follow, LogLines, Pods,
    request::{Ending, PublicAddress},
};

/// Pods that exist on paper only: the state folder holds nothing but the record.
struct Paper {
    /// Whether it fails after it has made its folder.
    breaks: bool,
}

#[async_trait]
impl Runtime for Paper {
    async fn up(
        &self,
        store: &Store,
        lock: &Lock,
        request: &UpRequest,
        _: &Timeline,
    ) -> Result<Environment, UpError> {
        let environment = store.create(lock, request.draft())?;
        if self.breaks {
            return Err(UpError {
                environment: Some(Box::new(environment)),
                error: anyhow::anyhow!("the paper is torn"),
            });
        }
        Ok(environment)
    }

    async fn refresh(
        &self,
        _: &mut Environment,
        _: &UpRequest,
        _: &Timeline,
    ) -> anyhow::Result<()> {
        Ok(())
    }

    async fn down(
        &self,
        environment: &Environment,
        _: State,
        _: &Timeline,
    ) -> anyhow::Result<Removed> {
        environment.layout().remove()?;
        Ok(Removed::default())
    }

    fn pods(&self) -> &'static dyn Pods {
        &Blank
    }

    async fn status(&self, _: &Environment) -> anyhow::Result<Vec<PodState>> {
        Ok(vec![])
    }

    async fn restart(
        &self,
        _: &mut Environment,
        _: &WorkloadName,
        _: &Timeline,
    ) -> anyhow::Result<()> {
        Ok(())
    }
}

/// What is seen of such pods.
struct Blank;

#[async_trait]
impl Pods for Blank {
    async fn clocks(&self, _: &Environment) -> Clocks {
        Clocks::default()
    }

    async fn live_pods(
        &self,
        _: &Environment,
    ) -> anyhow::Result<BTreeMap<WorkloadName, Vec<String>>> {
        Ok(BTreeMap::new())
    }

    async fn logs(
        &self,
        _: &Environment,
        _: &WorkloadName,
        _: Container,
        _: Follow,
    ) -> anyhow::Result<LogLines> {
        let lines = ["one", "two"].map(|line| Ok(line.to_owned()));
        Ok(futures_util::stream::iter(lines).boxed())
    }

    async fn metrics(
        &self,
        _: &Environment,
        _: &WorkloadName,
        _: Container,
    ) -> anyhow::Result<String> {
        Ok(String::new())
    }

    async fn wait_ready(
        &self,
        _: &Environment,
        _: &WorkloadName,
        _: &Timeline,
    ) -> anyhow::Result<()> {
        Ok(())
    }
}

fn request(lifetime: Lifetime, on_failure: OnFailure) -> UpRequest {
    UpRequest {
        name: "paper".parse().unwrap(),
        runtime: RuntimeKind::Embedded,
        blueprints: vec![],
        ports: Ports::AsWritten,
        public: PublicAddress::Localhost,
        lifetime,
        on_failure,
        settings: BTreeMap::new(),
        existing: None,
        profile: Profile::Dev,
    }
}

async fn up_in(
    folder: &tempfile::TempDir,
    breaks: bool,
    request: UpRequest,
) -> anyhow::Result<Environment> {
    let store = Store::at(folder.path());
    up_on(&Paper { breaks }, &store, request, &Timeline::default()).await
}

#[tokio::test]
async fn another_runtime_gets_the_life_cycle() {
    let folder = tempfile::tempdir().unwrap();
    let made = request(Lifetime::Stays, OnFailure::Remove);
    let environment = up_in(&folder, false, made.clone()).await.unwrap();
    assert_eq!(environment.record.owner, None, "it outlives its command");
    let owned = up_in(
        &folder,
        false,
        request(Lifetime::Command, OnFailure::Remove),
    )
    .await;
    let environment = owned.unwrap();
    assert!(environment.record.owner.is_some());
    let error = up_in(&folder, false, made).await.unwrap_err();
    assert_eq!(
        Failure::exit_code(&error),
        2,
        "a running command owns it: {error}"
    );
}

#[tokio::test]
async fn another_runtime_that_fails_is_removed_or_kept() {
    for (on_failure, stays) in [(OnFailure::Remove, false), (OnFailure::LeaveToCaller, true)] {
        let folder = tempfile::tempdir().unwrap();
        let error = up_in(&folder, true, request(Lifetime::Command, on_failure)).await;
        assert_eq!(error.unwrap_err().to_string(), "the paper is torn");
        let store = Store::at(folder.path());
        assert_eq!(
            store.has(&"paper".parse().unwrap()),
            stays,
            "{on_failure:?}"
        );
    }
}

#[tokio::test]
async fn another_runtime_gets_refused_faults_and_logs() {
    let folder = tempfile::tempdir().unwrap();
    let mut environment = up_in(
        &folder,
        false,
        request(Lifetime::Command, OnFailure::Remove),
    )
    .await
    .unwrap();
    let runtime = Paper { breaks: false };
    let pod = WorkloadName::new("tour", "a", "sink").unwrap();
    let stopped = runtime.stop_container(&mut environment, &pod, Container::App, Ending::Abrupt);
    assert_eq!(Failure::exit_code(&stopped.await.unwrap_err()), 2);
    let frozen = runtime.freeze(&environment, &pod, Container::App).await;
    assert_eq!(Failure::exit_code(&frozen.unwrap_err()), 2);
    let mut lines = runtime
        .pods()
        .logs(&environment, &pod, Container::App, Follow::No)
        .await
        .unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap(), "one");
    assert_eq!(runtime.removal_command(), "local-down");
}
