//! The keys of the format. A test compares them with the schema.

/// A key that the format knows.
pub(super) struct KnownKey {
    pub(super) name: &'static str,
    pub(super) required: bool,
    /// How it is written; ends up in the fix of a problem.
    pub(super) example: &'static str,
}

const fn required(name: &'static str, example: &'static str) -> KnownKey {
    KnownKey {
        name,
        required: true,
        example,
    }
}

const fn optional(name: &'static str, example: &'static str) -> KnownKey {
    KnownKey {
        name,
        required: false,
        example,
    }
}

pub(super) const BLUEPRINT_KEYS: &[KnownKey] = &[
    required("name", "name: fast-international-ferry"),
    required("title", "title: Fast International Ferry"),
    required("protocol", "protocol: websocket"),
    required("clusters", "clusters: [cluster-a, cluster-b]"),
    required(
        "pods",
        "pods: [{name: sink, role: sink, cluster: cluster-b, port: 30200}]",
    ),
    required("connections", "connections: [{from: gateway, to: sink}]"),
    optional("messages", "messages: 5"),
    optional("targets", "targets: {gke: [{pod: sink, name: ferry-sink}]}"),
];

pub(super) const TARGET_KEYS: &[KnownKey] = &[
    optional("gke", "gke: [{pod: sink, name: ferry-sink}]"),
    optional(
        "eks",
        "eks: [{pod: sink, allocations: [eipalloc-0123456789abcdef0]}]",
    ),
    optional("aks", "aks: [{pod: sink, name: ferry-sink}]"),
    optional("generic", "generic: [{pod: sink, address: 192.0.2.10}]"),
];

pub(super) const GKE_KEYS: &[KnownKey] = &[
    required("pod", "pod: sink"),
    optional("name", "name: ferry-sink"),
    optional("address", "address: 203.0.113.10"),
    optional("internal", "internal: true"),
    optional("subnet", "subnet: default"),
    optional("region", "region: europe-west1"),
];

pub(super) const EKS_KEYS: &[KnownKey] = &[
    required("pod", "pod: sink"),
    optional("allocations", "allocations: [eipalloc-0123456789abcdef0]"),
    optional("subnets", "subnets: [subnet-0123456789abcdef0]"),
    optional(
        "target-group",
        "target-group: arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/ferry-sink/1234567890123456",
    ),
    optional("address", "address: 203.0.113.10"),
    optional("region", "region: us-east-2"),
];

pub(super) const AKS_KEYS: &[KnownKey] = &[
    required("pod", "pod: sink"),
    optional("name", "name: ferry-sink"),
    optional("resource-group", "resource-group: ferry"),
    optional("address", "address: 203.0.113.10"),
    optional("internal", "internal: true"),
    optional("subnet", "subnet: apps"),
];

pub(super) const GENERIC_KEYS: &[KnownKey] = &[
    required("pod", "pod: sink"),
    required("address", "address: 192.0.2.10"),
    optional("class", "class: metallb.io/metallb"),
    optional("metallb", "metallb: true"),
];

pub(super) const POD_KEYS: &[KnownKey] = &[
    required("name", "name: sink"),
    required("role", "role: gateway"),
    required("cluster", "cluster: cluster-a"),
    required("port", "port: 30100"),
    optional("pinhole", "pinhole: true"),
    optional("storage", "storage: {size: 10Gi}"),
];

pub(super) const STORAGE_KEYS: &[KnownKey] = &[
    optional("size", "size: 10Gi"),
    optional("class", "class: standard"),
    optional("ephemeral", "ephemeral: true"),
];

pub(super) const CONNECTION_KEYS: &[KnownKey] = &[
    required("from", "from: gateway"),
    required("to", "to: sink"),
    optional("protocol", "protocol: grpc"),
];
