//! TLS 1.3 without resumption: mutual for the tunnel, with exact names and the current
//! identity; server certificate only for the pinhole.

use blueprint::plan::{SERVER_CERTIFICATE, SERVER_KEY};
use messages::{
    WorkloadName,
    env::{IDENTITY_FILE, ROOTS_FILE},
};
use serde_json::{Value, json};

use super::{
    EnvoyPaths,
    parts::{any, extension, watched_file, watched_folder},
};

/// Names of the secrets in the two identity files, and in the pinhole's.
const IDENTITY_SECRET: &str = "identity";
const ROOTS_SECRET: &str = "roots";
const SERVER_SECRET: &str = "pinhole";

/// Certificates above the leaf that a chain may have: the pod authority and the root.
const MAX_VERIFY_DEPTH: u32 = 2;

/// The server's side: admits exactly `upstreams`. ALPN is answered for clients that insist on it (gRPC libraries do);
/// pods themselves offer none, since the bytes within are not Envoy's business.
/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/transport_sockets/tls/v3/tls.proto#extensions-transport-sockets-tls-v3-downstreamtlscontext>
pub(super) fn accept(upstreams: &[WorkloadName], paths: &EnvoyPaths) -> Value {
    let mut common = common(upstreams, paths);
    common["alpn_protocols"] = json!(["h2", "http/1.1"]);
    socket(
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        json!({
            "common_tls_context": common,
            "require_client_certificate": true,
            "disable_stateless_session_resumption": true,
            "disable_stateful_session_resumption": true,
        }),
    )
}

/// The pinhole's side: presents its certificate and requests none; clients are authenticated by
/// the bearer token.
pub(super) fn serve(paths: &EnvoyPaths) -> Value {
    socket(
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        json!({
            "common_tls_context": {
                "tls_params": versions(),
                "alpn_protocols": ["http/1.1"],
                "tls_certificate_sds_secret_configs": [{
                    "name": SERVER_SECRET,
                    "sds_config": watched_file(&paths.pinhole_file),
                }],
            },
            "require_client_certificate": false,
            "disable_stateless_session_resumption": true,
            "disable_stateful_session_resumption": true,
        }),
    )
}

/// The secret that [`serve`] asks for. Envoy reads both files together, and again until neither changed meanwhile.
/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/transport_sockets/tls/v3/common.proto#extensions-transport-sockets-tls-v3-tlscertificate>
pub(super) fn server_secret(paths: &EnvoyPaths) -> Value {
    any(
        "envoy.extensions.transport_sockets.tls.v3.Secret",
        json!({
            "name": SERVER_SECRET,
            "tls_certificate": {
                "certificate_chain": { "filename": paths.pinhole_dir.join(SERVER_CERTIFICATE) },
                "private_key": { "filename": paths.pinhole_dir.join(SERVER_KEY) },
                "watched_directory": watched_folder(&paths.pinhole_dir),
            },
        }),
    )
}

/// The client's side: demands exactly `target`, stores no session.
/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/transport_sockets/tls/v3/tls.proto#extensions-transport-sockets-tls-v3-upstreamtlscontext>
pub(super) fn connect(target: &WorkloadName, paths: &EnvoyPaths) -> Value {
    socket(
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        json!({
            "common_tls_context": common(std::slice::from_ref(target), paths),
            "sni": target,
            "max_session_keys": 0,
        }),
    )
}

fn socket(message: &str, config: Value) -> Value {
    extension("envoy.transport_sockets.tls", message, config)
}

/// The pin is on the DNS name: the pod authority's name constraints bind it, while nothing binds a URI's path.
fn common(peers: &[WorkloadName], paths: &EnvoyPaths) -> Value {
    let names: Vec<_> = peers
        .iter()
        .map(|name| json!({ "san_type": "DNS", "matcher": { "exact": name } }))
        .collect();
    json!({
        "tls_params": versions(),
        "tls_certificate_sds_secret_configs": [secret(IDENTITY_SECRET, IDENTITY_FILE, paths)],
        "combined_validation_context": {
            "default_validation_context": {
                "match_typed_subject_alt_names": names,
                "max_verify_depth": MAX_VERIFY_DEPTH,
            },
            "validation_context_sds_secret_config": secret(ROOTS_SECRET, ROOTS_FILE, paths),
        },
    })
}

/// Envoy's default for the client's side ends at TLS 1.2.
fn versions() -> Value {
    json!({
        "tls_minimum_protocol_version": "TLSv1_3",
        "tls_maximum_protocol_version": "TLSv1_3",
    })
}

fn secret(name: &str, file: &str, paths: &EnvoyPaths) -> Value {
    json!({ "name": name, "sds_config": watched_file(&paths.identity_dir.join(file)) })
}
