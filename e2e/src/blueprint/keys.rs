//! The keys of the format. A test holds them against the schema.

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
];

pub(super) const POD_KEYS: &[KnownKey] = &[
    required("name", "name: sink"),
    required("role", "role: gateway"),
    required("cluster", "cluster: cluster-a"),
    required("port", "port: 30100"),
    optional("pinhole", "pinhole: true"),
];

pub(super) const CONNECTION_KEYS: &[KnownKey] = &[
    required("from", "from: gateway"),
    required("to", "to: sink"),
    optional("protocol", "protocol: grpc"),
];
