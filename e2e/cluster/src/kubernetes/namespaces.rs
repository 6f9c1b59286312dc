//! Namespaces: their owner and their deletion.

use std::time::Duration;

use anyhow::Context as _;
use blueprint::failure::Failure;
use host::{
    timeline::Step,
    wait::{Seen, Wait},
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::DeleteParams};
use render::ENVIRONMENT_LABEL;

use super::Cluster;

/// Whose a namespace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owned {
    /// There is none of that name.
    Absent,
    /// It carries the label of the environment that asks.
    Ours,
    /// Owned by another environment or user; the text names the owner if known.
    Foreign(String),
}

/// Every cluster has it, and none has another's: it is made with the cluster and lasts as long.
const ONE_OF_EACH_CLUSTER: &str = "kube-system";

impl Cluster {
    /// What tells this cluster from all others: the UID of namespace `kube-system`.
    ///
    /// # Errors
    ///
    /// Where the user may not read that namespace, or it has none.
    pub async fn uid(&self) -> anyhow::Result<String> {
        let namespace = Api::<Namespace>::all(self.client.clone())
            .get(ONE_OF_EACH_CLUSTER)
            .await
            .map_err(|error| match error {
                kube::Error::Api(status) => anyhow::anyhow!("{}", status.message),
                other => other.into(),
            })?;
        namespace
            .metadata
            .uid
            .filter(|uid| !uid.is_empty())
            .context("its namespace kube-system has no UID")
    }

    /// Whose the namespace is, for the environment of this label.
    pub async fn owner_of(&self, namespace: &str, label: &str) -> anyhow::Result<Owned> {
        let found = Api::<Namespace>::all(self.client.clone())
            .get_opt(namespace)
            .await
            .with_context(|| format!("{}: cannot read namespace {namespace}", self.name))?;
        let Some(found) = found else {
            return Ok(Owned::Absent);
        };
        let labels = found.metadata.labels.unwrap_or_default();
        Ok(match labels.get(ENVIRONMENT_LABEL) {
            Some(owner) if owner == label => Owned::Ours,
            Some(owner) => Owned::Foreign(format!("of environment {owner}")),
            None => Owned::Foreign("not made by Ferry".into()),
        })
    }

    /// Fails if a namespace of that name is there and is not of the environment with this label.
    pub async fn check_namespace_is_ours(
        &self,
        namespace: &str,
        label: &str,
    ) -> anyhow::Result<()> {
        match self.owner_of(namespace, label).await? {
            Owned::Absent | Owned::Ours => Ok(()),
            Owned::Foreign(whose) => Err(Failure::infrastructure(format!(
                "{}: namespace {namespace} already exists and is {whose}",
                self.name
            ))
            .hint(format!(
                "it was not changed; delete it (`kubectl delete namespace {namespace}`) or \
                 rename the blueprint"
            ))
            .into()),
        }
    }

    /// Asks for the end of a namespace with all that is in it; one that is gone already is no error.
    pub async fn delete_namespace(&self, namespace: &str) -> anyhow::Result<()> {
        let deleted = Api::<Namespace>::all(self.client.clone())
            .delete(namespace, &DeleteParams::default())
            .await;
        match deleted {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error)
                .with_context(|| format!("{}: cannot delete namespace {namespace}", self.name)),
        }
    }

    /// Waits until a namespace that was deleted is gone: a cloud takes its load balancers back first.
    pub async fn namespace_gone(
        &self,
        namespace: &str,
        limit: Duration,
        step: &Step,
    ) -> anyhow::Result<()> {
        let all = Api::<Namespace>::all(self.client.clone());
        Wait::until(format!("the end of namespace {namespace} in {}", self.name))
            .within(limit)
            .hint(format!(
                "run `kubectl describe namespace {namespace}` to see what it still \
                           contains; then run the command again"
            ))
            .showing(step)
            .looking_every(Duration::from_secs(1))
            .poll(|| async {
                Ok(match all.get_opt(namespace).await {
                    Ok(None) => Seen::Ready(()),
                    Ok(Some(found)) => Seen::Waiting(what_is_left(&found)),
                    Err(error) => Seen::Waiting(error.to_string()),
                })
            })
            .await
    }
}

/// What the namespace's controller reports to wait for.
/// <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/namespace-v1/#NamespaceStatus>
fn what_is_left(namespace: &Namespace) -> String {
    let conditions = namespace
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let left: Vec<_> = conditions
        .filter(|condition| condition.status == "True")
        .filter_map(|condition| condition.message.clone())
        .collect();
    if left.is_empty() {
        "it is there".into()
    } else {
        left.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_namespace_says_what_it_still_holds() {
        let namespace = |conditions| {
            serde_json::from_value::<Namespace>(
                json!({ "metadata": { "name": "x" }, "status": { "phase": "Terminating", "conditions": conditions } }),
            )
            .unwrap()
        };
        let condition = |status| json!({ "type": "NamespaceContentRemaining", "status": status, "message": "services. has 1 resource instances" });
        assert_eq!(
            what_is_left(&namespace(json!([condition("True")]))),
            "services. has 1 resource instances"
        );
        assert_eq!(
            what_is_left(&namespace(json!([condition("False")]))),
            "it is there"
        );
    }
}
