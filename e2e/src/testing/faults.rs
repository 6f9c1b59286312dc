//! Faults of a ferry's pods, and their end.

use std::panic::{AssertUnwindSafe, resume_unwind};

use blueprint::container::Container;
use futures_util::FutureExt as _;
use harness::{
    ops::faults,
    proof,
    runtime::{self, request::Ending},
};
use host::{
    environment::{Environment, PodRecord, RuntimeKind},
    timeline::Timeline,
};

use super::ferry::Ferry;

/// What may befall the pods of a ferry.
#[derive(Clone, Copy, Debug)]
pub struct Faults<'a>(pub(super) &'a Ferry);

impl Faults<'_> {
    /// Ends a container.
    pub async fn stop(
        &self,
        pod: &str,
        container: Container,
        ending: Ending,
    ) -> anyhow::Result<()> {
        let (mut environment, name) = (self.0.environment()?, self.0.pod(pod).name()?);
        let silent = Timeline::default();
        faults::stop_container(
            self.0.store(),
            &mut environment,
            &name,
            container,
            ending,
            &silent,
        )
        .await
    }

    /// Starts it again, and waits until its pod is ready; a gateway that sends by itself at each start, until that is over.
    pub async fn start(&self, pod: &str, container: Container) -> anyhow::Result<()> {
        let (mut environment, pod) = (self.0.environment()?, self.0.pod(pod).record()?);
        let before = proof::reports(&environment, &pod).await?.len();
        let silent = Timeline::default();
        let store = self.0.store();
        faults::start_container(store, &mut environment, &pod.name, container, &silent).await?;
        runtime::of(environment.record.runtime)
            .pods()
            .wait_ready(&environment, &pod.name, &silent)
            .await?;
        if container == Container::App {
            self.sent_by_itself(&environment, &pod, before).await?;
        }
        Ok(())
    }

    /// Does `work` after the end of a container, then starts it again, whatever came of `work`, and waits until every pod of
    /// the blueprint is ready. Clusters refuse it, since the kubelet restarts what has ended or hangs.
    pub async fn without<T>(
        &self,
        pod: &str,
        container: Container,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        self.stop(pod, container, Ending::Abrupt).await?;
        let outcome = AssertUnwindSafe(work).catch_unwind().await;
        let back = self.start(pod, container).await;
        let value = match outcome {
            Ok(result) => result?,
            Err(panic) => resume_unwind(panic),
        };
        back?;
        // A restarted container has a new record.
        let environment = self.0.environment()?;
        for pod in environment.record.pods_of(self.0.blueprint()) {
            runtime::of(environment.record.runtime)
                .pods()
                .wait_ready(&environment, &pod.name, &Timeline::default())
                .await?;
        }
        Ok(value)
    }

    /// Ends a pod's `app` with time to drain and starts it again, on clusters in another pod; waits until it is ready, and
    /// what a gateway sends by itself at each start is over.
    pub async fn restart(&self, pod: &str) -> anyhow::Result<()> {
        let (mut environment, pod) = (self.0.environment()?, self.0.pod(pod).record()?);
        // The log of another pod starts empty.
        let before = match environment.record.runtime {
            RuntimeKind::Embedded => proof::reports(&environment, &pod).await?.len(),
            RuntimeKind::K3d | RuntimeKind::Existing => 0,
        };
        let silent = Timeline::default();
        faults::restart(self.0.store(), &mut environment, &pod.name, &silent).await?;
        self.sent_by_itself(&environment, &pod, before).await
    }

    async fn sent_by_itself(
        &self,
        environment: &Environment,
        pod: &PodRecord,
        before: usize,
    ) -> anyhow::Result<()> {
        if pod.auto_trigger > 0 {
            let step = Timeline::default().step("auto-trigger");
            proof::wait_for_report(environment, pod, before, &step).await?;
            step.done();
        }
        Ok(())
    }
}
