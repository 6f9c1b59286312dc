//! The environment variables of a pod's containers: names and meaning, in one place.
//! The services read them (`node`, `wosp`), the harness and the rendered manifests write them.
//!
//! A duration is a number with its unit, or several: `500ms`, `90s`, `10m`, `1m30s`.

/// Name of the blueprint.
pub const BLUEPRINT: &str = "FERRY_BLUEPRINT";
/// The pod's name in the blueprint, such as `sink`.
pub const WORKLOAD: &str = "FERRY_WORKLOAD";
/// `gateway`, `processor` or `sink`.
pub const ROLE: &str = "FERRY_ROLE";
/// Name of the cluster in the blueprint, such as `cluster-b`.
pub const CLUSTER: &str = "FERRY_CLUSTER";
/// The Kubernetes pod's own name, such as `sink-6d4f5c-x2k4p`.
pub const POD_NAME: &str = "FERRY_POD_NAME";
/// The Kubernetes namespace.
pub const NAMESPACE: &str = "FERRY_NAMESPACE";
/// The Kubernetes node, or the machine's host name.
pub const NODE: &str = "FERRY_NODE";

/// `IP:PORT` of the HTTP side, `[::]:PORT` for every address of both families: `/health`, `/ready`,
/// `/metrics`, and on boundary pods `/trigger` or `/output`.
pub const HTTP_LISTEN: &str = "FERRY_HTTP_LISTEN";
/// `IP:PORT` of the relay protocol, plaintext, for the pod's own Envoy.
pub const RELAY_LISTEN: &str = "FERRY_RELAY_LISTEN";
/// The connections out, comma separated, in the order of the blueprint:
/// `<pod>=<ws|grpc>://<IP>:<PORT>`, each an egress port of the pod's own Envoy. Empty or absent on
/// a sink.
pub const DOWNSTREAM: &str = "FERRY_DOWNSTREAM";
/// The connections of the blueprint that lead to and from the pod, over any number of others:
/// `<name>><name>`, comma separated, each name as its certificate has it. A trail must follow them.
pub const CONNECTIONS: &str = "FERRY_CONNECTIONS";
/// Folder on a memory-backed volume with `identity.json`, which `wosp` replaces by one rename.
pub const IDENTITY_DIR: &str = "FERRY_IDENTITY_DIR";
/// Folder for what the sink stores. Needed on a sink.
pub const DATA_DIR: &str = "FERRY_DATA_DIR";
/// File with the bearer token of `/trigger` and `/output`. Absent: the pod is no boundary pod and
/// has neither.
pub const TOKEN_FILE: &str = "FERRY_TOKEN_FILE";
/// Number of messages that a gateway sends by itself once its path is ready. Default 0.
pub const AUTO_TRIGGER: &str = "FERRY_AUTO_TRIGGER";
/// Number of messages in flight per connection. Default 1024.
pub const WINDOW: &str = "FERRY_WINDOW";
/// Longest life of one session with a downstream pod, such as `10m` or `5s`. Default `10m`.
pub const SESSION_LIFETIME: &str = "FERRY_SESSION_LIFETIME";
/// Longest time to finish what is in flight after SIGTERM. Default `10s`.
pub const DRAIN_LIMIT: &str = "FERRY_DRAIN_LIMIT";

/// Most messages that a sink keeps. Default 200000.
pub const RETENTION_MESSAGES: &str = "FERRY_RETENTION_MESSAGES";
/// Most bytes of records that a sink keeps. Default 2 GiB.
pub const RETENTION_BYTES: &str = "FERRY_RETENTION_BYTES";
/// Longest time for which a sink keeps a message. Without it age makes nothing go.
pub const RETENTION_AGE: &str = "FERRY_RETENTION_AGE";
/// `drop-oldest` (default) or `refuse`: what a sink does once it keeps as much as it may.
pub const RETENTION_WHEN_FULL: &str = "FERRY_RETENTION_WHEN_FULL";
/// Least time for which a sink recognises a repeat. Default `1h`.
pub const REPEATS: &str = "FERRY_REPEATS";

/// `wosp`: folder with `tls.crt` (the pod authority's certificate), `tls.key` (its key, PKCS #8 or
/// SEC1) and `ca.crt` (the roots), all PEM.
pub const AUTHORITY_DIR: &str = "FERRY_AUTHORITY_DIR";
/// `wosp`: `IP:PORT` of `/ready` and `/metrics`, `[::]:PORT` for every address of both families.
pub const WOSP_LISTEN: &str = "FERRY_WOSP_LISTEN";
/// `wosp`: how long an identity is valid. Default `60s`.
pub const IDENTITY_LIFETIME: &str = "FERRY_IDENTITY_LIFETIME";
/// `wosp`: time between two identities. Default `10s`.
pub const ROTATION_INTERVAL: &str = "FERRY_ROTATION_INTERVAL";

/// Log filter in the syntax of `tracing_subscriber::EnvFilter`. Default `info`.
pub const LOG: &str = "FERRY_LOG";
/// `human` or `json`. Default: human on a terminal, JSON otherwise.
pub const LOG_FORMAT: &str = "FERRY_LOG_FORMAT";

/// File in [`IDENTITY_DIR`]: an Envoy SDS resource named `identity` with certificate chain and key
/// inline.
pub const IDENTITY_FILE: &str = "identity.json";
/// File in [`IDENTITY_DIR`]: an Envoy SDS resource named `roots` with the trusted roots inline.
pub const ROOTS_FILE: &str = "roots.json";
