//! Applies StatefulSets and their claims. Most fields of both are immutable, so what exists decides what can be done.

use std::time::Duration;

use anyhow::Context as _;
use blueprint::{failure::Failure, storage::bytes};
use host::wait::{Seen, Wait};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec},
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use messages::WorkloadName;
use render::Controller;
use serde_json::json;

use super::{Cluster, claims::is_bound};

/// Time for an API server to delete what nothing holds any more, a draining pod included.
const GONE_LIMIT: Duration = Duration::from_secs(60);

/// How a StatefulSet that is there comes to what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// By an update, or because there is none; with the template of claims that it has.
    Apply,
    /// The claim grows to this size; then the set is made again around its pod, since its template cannot change.
    Grow(String),
    /// The set is made again, and its pod with it; the claim too, where no volume was ever bound to it.
    Remake,
}

impl Cluster {
    /// Returns what makes the pods of a sink, where its messages end with each of them: a Deployment of an earlier Ferry, or a
    /// StatefulSet without a claim.
    ///
    /// # Errors
    ///
    /// Where the API server does not tell.
    pub async fn ends_with_pod(&self, sink: &WorkloadName) -> anyhow::Result<Option<Controller>> {
        let (namespace, name) = (sink.namespace(), sink.pod());
        let unreadable = || format!("{}: cannot read what makes {namespace}/{name}", self.name);
        let deployments = self.namespaced::<Deployment>(&namespace);
        let found = deployments.get_opt(name).await.with_context(unreadable)?;
        if found.is_some() {
            return Ok(Some(Controller::Deployment));
        }
        let sets = self.namespaced::<StatefulSet>(&namespace);
        let found = sets.get_opt(name).await.with_context(unreadable)?;
        let without_claim = found.filter(|set| claim_of(set).is_none());
        Ok(without_claim.map(|_| Controller::StatefulSet))
    }

    /// Deletes what makes the pods of a workload, and them; returns when they are gone.
    ///
    /// # Errors
    ///
    /// Where the API server refuses, or they do not end.
    pub async fn remove_controller(
        &self,
        workload: &WorkloadName,
        controller: Controller,
    ) -> anyhow::Result<()> {
        let (namespace, name) = (workload.namespace(), workload.pod());
        let how = DeleteParams::foreground();
        match controller {
            Controller::Deployment => {
                let all = self.namespaced::<Deployment>(&namespace);
                self.delete(&all, name, &how).await
            }
            Controller::StatefulSet => {
                let all = self.namespaced::<StatefulSet>(&namespace);
                self.delete(&all, name, &how).await
            }
        }
    }

    /// Applies a StatefulSet whatever was there before.
    ///
    /// # Errors
    ///
    /// Where what is stored would have to move, which Kubernetes cannot do.
    pub(super) async fn apply_stateful_set(&self, wanted: &StatefulSet) -> anyhow::Result<()> {
        let namespace = wanted.metadata.namespace.as_deref().unwrap_or_default();
        let name = wanted.metadata.name.as_deref().unwrap_or_default();
        let sets = self.namespaced::<StatefulSet>(namespace);
        let claims = self.namespaced::<PersistentVolumeClaim>(namespace);
        let claim_name = claim_of(wanted).map_or_else(
            || format!("{}-{name}-0", blueprint::DATA_VOLUME),
            |claim| claim_name(claim, name),
        );
        let unreadable = || format!("{}: cannot read what {namespace}/{name} has", self.name);
        let set = sets.get_opt(name).await.with_context(unreadable)?;
        let claim = claims.get_opt(&claim_name).await.with_context(unreadable)?;
        let way = way(wanted, set.as_ref(), claim.as_ref())
            .map_err(|failure| failure.at(&self.name, namespace, &claim_name))?;
        let mut wanted = wanted.clone();
        match (way, set) {
            (Way::Apply, Some(set)) => {
                if let (Some(wanted), Some(set)) = (&mut wanted.spec, set.spec) {
                    wanted.volume_claim_templates = set.volume_claim_templates;
                }
            }
            (Way::Apply, None) => {}
            (Way::Grow(size), set) => {
                self.grow(&claims, namespace, &claim_name, &size).await?;
                if set.is_some() {
                    self.delete(&sets, name, &DeleteParams::orphan()).await?;
                }
            }
            (Way::Remake, set) => {
                if set.is_some() {
                    self.delete(&sets, name, &DeleteParams::foreground())
                        .await?;
                }
                self.delete_unbound(&claims, &claim_name).await?;
            }
        }
        self.apply_one(&wanted).await
    }

    /// Deletes a claim, unless it is bound by now: then it may hold messages.
    async fn delete_unbound(
        &self,
        claims: &Api<PersistentVolumeClaim>,
        name: &str,
    ) -> anyhow::Result<()> {
        let unreadable = || format!("{}: cannot read claim {name}", self.name);
        let found = claims.get_opt(name).await.with_context(unreadable)?;
        let Some(claim) = found.filter(|claim| !is_bound(claim)) else {
            return Ok(());
        };
        let this_one = Preconditions {
            resource_version: claim.metadata.resource_version,
            uid: claim.metadata.uid,
        };
        let how = DeleteParams::default().preconditions(this_one);
        self.delete(claims, name, &how).await
    }

    async fn grow(
        &self,
        claims: &Api<PersistentVolumeClaim>,
        namespace: &str,
        claim: &str,
        size: &str,
    ) -> anyhow::Result<()> {
        let patch = json!({ "spec": { "resources": { "requests": { "storage": size } } } });
        let patched = claims
            .patch(claim, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        match patched {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) => Err(Failure::infrastructure(format!(
                "{}: claim {namespace}/{claim} cannot grow to {size}: {}",
                self.name, status.message
            ))
            .hint("`kubectl get storageclass` shows whose volumes expand; where this one's do not, keep the `size` that it has")
            .into()),
            Err(error) => Err(error)
                .with_context(|| format!("{}: claim {namespace}/{claim} cannot be changed", self.name)),
        }
    }

    /// Deletes an object and waits until it is gone.
    async fn delete<K>(&self, api: &Api<K>, name: &str, how: &DeleteParams) -> anyhow::Result<()>
    where
        K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    {
        let what = format!("{} {name} in {}", K::kind(&()), self.name);
        match api.delete(name, how).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("cannot delete {what}")),
        }
        Wait::until(format!("the end of {what}"))
            .within(GONE_LIMIT)
            .poll(|| async {
                Ok(match api.get_opt(name).await {
                    Ok(None) => Seen::Ready(()),
                    Ok(Some(_)) => Seen::Waiting("it is there".into()),
                    Err(error) => Seen::Waiting(error.to_string()),
                })
            })
            .await
    }
}

/// Why a claim cannot become what is wanted, and what to do; what claim that is comes with [`Self::at`].
#[derive(Debug, PartialEq, Eq)]
struct Stuck {
    cause: String,
    hint: String,
}

impl Stuck {
    fn at(self, cluster: &str, namespace: &str, claim: &str) -> Failure {
        Failure::usage(format!(
            "{cluster}: claim {namespace}/{claim} {}",
            self.cause
        ))
        .hint(self.hint)
    }
}

/// How to go from `set` and `claim` to `wanted`. Pure.
fn way(
    wanted: &StatefulSet,
    set: Option<&StatefulSet>,
    claim: Option<&PersistentVolumeClaim>,
) -> Result<Way, Stuck> {
    let wants = claim_of(wanted).and_then(|claim| claim.spec.as_ref());
    let had = set.map(claim_of);
    // What ends with its pod was looked at before.
    let fits = had.is_none_or(|had| had.is_some() == wants.is_some());
    let as_it_is = if fits { Way::Apply } else { Way::Remake };
    let Some(bound) = claim.filter(|claim| is_bound(claim)) else {
        // Nothing is stored: a claim without a volume, or only the template of one.
        let template = had.flatten().and_then(|claim| claim.spec.as_ref());
        let same_template = template.is_none_or(|has| {
            wants.is_some_and(|wants| wants.storage_class_name == has.storage_class_name)
        });
        let same_claim = claim.and_then(|claim| claim.spec.as_ref()).or(template);
        let same_claim = same_claim.is_none_or(|has| {
            wants.is_some_and(|wants| moves(wants, has).is_none() && size(wants) == size(has))
        });
        return Ok(if same_template && same_claim {
            as_it_is
        } else {
            Way::Remake
        });
    };
    let has = bound.spec.clone().unwrap_or_default();
    let Some(wants) = wants else {
        return Err(Stuck {
            cause: "holds messages, and `ephemeral: true` would leave them there".into(),
            hint: "remove `ephemeral`; or read them, and delete the claim by taking the environment down".into(),
        });
    };
    if let Some(cause) = moves(wants, &has) {
        return Err(Stuck {
            cause,
            hint: "write the class that it has; or read its messages, take the environment down and make it again".into(),
        });
    }
    let (wanted, is) = (size(wants), size(&has));
    match (wanted.and_then(bytes), is.and_then(bytes)) {
        (Some(more), Some(less)) if more > less => Ok(Way::Grow(wanted.unwrap_or_default().into())),
        (Some(less), Some(more)) if less < more => Err(Stuck {
            cause: format!(
                "has {}, and a claim cannot shrink to {}",
                is.unwrap_or_default(),
                wanted.unwrap_or_default()
            ),
            hint: format!("write `size: {}`", is.unwrap_or_default()),
        }),
        _ => Ok(as_it_is),
    }
}

/// Why volumes would have to change their class; `None` where they keep it.
fn moves(wants: &PersistentVolumeClaimSpec, has: &PersistentVolumeClaimSpec) -> Option<String> {
    let wanted = wants.storage_class_name.as_deref()?;
    let is = has.storage_class_name.as_deref().unwrap_or("none");
    (wanted != is).then(|| format!("is of class `{is}`, and its volume cannot move to `{wanted}`"))
}

fn size(spec: &PersistentVolumeClaimSpec) -> Option<&str> {
    let requests = spec.resources.as_ref()?.requests.as_ref()?;
    Some(&requests.get("storage")?.0)
}

fn claim_of(set: &StatefulSet) -> Option<&PersistentVolumeClaim> {
    set.spec.as_ref()?.volume_claim_templates.as_ref()?.first()
}

fn claim_name(template: &PersistentVolumeClaim, set: &str) -> String {
    let template = template.metadata.name.as_deref().unwrap_or_default();
    format!("{template}-{set}-0")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM: (&str, Option<&str>) = ("5Gi", None);

    /// A set with a claim of this size and class, or with none.
    fn set(claim: Option<(&str, Option<&str>)>) -> StatefulSet {
        let templates: Vec<_> = claim.into_iter().map(|claim| made(claim, None)).collect();
        serde_json::from_value(json!({
            "metadata": { "name": "sink" },
            "spec": { "selector": {}, "serviceName": "sink", "template": {}, "volumeClaimTemplates": templates },
        }))
        .unwrap()
    }

    fn made((size, class): (&str, Option<&str>), phase: Option<&str>) -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": { "name": "data" },
            "spec": { "storageClassName": class, "resources": { "requests": { "storage": size } } },
            "status": { "phase": phase },
        }))
        .unwrap()
    }

    fn bound(size: &str) -> PersistentVolumeClaim {
        made((size, Some("standard")), Some("Bound"))
    }

    fn pending(class: Option<&str>) -> PersistentVolumeClaim {
        made(("5Gi", class), Some("Pending"))
    }

    #[track_caller]
    fn assert_way(
        wanted: Option<(&str, Option<&str>)>,
        before: Option<&StatefulSet>,
        claim: Option<&PersistentVolumeClaim>,
        expected: Way,
    ) {
        assert_eq!(way(&set(wanted), before, claim), Ok(expected));
    }

    #[test]
    fn what_is_the_same_is_updated() {
        let (same, ephemeral) = (set(Some(CLAIM)), set(None));
        assert_way(Some(CLAIM), None, None, Way::Apply);
        assert_way(None, None, None, Way::Apply);
        assert_way(None, Some(&ephemeral), None, Way::Apply);
        assert_way(Some(CLAIM), Some(&same), Some(&bound("5Gi")), Way::Apply);
        assert_way(Some(CLAIM), Some(&same), Some(&pending(None)), Way::Apply);
        assert_way(Some(CLAIM), Some(&same), None, Way::Apply);
        let named = Some(("5120Mi", Some("standard")));
        assert_way(named, Some(&same), Some(&bound("5Gi")), Way::Apply);
    }

    #[test]
    fn a_claim_that_was_kept_is_taken_again() {
        assert_way(Some(CLAIM), None, Some(&bound("5Gi")), Way::Apply);
        // By a set that had none of its own meanwhile, and never deleted.
        assert_way(
            Some(CLAIM),
            Some(&set(None)),
            Some(&bound("5Gi")),
            Way::Remake,
        );
    }

    #[test]
    fn a_claim_grows_and_never_shrinks() {
        let before = set(Some(CLAIM));
        let grow = Way::Grow("10Gi".into());
        assert_way(
            Some(("10Gi", None)),
            Some(&before),
            Some(&bound("5Gi")),
            grow.clone(),
        );
        assert_way(Some(("10Gi", None)), None, Some(&bound("5Gi")), grow);
        // It was grown by hand, and the blueprint follows.
        assert_way(
            Some(("10Gi", None)),
            Some(&before),
            Some(&bound("10Gi")),
            Way::Apply,
        );
        let stuck = way(&set(Some(CLAIM)), Some(&before), Some(&bound("10Gi"))).unwrap_err();
        assert_eq!(stuck.cause, "has 10Gi, and a claim cannot shrink to 5Gi");
        assert_eq!(stuck.hint, "write `size: 10Gi`");
    }

    #[test]
    fn what_holds_messages_moves_nowhere() {
        let before = set(Some(CLAIM));
        let other = set(Some(("5Gi", Some("fast"))));
        let stuck = way(&other, Some(&before), Some(&bound("5Gi"))).unwrap_err();
        assert_eq!(
            stuck.cause,
            "is of class `standard`, and its volume cannot move to `fast`"
        );
        let stuck = way(&set(None), Some(&before), Some(&bound("5Gi"))).unwrap_err();
        assert!(stuck.cause.contains("holds messages"), "{stuck:?}");
        let failure = stuck.at("cluster-b", "x-ns", "data-sink-0");
        assert!(
            failure
                .to_string()
                .starts_with("cluster-b: claim x-ns/data-sink-0 holds"),
            "{failure}"
        );
    }

    #[test]
    fn a_claim_without_a_volume_is_made_again() {
        let before = set(Some(("5Gi", Some("none-such"))));
        let pending = pending(Some("none-such"));
        for wanted in [Some(("5Gi", Some("standard"))), Some(("10Gi", None)), None] {
            assert_way(wanted, Some(&before), Some(&pending), Way::Remake);
            assert_way(wanted, None, Some(&pending), Way::Remake);
        }
        assert_way(None, Some(&before), None, Way::Remake);
        // The blueprint names no class any more, and the pending claim still names one.
        assert_way(Some(CLAIM), Some(&before), Some(&pending), Way::Remake);
    }
}
