//! Renders a pod: `wosp`, then Envoy, then the service, started in this order.

use std::{collections::BTreeMap, path::Path};

use blueprint::DATA_VOLUME;
use blueprint::plan::{
    ENVOY_STATS_PORT, HTTP_PORT, INGRESS_PORT, PodPlan, SERVER_CERTIFICATE, SERVER_KEY, WOSP_PORT,
};
use k8s_openapi::{
    api::core::v1::{
        Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource,
        EnvVar, EnvVarSource, HTTPGetAction, KeyToPath, LocalObjectReference, ObjectFieldSelector,
        PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile,
        SecretVolumeSource, SecurityContext, Volume, VolumeMount,
    },
    apimachinery::pkg::{
        api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString,
    },
};
use messages::{Role, env};
use sha2::{Digest as _, Sha256};

use super::{
    AUTHORITY_SECRET, Options, PEERS_CONFIG_MAP, PINHOLE_SECRET, PROGRAMS_ANNOTATION, TOKEN_KEY,
    USER, nodes,
    objects::{self, BOOTSTRAP_CONFIG_MAP, BOOTSTRAP_FILE},
};
use crate::envoy::{self, EnvoyPaths};

const AUTHORITY_DIR: &str = "/etc/ferry/authority";
const BOOTSTRAP_DIR: &str = "/etc/ferry/envoy";
const DATA_DIR: &str = "/var/lib/ferry";
const TOKEN_DIR: &str = "/etc/ferry/token";

/// The pod ends this long after SIGTERM at the latest: the service's own drain limit of 10 s, and a little for the sidecars,
/// which Kubernetes stops after it. A namespace takes as long to delete, so it stays low.
const GRACE_SECONDS: i64 = 15;
/// Seconds between SIGTERM and SIGKILL for a sidecar that its liveness probe finds hung.
const HUNG_GRACE_SECONDS: i64 = 1;

/// What each pod of a workload is made from.
pub(super) fn template(pod: &PodPlan, options: &Options<'_>, bootstrap: &str) -> PodTemplateSpec {
    // Envoy reads its bootstrap once, so a changed one must make a new pod; the peers file is watched and is not part of this.
    let digest = format!("{:x}", Sha256::digest(bootstrap.as_bytes()));
    let digest = digest[..16].to_owned();
    let programs = options.images.programs.clone();
    let programs = programs.map(|hash| (PROGRAMS_ANNOTATION.to_owned(), hash));
    let bootstrap = ("ferry.internal/bootstrap".to_owned(), digest);
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(objects::labels(pod, options)),
            annotations: Some(programs.into_iter().chain([bootstrap]).collect()),
            ..ObjectMeta::default()
        }),
        spec: Some(pod_spec(pod, options)),
    }
}

fn pod_spec(pod: &PodPlan, options: &Options<'_>) -> PodSpec {
    PodSpec {
        // Native sidecars: each is up, by its startup probe, before the next container starts.
        // https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/
        init_containers: Some(vec![wosp(pod, options), proxy(pod, options)]),
        containers: vec![app(pod, options)],
        volumes: Some(volumes(pod)),
        node_selector: Some(nodes::node_selector()),
        affinity: nodes::node_affinity(&options.images.architectures),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        image_pull_secrets: options
            .images
            .pull_secret
            .as_ref()
            .map(|name| vec![LocalObjectReference { name: name.clone() }]),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            // A claim may hold many files, and the kubelet would look at each before each start.
            fs_group_change_policy: pod.storage.is_some().then(|| "OnRootMismatch".into()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".into(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    }
}

fn app(pod: &PodPlan, options: &Options<'_>) -> Container {
    let mut env = who(pod, options);
    env.extend([
        value(env::ROLE, pod.role),
        field(env::POD_NAME, "metadata.name"),
        value(env::NAMESPACE, pod.name.namespace()),
        field(env::NODE, "spec.nodeName"),
        value(env::HTTP_LISTEN, pod.sockets.http),
        value(env::RELAY_LISTEN, pod.sockets.relay),
        value(env::CONNECTIONS, pod.connections()),
        value(
            env::IDENTITY_DIR,
            EnvoyPaths::in_pod().identity_dir.display(),
        ),
    ]);
    if !pod.egress.is_empty() {
        env.push(value(env::DOWNSTREAM, pod.downstream()));
    }
    let mut mounts = vec![mount("identity", &identity_dir(), Access::ReadOnly)];
    if pod.storage.is_some() {
        env.push(value(env::DATA_DIR, DATA_DIR));
        mounts.push(mount(DATA_VOLUME, DATA_DIR, Access::ReadWrite));
    }
    if pod.role == Role::Gateway {
        env.push(value(env::AUTO_TRIGGER, pod.auto_trigger));
    }
    if pod.pinhole {
        env.push(value(env::TOKEN_FILE, format!("{TOKEN_DIR}/{TOKEN_KEY}")));
        mounts.push(mount("token", TOKEN_DIR, Access::ReadOnly));
    }
    let mut container = container(
        "app",
        &options.images.services,
        options,
        ("50m", "500m"),
        ("32Mi", "512Mi"),
    );
    if let Some(size) = ephemeral_size(pod) {
        // A node that has no room for it does not get the pod, and a full one evicts others first.
        let resources = container.resources.get_or_insert_default();
        let requests = resources.requests.get_or_insert_default();
        requests.insert("ephemeral-storage".into(), size);
    }
    Container {
        command: Some(vec![format!("/{}", pod.role)]),
        env: Some(env),
        volume_mounts: Some(mounts),
        ports: Some(vec![port("http", HTTP_PORT)]),
        startup_probe: Some(probe("/health", HTTP_PORT, 1, 60)),
        readiness_probe: Some(probe("/ready", HTTP_PORT, 1, 2)),
        liveness_probe: Some(probe("/health", HTTP_PORT, 10, 3)),
        ..container
    }
}

fn wosp(pod: &PodPlan, options: &Options<'_>) -> Container {
    let mut env = who(pod, options);
    env.extend([
        value(env::AUTHORITY_DIR, AUTHORITY_DIR),
        value(env::IDENTITY_DIR, identity_dir()),
        value(env::WOSP_LISTEN, pod.sockets.wosp),
    ]);
    Container {
        command: Some(vec!["/wosp".into()]),
        restart_policy: Some("Always".into()),
        env: Some(env),
        volume_mounts: Some(vec![
            mount("authority", AUTHORITY_DIR, Access::ReadOnly),
            mount("identity", &identity_dir(), Access::ReadWrite),
        ]),
        ports: Some(vec![port("wosp", WOSP_PORT)]),
        startup_probe: Some(probe("/ready", WOSP_PORT, 1, 60)),
        // One that hangs is killed without grace, so that its successor renews the identity in time.
        liveness_probe: Some(Probe {
            termination_grace_period_seconds: Some(HUNG_GRACE_SECONDS),
            ..probe("/health", WOSP_PORT, 5, 3)
        }),
        ..container(
            "wosp",
            &options.images.services,
            options,
            ("10m", "100m"),
            ("8Mi", "64Mi"),
        )
    }
}

fn proxy(pod: &PodPlan, options: &Options<'_>) -> Container {
    let paths = EnvoyPaths::in_pod();
    let bootstrap = format!("{BOOTSTRAP_DIR}/{BOOTSTRAP_FILE}");
    let mut mounts = vec![
        mount("envoy", BOOTSTRAP_DIR, Access::ReadOnly),
        mount("identity", &identity_dir(), Access::ReadOnly),
    ];
    // Folders, never files: a `subPath` mount would not follow the kubelet's `..data` swap.
    mounts.extend(
        paths
            .peers_file
            .parent()
            .map(|folder| mount("peers", &folder.display().to_string(), Access::ReadOnly)),
    );
    mounts.extend(
        paths
            .admin_socket
            .parent()
            .map(|folder| mount("admin", &folder.display().to_string(), Access::ReadWrite)),
    );
    if pod.pinhole {
        let folder = paths.pinhole_dir.display().to_string();
        mounts.push(mount("pinhole", &folder, Access::ReadOnly));
    }
    Container {
        command: Some(
            [
                vec!["envoy".to_owned()],
                envoy::arguments(Path::new(&bootstrap)),
            ]
            .concat(),
        ),
        restart_policy: Some("Always".into()),
        volume_mounts: Some(mounts),
        ports: Some(vec![
            port("tunnel", INGRESS_PORT),
            port("stats", ENVOY_STATS_PORT),
        ]),
        startup_probe: Some(probe("/ready", ENVOY_STATS_PORT, 1, 60)),
        // A flood may keep its one worker from answering for seconds, and that is no reason to restart it.
        liveness_probe: Some(Probe {
            termination_grace_period_seconds: Some(HUNG_GRACE_SECONDS),
            ..probe("/ready", ENVOY_STATS_PORT, 5, 6)
        }),
        ..container(
            "envoy",
            &options.images.envoy,
            options,
            ("50m", "500m"),
            ("64Mi", "512Mi"),
        )
    }
}

/// What every container has: its image, its limits (request, limit) and the `restricted` Pod Security Standard.
/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>
fn container(
    name: &str,
    image: &str,
    options: &Options<'_>,
    cpu: (&str, &str),
    memory: (&str, &str),
) -> Container {
    let resources = |cpu: &str, memory: &str| -> BTreeMap<String, Quantity> {
        [
            ("cpu".to_owned(), Quantity(cpu.into())),
            ("memory".to_owned(), Quantity(memory.into())),
        ]
        .into()
    };
    Container {
        name: name.into(),
        image: Some(image.into()),
        image_pull_policy: Some(options.images.pull_policy.clone()),
        resources: Some(ResourceRequirements {
            requests: Some(resources(cpu.0, memory.0)),
            limits: Some(resources(cpu.1, memory.1)),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".into()]),
                add: None,
            }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn volumes(pod: &PodPlan) -> Vec<Volume> {
    let memory = |name: &str, size: &str| Volume {
        name: name.into(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".into()),
            size_limit: Some(Quantity(size.into())),
        }),
        ..Volume::default()
    };
    let config = |name: &str, config_map: &str| Volume {
        name: name.into(),
        config_map: Some(ConfigMapVolumeSource {
            name: config_map.into(),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    };
    // Owner root, group the pod's: readable by its user, writable by none.
    let secret = |name: &str, secret: &str, keys: &[&str]| Volume {
        name: name.into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.into()),
            default_mode: Some(0o440),
            items: (!keys.is_empty()).then(|| keys.iter().map(|key| item(key)).collect()),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    let mut volumes = vec![
        secret("authority", AUTHORITY_SECRET, &[]),
        memory("identity", "1Mi"),
        memory("admin", "1Mi"),
        config("envoy", BOOTSTRAP_CONFIG_MAP),
        config("peers", PEERS_CONFIG_MAP),
    ];
    // A volume of that name comes with the claim otherwise.
    if let Some(size) = ephemeral_size(pod) {
        volumes.push(Volume {
            name: DATA_VOLUME.into(),
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(size),
                medium: None,
            }),
            ..Volume::default()
        });
    }
    if pod.pinhole {
        // One Secret, but each container gets its part only.
        volumes.extend([
            secret("token", PINHOLE_SECRET, &[TOKEN_KEY]),
            secret("pinhole", PINHOLE_SECRET, &[SERVER_CERTIFICATE, SERVER_KEY]),
        ]);
    }
    volumes
}

/// The size of the volume that ends with the pod; `None` where the messages lie on a claim, or there are none.
fn ephemeral_size(pod: &PodPlan) -> Option<Quantity> {
    let storage = pod.storage.as_ref().filter(|storage| storage.ephemeral);
    storage.map(|storage| Quantity(storage.quantity()))
}

/// A key of a Secret as the file of the same name.
fn item(key: &str) -> KeyToPath {
    KeyToPath {
        key: key.into(),
        path: key.into(),
        mode: None,
    }
}

enum Access {
    ReadOnly,
    ReadWrite,
}

fn mount(volume: &str, path: &str, access: Access) -> VolumeMount {
    let read_only = matches!(access, Access::ReadOnly).then_some(true);
    VolumeMount {
        name: volume.into(),
        mount_path: path.into(),
        read_only,
        ..VolumeMount::default()
    }
}

fn identity_dir() -> String {
    EnvoyPaths::in_pod().identity_dir.display().to_string()
}

fn who(pod: &PodPlan, options: &Options<'_>) -> Vec<EnvVar> {
    let mut env = vec![
        value(env::BLUEPRINT, pod.name.blueprint()),
        value(env::CLUSTER, pod.name.cluster()),
        value(env::WORKLOAD, pod.name.pod()),
    ];
    env.extend(
        options
            .settings
            .iter()
            .map(|(name, setting)| value(name, setting)),
    );
    env
}

fn value(name: &str, value: impl std::fmt::Display) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: Some(value.to_string()),
        value_from: None,
    }
}

/// A value that only the running pod has.
/// <https://kubernetes.io/docs/concepts/workloads/pods/downward-api/>
fn field(name: &str, path: &str) -> EnvVar {
    let field_ref = ObjectFieldSelector {
        field_path: path.into(),
        api_version: None,
    };
    EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(field_ref),
            ..EnvVarSource::default()
        }),
    }
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.into()),
        container_port: i32::from(number),
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, port: u16, period_seconds: i32, failures: i32) -> Probe {
    let get = HTTPGetAction {
        path: Some(path.into()),
        port: IntOrString::Int(i32::from(port)),
        ..HTTPGetAction::default()
    };
    Probe {
        http_get: Some(get),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}
