//! What makes a workload's one pod, and makes it again: a Deployment, or the StatefulSet of what stores.

use blueprint::{DATA_VOLUME, Storage, plan::PodPlan};
use k8s_openapi::{
    api::{
        apps::v1::{
            Deployment, DeploymentSpec, DeploymentStrategy, StatefulSet,
            StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
            StatefulSetUpdateStrategy,
        },
        core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements},
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
    },
};

use super::{Controller, Object, Options, objects, workload};

/// Access mode of the claim: one pod in the whole cluster. A StatefulSet alone does not promise that after a pod was deleted
/// by force. It came for good with Kubernetes 1.29, which the sidecars need too.
/// <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#access-modes>
const ACCESS_MODE: &str = "ReadWriteOncePod";

pub(super) fn controller(pod: &PodPlan, options: &Options<'_>, bootstrap: &str) -> Object {
    match Controller::of(pod.role) {
        Controller::Deployment => Object::Deployment(Box::new(deployment(pod, options, bootstrap))),
        Controller::StatefulSet => {
            Object::StatefulSet(Box::new(stateful_set(pod, options, bootstrap)))
        }
    }
}

fn deployment(pod: &PodPlan, options: &Options<'_>, bootstrap: &str) -> Deployment {
    let spec = DeploymentSpec {
        replicas: Some(1),
        selector: selector(pod),
        // Two gateways at once would each send their messages.
        strategy: Some(DeploymentStrategy {
            type_: Some("Recreate".into()),
            rolling_update: None,
        }),
        progress_deadline_seconds: Some(120),
        revision_history_limit: Some(2),
        template: workload::template(pod, options, bootstrap),
        ..DeploymentSpec::default()
    };
    Deployment {
        metadata: objects::metadata(pod, options, pod.name.pod()),
        spec: Some(spec),
        ..Deployment::default()
    }
}

fn stateful_set(pod: &PodPlan, options: &Options<'_>, bootstrap: &str) -> StatefulSet {
    let claim = pod.storage.as_ref().filter(|storage| !storage.ephemeral);
    let spec = StatefulSetSpec {
        replicas: Some(1),
        selector: selector(pod),
        // The Service of the pod itself; no peer looks up a pod by its name there.
        service_name: Some(pod.name.pod().into()),
        // With one pod there is no order to keep, and with `OrderedReady` a broken pod would hold up the update that mends it.
        // https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback
        pod_management_policy: Some("Parallel".into()),
        update_strategy: Some(StatefulSetUpdateStrategy {
            type_: Some("RollingUpdate".into()),
            rolling_update: None,
        }),
        // The messages go with their namespace, and with nothing less.
        persistent_volume_claim_retention_policy: claim.map(|_| {
            StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some("Retain".into()),
                when_scaled: Some("Retain".into()),
            }
        }),
        revision_history_limit: Some(2),
        template: workload::template(pod, options, bootstrap),
        volume_claim_templates: claim.map(|storage| vec![claim_template(storage)]),
        ..StatefulSetSpec::default()
    };
    StatefulSet {
        metadata: objects::metadata(pod, options, pod.name.pod()),
        spec: Some(spec),
        ..StatefulSet::default()
    }
}

fn claim_template(storage: &Storage) -> PersistentVolumeClaim {
    let size = ("storage".to_owned(), Quantity(storage.quantity()));
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(DATA_VOLUME.into()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec![ACCESS_MODE.into()]),
            storage_class_name: storage.class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some([size].into()),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

fn selector(pod: &PodPlan) -> LabelSelector {
    LabelSelector {
        match_labels: Some(objects::selector(pod)),
        ..LabelSelector::default()
    }
}
