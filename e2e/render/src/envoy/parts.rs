//! Parts that all configurations share.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};

use super::{BUFFER_BYTES, CONNECT_LIMIT, KEEP_ALIVE_LIMIT, MAX_HEAD_KIB, MAX_HEADERS};

/// Name of the static cluster that leads to the admin socket.
pub(super) const ADMIN_CLUSTER: &str = "admin";

/// A message in a `google.protobuf.Any`: `value`, an object, with its type beside its fields.
pub(super) fn any(message: &str, mut value: Value) -> Value {
    value["@type"] = json!(format!("type.googleapis.com/{message}"));
    value
}

/// An extension: a name and its typed configuration.
pub(super) fn extension(name: &str, message: &str, config: Value) -> Value {
    json!({ "name": name, "typed_config": any(message, config) })
}

/// `google.protobuf.Duration` in JSON.
pub(super) fn duration(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}

/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/core/v3/address.proto#config-core-v3-socketaddress>
pub(super) fn socket(host: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": host, "port_value": port } })
}

/// An address to listen on.
pub(super) fn listen(address: SocketAddr) -> Value {
    socket(&address.ip().to_string(), address.port())
}

/// An address to dial. Who listens on every address is found on loopback, and on that of IPv4, which every node has.
pub(super) fn dial(address: SocketAddr) -> Value {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) | IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            Ipv4Addr::LOCALHOST.into()
        }
        ip => ip,
    };
    socket(&ip.to_string(), address.port())
}

/// The admin interface changes and shows everything, so it is reachable by the owner of its socket only.
/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/bootstrap/v3/bootstrap.proto#config-bootstrap-v3-admin>
pub fn admin(socket: &Path) -> Value {
    json!({ "address": pipe(socket), "ignore_global_conn_limit": true })
}

fn pipe(socket: &Path) -> Value {
    json!({ "pipe": { "path": socket, "mode": 0o600 } })
}

/// A resource in a file that Envoy reloads when a file is moved into its folder. A Kubernetes
/// volume swaps a symbolic
/// link beside the file, which a watch of the file itself would not see.
/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/core/v3/config_source.proto#config-core-v3-pathconfigsource>
pub(super) fn watched_file(path: &Path) -> Value {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    json!({
        "resource_api_version": "V3",
        "path_config_source": { "path": path, "watched_directory": watched_folder(folder) },
    })
}

/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/core/v3/base.proto#config-core-v3-watcheddirectory>
pub(super) fn watched_folder(folder: &Path) -> Value {
    json!({ "path": folder })
}

/// A listener. Without `SO_REUSEPORT` a second Envoy on the same port fails at start instead of taking half of the traffic.
/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/listener/v3/listener.proto>
pub(super) fn listener(name: &str, address: SocketAddr, filter_chains: &[Value]) -> Value {
    json!({
        "name": name,
        "stat_prefix": name,
        "address": listen(address),
        "enable_reuse_port": false,
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "filter_chains": filter_chains,
    })
}

/// A listener as a resource of its own, beside one of that name for IPv4. Its socket takes no IPv4 (`ipv4_compat` is off), so
/// both can have one port.
pub(super) fn by_v6(mut listener: Value) -> Value {
    if let Some(name) = listener["name"].as_str() {
        listener["name"] = json!(format!("{name}-v6"));
    }
    any("envoy.config.listener.v3.Listener", listener)
}

/// A listener that the pod's own side uses: neither the limit on connections from outside nor a memory shortage that
/// strangers cause closes it.
pub(super) fn inner_listener(name: &str, address: SocketAddr, filters: &[Value]) -> Value {
    let mut listener = listener(name, address, &[json!({ "filters": filters })]);
    listener["ignore_global_conn_limit"] = json!(true);
    listener["bypass_overload_manager"] = json!(true);
    listener
}

/// A cluster with one fixed endpoint.
/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/cluster/v3/cluster.proto>
pub(super) fn static_cluster(name: &str, address: &Value) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": duration(CONNECT_LIMIT),
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "load_assignment": endpoint(name, address),
    })
}

/// The cluster behind [`stats_filters`].
pub fn admin_cluster(socket: &Path) -> Value {
    static_cluster(ADMIN_CLUSTER, &json!({ "pipe": { "path": socket } }))
}

pub(super) fn endpoint(cluster: &str, address: &Value) -> Value {
    json!({
        "cluster_name": cluster,
        "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }],
    })
}

/// A network filter that closes connections beyond `max`.
/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/listeners/network_filters/connection_limit_filter>
pub(super) fn connection_limit(stat_prefix: &str, max: u32) -> Value {
    extension(
        "envoy.filters.network.connection_limit",
        "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
        json!({ "stat_prefix": stat_prefix, "max_connections": max }),
    )
}

/// Exactly this method on exactly this path, passed to a cluster.
pub(super) struct Route<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) cluster: &'a str,
    /// Longest time for the whole answer; `None` where it streams.
    pub(super) limit: Option<Duration>,
}

impl Route<'_> {
    fn json(&self) -> Value {
        json!({
            "match": {
                "path": self.path,
                "headers": [{ "name": ":method", "string_match": { "exact": self.method } }],
            },
            "route": {
                "cluster": self.cluster,
                "timeout": duration(self.limit.unwrap_or_default()),
            },
        })
    }
}

/// HTTP/1.1 for the given routes and nothing else: any other method or path gets 404, whatever cannot be read as strict
/// HTTP gets 400, and no response names the server.
/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/best_practices/edge>
pub(super) fn http(stat_prefix: &str, routes: &[Route<'_>]) -> Value {
    let mut all: Vec<_> = routes.iter().map(Route::json).collect();
    all.push(json!({ "match": { "prefix": "/" }, "direct_response": { "status": 404 } }));
    extension(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": stat_prefix,
            "codec_type": "HTTP1",
            "server_header_transformation": "PASS_THROUGH",
            "use_remote_address": true,
            "generate_request_id": false,
            "normalize_path": true,
            "merge_slashes": true,
            "path_with_escaped_slashes_action": "REJECT_REQUEST",
            "max_request_headers_kb": MAX_HEAD_KIB,
            "request_headers_timeout": duration(super::REQUEST_HEAD_LIMIT),
            "stream_idle_timeout": duration(super::IDLE_LIMIT),
            "common_http_protocol_options": {
                "idle_timeout": duration(KEEP_ALIVE_LIMIT),
                "max_headers_count": MAX_HEADERS,
                "headers_with_underscores_action": "REJECT_REQUEST",
            },
            // Envoy's own texts name clusters, addresses and causes.
            "local_reply_config": {
                "body_format": { "text_format_source": { "inline_string": "%RESPONSE_CODE%\n" } },
            },
            "route_config": {
                "name": stat_prefix,
                "virtual_hosts": [{ "name": stat_prefix, "domains": ["*"], "routes": all }],
            },
            "http_filters": [extension(
                "envoy.filters.http.router",
                "envoy.extensions.filters.http.router.v3.Router",
                json!({ "suppress_envoy_headers": true }),
            )],
        }),
    )
}

/// The two harmless reads of the admin interface, through [`admin_cluster`].
pub(super) fn stats_filters() -> [Value; 2] {
    let read = |path| Route {
        method: "GET",
        path,
        cluster: ADMIN_CLUSTER,
        limit: Some(CONNECT_LIMIT),
    };
    [
        connection_limit("stats", super::MAX_STATS_CONNECTIONS),
        http("stats", &[read("/ready"), read("/stats/prometheus")]),
    ]
}

/// One JSON object a line on standard output.
/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/observability/access_log/usage>
pub(super) fn json_log(fields: &Value) -> Value {
    extension(
        "envoy.access_loggers.stdout",
        "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
        json!({ "log_format": { "json_format": fields } }),
    )
}

/// [`json_log`] for what a CEL expression picks.
/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/advanced/attributes>
pub(super) fn json_log_where(expression: &str, fields: &Value) -> Value {
    let mut log = json_log(fields);
    log["filter"] = json!({ "extension_filter": extension(
        "envoy.access_loggers.extension_filters.cel",
        "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
        json!({ "expression": expression }),
    ) });
    log
}
