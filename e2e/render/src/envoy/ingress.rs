//! Ingress: one port for the tunnel and plaintext HTTP, distinguished by their first bytes; and
//! the statistics port.

use std::net::SocketAddr;

use blueprint::{pinhole_name, plan::PodPlan};
use messages::{PEER_TLV, Role};
use serde_json::{Value, json};

use super::{
    CONNECT_LIMIT, EnvoyPaths, HANDSHAKE_LIMIT, IDLE_LIMIT, MAX_HEAP_BYTES,
    MAX_PINHOLE_CONNECTIONS, MAX_PLAINTEXT_CONNECTIONS, SESSION_LIMIT,
    parts::{
        Route, admin_cluster, connection_limit, dial, duration, extension, http, inner_listener,
        json_log_where, listener as outer_listener, static_cluster, stats_filters,
    },
    tls,
};

/// The app's HTTP side, and its relay port.
const APP_CLUSTER: &str = "app";
const RELAY_CLUSTER: &str = "relay";

/// TLS goes to the tunnel where the pod has upstreams, plaintext to the HTTP routes; on a boundary pod TLS for the pinhole's
/// name goes to these, too. What is neither matches no chain and is closed; so is all other TLS on a pod without upstreams.
/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/listeners/listener_filters/tls_inspector>
pub(super) fn listener(pod: &PodPlan, address: SocketAddr, paths: &EnvoyPaths) -> Value {
    let mut chains = vec![];
    if !pod.upstreams.is_empty() {
        chains.push(json!({
            "name": "tunnel",
            "filter_chain_match": { "transport_protocol": "tls" },
            "transport_socket": tls::accept(&pod.upstreams, paths),
            "transport_socket_connect_timeout": duration(HANDSHAKE_LIMIT),
            "filters": [tunnel()],
        }));
    }
    if pod.pinhole {
        chains.push(json!({
            "name": "pinhole",
            "filter_chain_match": {
                "transport_protocol": "tls",
                "server_names": [pinhole_name(&pod.name)],
            },
            "transport_socket": tls::serve(paths),
            "transport_socket_connect_timeout": duration(HANDSHAKE_LIMIT),
            "filters": [connection_limit("pinhole", MAX_PINHOLE_CONNECTIONS), http("pinhole", &routes(pod))],
        }));
    }
    chains.push(json!({
        "name": "plaintext",
        "filter_chain_match": { "transport_protocol": "raw_buffer" },
        "filters": [connection_limit("plaintext", MAX_PLAINTEXT_CONNECTIONS), http("ingress", &routes(pod))],
    }));
    let mut listener = outer_listener("ingress", address, &chains);
    listener["listener_filters"] = json!([extension(
        "envoy.filters.listener.tls_inspector",
        "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
        json!({}),
    )]);
    listener["listener_filters_timeout"] = json!(duration(HANDSHAKE_LIMIT));
    listener["continue_on_listener_filters_timeout"] = json!(false);
    listener["access_log"] = json!([refusals(pod)]);
    listener
}

/// From the tunnel to the app's relay port, with a line in the log for the start and the end of each session: who came,
/// with which certificate. Names of a peer that was refused are not written as if they were true.
fn tunnel() -> Value {
    extension(
        "envoy.filters.network.tcp_proxy",
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        json!({
            "stat_prefix": "tunnel",
            "cluster": RELAY_CLUSTER,
            "idle_timeout": duration(IDLE_LIMIT),
            "max_downstream_connection_duration": duration(SESSION_LIMIT),
            // By default the app would get a connection for each handshake that begins.
            "upstream_connect_mode": "ON_DOWNSTREAM_TLS_HANDSHAKE",
            "max_early_data_bytes": 0,
            // What the peer's certificate names, for the preamble of `relay_cluster`.
            "proxy_protocol_tlvs": [{
                "type": PEER_TLV,
                "format_string": { "text_format_source": {
                    "inline_string": "%DOWNSTREAM_PEER_DNS_SAN%",
                } },
            }],
            "access_log_options": { "flush_access_log_on_connected": true },
            "access_log": [json_log_where("has(upstream.address)", &json!({
                "time": "%START_TIME%",
                "event": "tunnel",
                "moment": "%ACCESS_LOG_TYPE%",
                "from": "%DOWNSTREAM_REMOTE_ADDRESS%",
                "peer_names": "%DOWNSTREAM_PEER_DNS_SAN%",
                "peer_valid_from": "%DOWNSTREAM_PEER_CERT_V_START(%Y-%m-%dT%H:%M:%SZ)%",
                "peer_serial": "%DOWNSTREAM_PEER_SERIAL%",
                "tls": "%DOWNSTREAM_TLS_VERSION%",
                "flags": "%RESPONSE_FLAGS%",
                "took_ms": "%DURATION%",
                "bytes_in": "%BYTES_RECEIVED%",
                "bytes_out": "%BYTES_SENT%",
            }))],
        }),
    )
}

/// Handshakes of the tunnel that failed or took too long. The app gets a connection only after a handshake, so those without
/// one are refused ones; of the pinhole's HTTPS, where it gets one with a request, that cannot be said. What ends before a handshake begins is counted only, as `listener.ingress.downstream_pre_cx_timeout`
/// and `no_filter_chain_match`.
fn refusals(pod: &PodPlan) -> Value {
    let mut refused = "has(connection.tls_version) && !has(upstream.address)".to_owned();
    if pod.pinhole {
        let name = pinhole_name(&pod.name);
        refused += &format!(" && connection.requested_server_name != '{name}'");
    }
    json_log_where(
        &refused,
        &json!({
            "time": "%START_TIME%",
            "event": "refused",
            "from": "%DOWNSTREAM_REMOTE_ADDRESS%",
            "server_name": "%REQUESTED_SERVER_NAME%",
            "reason": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
            "details": "%CONNECTION_TERMINATION_DETAILS%",
            "flags": "%RESPONSE_FLAGS%",
            "took_ms": "%DURATION%",
        }),
    )
}

/// What plaintext and the pinhole's HTTPS may ask for.
fn routes(pod: &PodPlan) -> Vec<Route<'static>> {
    let mut routes = vec![Route {
        method: "GET",
        path: "/health",
        cluster: APP_CLUSTER,
        limit: Some(CONNECT_LIMIT),
    }];
    let pinhole = match pod.role {
        Role::Gateway if pod.pinhole => &[("POST", "/trigger")][..],
        Role::Sink if pod.pinhole => &[("GET", "/output"), ("POST", "/output/read")],
        _ => &[],
    };
    routes.extend(pinhole.iter().map(|&(method, path)| Route {
        method,
        path,
        cluster: APP_CLUSTER,
        limit: None,
    }));
    routes
}

/// `GET /ready` and `GET /stats/prometheus`.
pub fn stats_listener(address: SocketAddr) -> Value {
    inner_listener("stats", address, &stats_filters())
}

/// The clusters that are always there; the peers come from their own file.
pub(super) fn clusters(pod: &PodPlan, paths: &EnvoyPaths) -> Vec<Value> {
    let mut clusters = vec![static_cluster(APP_CLUSTER, &dial(pod.sockets.http))];
    if !pod.upstreams.is_empty() {
        clusters.push(relay_cluster(pod.sockets.relay));
    }
    clusters.push(admin_cluster(&paths.admin_socket));
    clusters
}

/// The app's relay port. Each connection begins with a preamble that names the peer of the tunnel: the
/// value is [`tunnel`]'s, since here nothing of the downstream connection is known.
/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol.proto>
fn relay_cluster(address: SocketAddr) -> Value {
    let mut cluster = static_cluster(RELAY_CLUSTER, &dial(address));
    cluster["transport_socket"] = extension(
        "envoy.transport_sockets.upstream_proxy_protocol",
        "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
        json!({
            "config": {
                "version": "V2",
                "pass_through_tlvs": { "match_type": "INCLUDE", "tlv_type": [PEER_TLV] },
            },
            "transport_socket": extension(
                "envoy.transport_sockets.raw_buffer",
                "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
                json!({}),
            ),
        }),
    );
    cluster
}

/// Bounds what strangers can make Envoy hold.
/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/operations/overload_manager/overload_manager>
pub(super) fn overload_manager(max_connections: u32) -> Value {
    const HEAP: &str = "envoy.resource_monitors.fixed_heap";
    let above = |name: &str, share: f64| {
        json!({
            "name": format!("envoy.overload_actions.{name}"),
            "triggers": [{ "name": HEAP, "threshold": { "value": share } }],
        })
    };
    let shorter = |timer: &str| json!({ "timer": timer, "min_scale": { "value": 10 } });
    json!({
        "refresh_interval": "0.25s",
        "resource_monitors": [
            extension(
                HEAP,
                "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                json!({ "max_heap_size_bytes": MAX_HEAP_BYTES }),
            ),
            extension(
                "envoy.resource_monitors.global_downstream_max_connections",
                "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                json!({ "max_active_downstream_connections": max_connections }),
            ),
        ],
        "actions": [
            {
                "name": "envoy.overload_actions.reduce_timeouts",
                "triggers": [{
                    "name": HEAP,
                    "scaled": { "scaling_threshold": 0.7, "saturation_threshold": 0.95 },
                }],
                "typed_config": super::parts::any(
                    "envoy.config.overload.v3.ScaleTimersOverloadActionConfig",
                    json!({ "timer_scale_factors": [
                        shorter("HTTP_DOWNSTREAM_CONNECTION_IDLE"),
                        shorter("HTTP_DOWNSTREAM_STREAM_IDLE"),
                        shorter("TRANSPORT_SOCKET_CONNECT"),
                    ] }),
                ),
            },
            above("shrink_heap", 0.85),
            above("stop_accepting_requests", 0.95),
            above("stop_accepting_connections", 0.98),
        ],
    })
}
