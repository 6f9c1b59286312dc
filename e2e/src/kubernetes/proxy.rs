//! What a pod answers by itself, and a Secret of it replaced.

use std::collections::BTreeMap;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;

use super::Cluster;
use crate::{failure::Failure, render::Object};

impl Cluster {
    /// `GET <path>` at a port of a pod, through the API server.
    /// <https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/#manually-constructing-apiserver-proxy-urls>
    pub(crate) async fn ask(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
        path: &str,
    ) -> anyhow::Result<String> {
        let address = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}");
        let request = hyper::Request::get(address)
            .body(vec![])
            .context("ask a pod")?;
        self.client()
            .request_text(request)
            .await
            .with_context(|| format!("{}: pod {namespace}/{pod}, port {port}", self.name))
    }

    /// Replaces what a Secret that is there holds, by server-side apply; its labels stay.
    pub(crate) async fn replace_secret(
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
            .hint("bring the environment up again, which applies it")
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
