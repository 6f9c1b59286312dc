//! The end of what was deployed into a namespace that stays, for the claims in it.

use std::time::Duration;

use anyhow::Context as _;
use host::{
    timeline::Step,
    wait::{Seen, Wait},
};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::{ConfigMap, Pod, Secret, Service},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
};
use kube::{
    Resource,
    api::{DeleteParams, ListParams},
};
use render::{ENVIRONMENT_LABEL, TargetGroupBinding};
use serde::de::DeserializeOwned;

use super::Cluster;

impl Cluster {
    /// Deletes everything in a namespace that carries the label of an environment; returns when it is gone. The claims carry
    /// no such label.
    ///
    /// # Errors
    ///
    /// Where the API server refuses, or something is there after `limit`.
    pub async fn withdraw(
        &self,
        namespace: &str,
        label: &str,
        limit: Duration,
        step: &Step,
    ) -> anyhow::Result<()> {
        let end = End {
            namespace,
            labels: ListParams::default().labels(&format!("{ENVIRONMENT_LABEL}={label}")),
            limit,
            step,
        };
        // The pods first, which need the rest until they have drained.
        self.delete_labelled::<Deployment>(&end).await?;
        self.delete_labelled::<StatefulSet>(&end).await?;
        self.delete_labelled::<Pod>(&end).await?;
        self.delete_labelled::<TargetGroupBinding>(&end).await?;
        self.delete_labelled::<Service>(&end).await?;
        self.delete_labelled::<PodDisruptionBudget>(&end).await?;
        self.delete_labelled::<NetworkPolicy>(&end).await?;
        self.delete_labelled::<ConfigMap>(&end).await?;
        self.delete_labelled::<Secret>(&end).await
    }

    async fn delete_labelled<K>(&self, end: &End<'_>) -> anyhow::Result<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let api = self.namespaced::<K>(end.namespace);
        let what = format!(
            "every {} of {} in {}",
            K::kind(&()),
            end.namespace,
            self.name
        );
        let how = DeleteParams::foreground();
        match api.delete_collection(&how, &end.labels).await {
            Ok(_) => {}
            // A kind that this cluster does not have.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("cannot delete {what}")),
        }
        Wait::until(format!("the end of {what}"))
            .within(end.limit)
            .hint("run it again; `kubectl describe` shows what holds them")
            .showing(end.step)
            .poll(|| async {
                Ok(match api.list_metadata(&end.labels).await {
                    Ok(left) if left.items.is_empty() => Seen::Ready(()),
                    Ok(left) => Seen::Waiting(format!("{} are there", left.items.len())),
                    Err(error) => Seen::Waiting(error.to_string()),
                })
            })
            .await
    }
}

struct End<'a> {
    namespace: &'a str,
    labels: ListParams,
    limit: Duration,
    step: &'a Step,
}
