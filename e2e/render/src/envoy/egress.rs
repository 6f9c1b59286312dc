//! Egress: one plaintext port per connection, each to exactly one peer.

use std::{net::IpAddr, time::Duration};

use blueprint::plan::{Egress, PeerAddress};
use messages::WorkloadName;
use serde_json::{Value, json};

use super::{
    BUFFER_BYTES, CONNECT_LIMIT, DNS_REFRESH, EnvoyPaths, IDLE_LIMIT, SESSION_LIMIT,
    parts::{any, duration, endpoint, extension, inner_listener, json_log, socket},
    tls,
};

/// First probe of a silent connection to a peer, and the pause between probes; three unanswered ones end it.
const TCP_KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Name of the cluster that leads to a peer: `peer/<blueprint>/<cluster>/<pod>`. No dots, since a dot ends a name in
/// Envoy's statistics.
pub fn peer_cluster(target: &WorkloadName) -> String {
    format!(
        "peer/{}/{}/{}",
        target.blueprint(),
        target.cluster(),
        target.pod()
    )
}

/// Plaintext from the app to the peer's cluster, with a line in the log for the start and the end of each session. Envoy can
/// tell the serial number of a certificate that comes to it, and not of one it comes to; so that is logged whole. <https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/listeners/network_filters/tcp_proxy_filter>
pub fn listener(egress: &Egress) -> Value {
    let target = &egress.target;
    let name = format!("egress/{}/{}", target.cluster(), target.pod());
    let proxy = extension(
        "envoy.filters.network.tcp_proxy",
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        json!({
            "stat_prefix": name,
            "cluster": peer_cluster(target),
            "idle_timeout": duration(IDLE_LIMIT),
            "max_downstream_connection_duration": duration(SESSION_LIMIT),
            "access_log_options": { "flush_access_log_on_connected": true },
            "access_log": [json_log(&json!({
                "time": "%START_TIME%",
                "event": "egress",
                "moment": "%ACCESS_LOG_TYPE%",
                "target": target,
                "peer": "%UPSTREAM_REMOTE_ADDRESS%",
                "peer_names": "%UPSTREAM_PEER_DNS_SAN%",
                "peer_valid_from": "%UPSTREAM_PEER_CERT_V_START(%Y-%m-%dT%H:%M:%SZ)%",
                "peer_certificate": "%UPSTREAM_PEER_CERT%",
                "tls": "%UPSTREAM_TLS_VERSION%",
                "refused": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
                "flags": "%RESPONSE_FLAGS%",
                "took_ms": "%DURATION%",
                "bytes_out": "%BYTES_RECEIVED%",
                "bytes_in": "%BYTES_SENT%",
            }))],
        }),
    );
    inner_listener(&name, egress.listen, &[proxy])
}

/// A host as the resolver of a pod is to look it up: by its whole name first and last. A pod has search domains and tries
/// them first for a name of fewer than five dots (`ndots:5`), and where a domain of the company answers for every name, that
/// answer would be dialled. <https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#pod-s-dns-config>
///
/// What only a search domain completes stays as it is: a name without a dot, and the short name of a Service.
fn absolute(host: &str) -> String {
    let is_name = host.parse::<IpAddr>().is_err() && host.contains('.');
    if is_name && !host.ends_with('.') && !host.ends_with(".svc") {
        format!("{host}.")
    } else {
        host.to_owned()
    }
}

/// A peer in the peers file. By strict DNS, since a load balancer may have a host name; an IP address passes as it is.
/// The extension is what `type: STRICT_DNS` has become: that one's `dns_refresh_rate` is deprecated.
/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/clusters/dns/v3/dns_cluster.proto>
pub fn peer(target: &WorkloadName, address: &PeerAddress, paths: &EnvoyPaths) -> Value {
    let name = peer_cluster(target);
    any(
        "envoy.config.cluster.v3.Cluster",
        json!({
            "name": name,
            "connect_timeout": duration(CONNECT_LIMIT),
            "per_connection_buffer_limit_bytes": BUFFER_BYTES,
            "cluster_type": extension(
                "envoy.clusters.dns",
                "envoy.extensions.clusters.dns.v3.DnsCluster",
                json!({
                    // Which family leads there, the pod's network decides: all are tried, one after the other (RFC 8305).
                    "dns_lookup_family": "ALL",
                    "all_addresses_in_single_endpoint": true,
                    "dns_refresh_rate": duration(DNS_REFRESH),
                }),
            ),
            // A name that does not resolve yet must not keep the pod's own ports closed.
            "wait_for_warm_on_init": false,
            "load_assignment": endpoint(&name, &socket(&absolute(&address.host), address.port)),
            "transport_socket": tls::connect(target, paths),
            "upstream_connection_options": {
                "tcp_keepalive": {
                    "keepalive_probes": 3,
                    "keepalive_time": TCP_KEEP_ALIVE.as_secs(),
                    "keepalive_interval": TCP_KEEP_ALIVE.as_secs(),
                },
            },
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_as_it_is() {
        for (host, dialled) in [
            ("host.k3d.internal", "host.k3d.internal."),
            ("lb-1.elb.example.com", "lb-1.elb.example.com."),
            ("example.com.", "example.com."),
            (
                "sink.harbour.svc.cluster.local",
                "sink.harbour.svc.cluster.local.",
            ),
            ("sink.harbour.svc", "sink.harbour.svc"),
            ("localhost", "localhost"),
            ("203.0.113.7", "203.0.113.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("::ffff:203.0.113.7", "::ffff:203.0.113.7"),
        ] {
            assert_eq!(absolute(host), dialled);
        }
    }
}
