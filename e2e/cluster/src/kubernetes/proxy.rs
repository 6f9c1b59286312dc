//! Queries a pod through a forwarded port, and replaces its Secrets.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, bail};
use blueprint::{failure::Failure, plan::HTTP_PORT};
use futures_util::FutureExt;
use host::{
    clock::{self, Offset},
    http::{self, Response},
};
use hyper::header::DATE;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    api::{ObjectMeta, Portforwarder},
    client::Body,
};
use messages::WorkloadName;
use render::Object;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::Cluster;

/// Time for a forwarded port, and then for a pod's whole answer.
const LIMIT: Duration = Duration::from_secs(10);

impl Cluster {
    /// The answer of a pod to `GET <path>` at one of its ports, whatever its status, by a forwarded port: that begins in the
    /// pod itself, while what the API server proxies comes over the cluster's network, where the pods' policies refuse it.
    pub async fn answer(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
        path: &str,
    ) -> anyhow::Result<Response> {
        let mut forwarded = self.forward(namespace, pod, port).await?;
        let refused = forwarded.take_error(port);
        let stream = forwarded.take_stream(port).context("no forwarded port")?;
        let answer = http::get_over(stream, path, LIMIT).await;
        let Err(error) = answer else { return answer };
        // The kubelet's own words, where it has some already.
        match refused.and_then(FutureExt::now_or_never).flatten() {
            Some(words) => Err(error.context(words)),
            None => Err(error),
        }
    }

    /// How far the clock of a pod's node is ahead of this machine's, as its app reports, ready or
    /// not; `None` if it does not.
    pub async fn pod_clock(&self, namespace: &str, pod: &str) -> anyhow::Result<Option<Offset>> {
        let mut forwarded = self.forward(namespace, pod, HTTP_PORT).await?;
        let stream = forwarded.take_stream(HTTP_PORT);
        let stream = stream.context("no forwarded port")?;
        let asked = clock::now();
        let answer = http::get_over(stream, "/ready", LIMIT).await?;
        Ok(Offset::of_ready(&answer.body, asked, clock::now()))
    }

    /// How far the API server's clock is ahead of this machine's, by the header `Date` of an answer: to a second.
    pub async fn clock(&self) -> anyhow::Result<Offset> {
        let request = hyper::Request::get("/version").body(Body::empty())?;
        let asked = clock::now();
        let answer = self.client.send(request).await;
        let answered = clock::now();
        let answer = answer.with_context(|| format!("{}: no answer", self.name))?;
        let date = answer
            .headers()
            .get(DATE)
            .and_then(|date| date.to_str().ok());
        let date =
            date.with_context(|| format!("{}: its API server sends no `Date`", self.name))?;
        Offset::of_date(date, asked, answered)
    }

    async fn forward(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> anyhow::Result<Portforwarder> {
        let pods = self.namespaced::<Pod>(namespace);
        let ports = [port];
        let forwarded = timeout(LIMIT, pods.portforward(pod, &ports)).await;
        Ok(forwarded.context("the port was not forwarded in time")??)
    }

    /// A connection to a port of a workload's youngest pod, which begins in the pod itself as that of [`Self::answer`].
    pub async fn connect_to(
        &self,
        workload: &WorkloadName,
        port: u16,
    ) -> anyhow::Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>> {
        let (namespace, newest) = (workload.namespace(), self.newest(workload).await?);
        let mut forwarded = self.forward(&namespace, &newest.name, port).await?;
        forwarded.take_stream(port).context("no forwarded port")
    }

    /// As [`Self::answer`], of a pod that is to answer 200.
    pub async fn ask(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
        path: &str,
    ) -> anyhow::Result<String> {
        let whom = || format!("{}: pod {namespace}/{pod}, port {port}", self.name);
        let answer = self.answer(namespace, pod, port, path).await;
        let answer = answer.with_context(whom)?;
        if answer.status != 200 {
            bail!("{} answers {} to {path}", whom(), answer.status);
        }
        Ok(answer.text())
    }

    /// Replaces what a Secret that is there holds, by server-side apply; its labels stay.
    pub async fn replace_secret(
        &self,
        namespace: &str,
        name: &str,
        data: BTreeMap<String, String>,
    ) -> anyhow::Result<()> {
        let found = self
            .namespaced::<Secret>(namespace)
            .get_opt(name)
            .await
            .with_context(|| format!("{}: cannot read Secret {namespace}/{name}", self.name))?;
        let Some(found) = found else {
            return Err(Failure::infrastructure(format!(
                "{}: Secret {namespace}/{name} is gone",
                self.name
            ))
            .hint("run `local-up` or `deploy` again, which applies it")
            .into());
        };
        // An apply takes back what the same manager set before and leaves out now, so labels and type are said again.
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some(namespace.into()),
                labels: found.metadata.labels,
                ..ObjectMeta::default()
            },
            string_data: Some(data),
            type_: found.type_,
            ..Secret::default()
        };
        self.apply(&[Object::Secret(secret)]).await
    }
}
