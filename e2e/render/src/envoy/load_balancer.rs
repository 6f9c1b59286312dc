//! An Envoy that replaces a cluster's load balancer on one machine: it forwards bytes from a
//! public port to a pod's ingress.

use std::{net::SocketAddr, path::Path};

use serde_json::{Value, json};

use super::parts::{
    admin, admin_cluster, dial, extension, inner_listener, listener, static_cluster, stats_filters,
};

/// Connections to one public port: a load balancer has no limit, but the pod behind it has.
const MAX_CONNECTIONS: u32 = 65_536;

/// The bootstrap of a cluster's load balancer. `routes` are (public address, a pod's ingress).
///
/// It also listens on `claim`, whose bind fails if any other process has it: so a loopback network is taken by one
/// load balancer at a time. There it answers `GET /ready` and `GET /stats/prometheus`.
pub fn load_balancer(
    routes: &[(SocketAddr, SocketAddr)],
    claim: SocketAddr,
    admin_socket: &Path,
) -> Value {
    let mut listeners = vec![inner_listener("claim", claim, &stats_filters())];
    let mut clusters = vec![admin_cluster(admin_socket)];
    for (public, ingress) in routes {
        // One port may be public by both families.
        let family = if public.is_ipv6() { "_v6" } else { "" };
        let name = format!("public_{}{family}", public.port());
        let proxy = extension(
            "envoy.filters.network.tcp_proxy",
            "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            json!({ "stat_prefix": name, "cluster": name }),
        );
        listeners.push(listener(&name, *public, &[json!({ "filters": [proxy] })]));
        let mut cluster = static_cluster(&name, &dial(*ingress));
        cluster["circuit_breakers"] = json!({ "thresholds": [{
            "max_connections": MAX_CONNECTIONS,
            "max_pending_requests": MAX_CONNECTIONS,
        }] });
        clusters.push(cluster);
    }
    json!({
        "node": { "id": "load-balancer", "cluster": "load-balancer" },
        "admin": admin(admin_socket),
        "static_resources": { "listeners": listeners, "clusters": clusters },
        "overload_manager": {
            "resource_monitors": [extension(
                "envoy.resource_monitors.global_downstream_max_connections",
                "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                json!({ "max_active_downstream_connections": MAX_CONNECTIONS }),
            )],
        },
    })
}
