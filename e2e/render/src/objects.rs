//! Renders the objects around a workload.

use std::collections::BTreeMap;

use blueprint::plan::{PodPlan, SERVER_CERTIFICATE, SERVER_KEY};
use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Namespace, Secret},
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use super::{
    AUTHORITY_SECRET, ENVIRONMENT_LABEL, FIELD_MANAGER, Options, PINHOLE_SECRET, PULL_SECRET,
    TOKEN_KEY,
};

/// ConfigMap with Envoy's bootstrap.
pub(super) const BOOTSTRAP_CONFIG_MAP: &str = "envoy";
pub(super) const BOOTSTRAP_FILE: &str = "bootstrap.json";

pub(super) type Labels = BTreeMap<String, String>;

/// What a pod is selected by; never changes in a pod's life.
pub(super) fn selector(pod: &PodPlan) -> Labels {
    [
        ("app.kubernetes.io/name", pod.name.pod()),
        ("app.kubernetes.io/instance", pod.name.blueprint()),
    ]
    .map(|(key, value)| (key.into(), value.into()))
    .into()
}

/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/>
pub(super) fn labels(pod: &PodPlan, options: &Options<'_>) -> Labels {
    let more = [
        ("app.kubernetes.io/component", pod.role.as_str()),
        ("app.kubernetes.io/part-of", "ferry"),
        ("app.kubernetes.io/managed-by", FIELD_MANAGER),
        (ENVIRONMENT_LABEL, options.environment),
    ];
    selector(pod)
        .into_iter()
        .chain(more.map(|(key, value)| (key.into(), value.into())))
        .collect()
}

pub(super) fn metadata(pod: &PodPlan, options: &Options<'_>, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some(pod.name.namespace()),
        labels: Some(labels(pod, options)),
        ..ObjectMeta::default()
    }
}

/// The API server refuses any pod here that does not keep the `restricted` standard.
/// <https://kubernetes.io/docs/concepts/security/pod-security-admission/>
pub(super) fn namespace(pod: &PodPlan, options: &Options<'_>) -> Namespace {
    let mut metadata = metadata(pod, options, &pod.name.namespace());
    metadata.namespace = None;
    let enforce = [("enforce", "restricted"), ("warn", "restricted")].map(|(mode, level)| {
        (
            format!("pod-security.kubernetes.io/{mode}"),
            level.to_owned(),
        )
    });
    metadata.labels.get_or_insert_default().extend(enforce);
    Namespace {
        metadata,
        ..Namespace::default()
    }
}

pub(super) fn secrets(pod: &PodPlan, options: &Options<'_>) -> Vec<Secret> {
    let secret = |name: &str, data: BTreeMap<String, String>| Secret {
        metadata: metadata(pod, options, name),
        string_data: Some(data),
        type_: Some("Opaque".into()),
        ..Secret::default()
    };
    let authority = secret(AUTHORITY_SECRET, options.secrets.authority.clone());
    let pinhole = pod.pinhole.then(|| {
        secret(
            PINHOLE_SECRET,
            [
                (TOKEN_KEY, &options.secrets.token),
                (SERVER_CERTIFICATE, &options.secrets.server_certificate),
                (SERVER_KEY, &options.secrets.server_key),
            ]
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .into(),
        )
    });
    [Some(authority), pinhole].into_iter().flatten().collect()
}

/// <https://kubernetes.io/docs/concepts/configuration/secret/#docker-config-secrets>
pub(super) fn pull_secret(pod: &PodPlan, options: &Options<'_>, credentials: &str) -> Secret {
    Secret {
        metadata: metadata(pod, options, PULL_SECRET),
        string_data: Some([(".dockerconfigjson".into(), credentials.into())].into()),
        type_: Some("kubernetes.io/dockerconfigjson".into()),
        ..Secret::default()
    }
}

pub(super) fn config_map(
    pod: &PodPlan,
    options: &Options<'_>,
    name: &str,
    data: BTreeMap<String, String>,
) -> ConfigMap {
    ConfigMap {
        metadata: metadata(pod, options, name),
        data: Some(data),
        ..ConfigMap::default()
    }
}

/// Envoy's files that never change in a pod's life.
pub(super) fn bootstrap(
    pod: &PodPlan,
    options: &Options<'_>,
    files: BTreeMap<String, String>,
) -> ConfigMap {
    config_map(pod, options, BOOTSTRAP_CONFIG_MAP, files)
}

/// A drain takes one pod of a workload at a time, so that a scaled one never goes whole; a single one does not hold up a node.
pub(super) fn disruption_budget(pod: &PodPlan, options: &Options<'_>) -> PodDisruptionBudget {
    let spec = PodDisruptionBudgetSpec {
        max_unavailable: Some(IntOrString::Int(1)),
        selector: Some(LabelSelector {
            match_labels: Some(selector(pod)),
            ..LabelSelector::default()
        }),
        ..PodDisruptionBudgetSpec::default()
    };
    PodDisruptionBudget {
        metadata: metadata(pod, options, pod.name.pod()),
        spec: Some(spec),
        ..PodDisruptionBudget::default()
    }
}
