//! Builds Envoy's configuration from a plan, as JSON of Envoy's v3 API. Does no I/O.
//!
//! * [`bootstrap`]: the one Envoy of a pod. Ingress takes the tunnel (mutual TLS), plaintext `/health` and, told by its server
//!   name, the pinhole's HTTPS on one port, egress takes the pod's plaintext and carries it to exactly one peer.
//! * [`listeners`]: the same for IPv6, in a separate file, since not every node has that family.
//! * [`pinhole`]: where the server certificate of that HTTPS is.
//! * [`peers`]: the peers' addresses, in a separate file that Envoy watches.
//! * [`load_balancer`]: what stands for a cluster's load balancer where there is no cluster.
//!
//! Key agreement is left at Envoy's default, X25519MLKEM768 first, so no curve is named anywhere here.
//!
//! What a pod's Envoy counts, for tests and dashboards (`/stats/prometheus` on the statistics port, `/stats` on the admin
//! socket): `listener.ingress.ssl.*` (`handshake`, `versions.TLSv1.3`, `curves.*`, `session_reused`, `fail_verify_san`,
//! `fail_verify_error`, `fail_verify_no_cert`), `tcp.tunnel.*`, `http.ingress.*`, `http.stats.*`, `tcp.egress/<cluster>/<pod>.*`,
//! `cluster.<peer_cluster>.*`, `cluster_manager.cds.*`.
//!
//! API reference: <https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/api>

pub mod egress;
pub mod ingress;
mod load_balancer;
pub mod parts;
mod tls;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use blueprint::plan::{PeerAddress, PodPlan};
use messages::WorkloadName;
use serde_json::{Value, json};

pub use egress::peer_cluster;
pub use load_balancer::load_balancer;

/// Longest time from accepting a connection to its first bytes, and again from there to the end of its TLS handshake.
/// What is slower is closed, so that an idle stranger holds a place for seconds only.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Longest time for the head of a plaintext request.
pub const REQUEST_HEAD_LIMIT: Duration = Duration::from_secs(5);

/// Longest pause between two requests of one plaintext connection.
pub const KEEP_ALIVE_LIMIT: Duration = Duration::from_secs(15);

/// Longest silence of a tunnel connection or of a running request; relay sessions ping far more often.
pub const IDLE_LIMIT: Duration = Duration::from_secs(5 * 60);

/// Longest life of a tunnel connection. The pods replace their sessions after 10 minutes themselves, without loss; this is
/// the end of one that was not.
pub const SESSION_LIMIT: Duration = Duration::from_secs(10 * 60 + 30);

/// Longest time for a TCP connection to a peer or to the app.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How often a peer's host name is resolved again.
pub const DNS_REFRESH: Duration = Duration::from_secs(5);

/// Connections from outside that a pod holds concurrently, in any state. Unauthenticated ones are
/// closed after [`HANDSHAKE_LIMIT`], so
/// to keep a pod full an attacker must open more than 800 connections a second.
pub const MAX_CONNECTIONS: u32 = 4096;

/// Of these, at most so many speak plaintext HTTP: they can never take the places of tunnel connections.
pub const MAX_PLAINTEXT_CONNECTIONS: u32 = 512;

/// As many speak HTTPS to the pinhole, counted apart: a crowd on plaintext keeps no holder of the token out.
pub const MAX_PINHOLE_CONNECTIONS: u32 = 512;

/// Concurrent connections to the statistics port.
pub const MAX_STATS_CONNECTIONS: u32 = 64;

/// Bytes buffered per connection and direction before Envoy stops reading from the other side.
pub const BUFFER_BYTES: u32 = 256 * 1024;

/// Heap at which Envoy closes its ingress to new connections; from 70 % on it cuts timeouts, from 85 % it gives memory
/// back. The container's memory limit must lie above this.
pub const MAX_HEAP_BYTES: u64 = 256 * 1024 * 1024;

/// Longest head of a plaintext request, in KiB, and most headers in it.
pub const MAX_HEAD_KIB: u32 = 16;
pub const MAX_HEADERS: u32 = 64;

/// Names of the folders and files that [`EnvoyPaths`] is made of.
const IDENTITY_FOLDER: &str = "identity";
const PEERS_FOLDER: &str = "peers";
const PEERS_FILE: &str = "cds.json";
const PINHOLE_FOLDER: &str = "pinhole";

/// Name of the [`pinhole`] file.
pub const PINHOLE_FILE: &str = "pinhole.json";
/// Name of the [`listeners`] file.
pub const LISTENERS_FILE: &str = "listeners.json";
const ADMIN_SOCKET: &str = "admin.sock";

/// The files that a pod's Envoy reads and makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvoyPaths {
    /// Folder with [`messages::env::IDENTITY_FILE`] and [`messages::env::ROOTS_FILE`], watched.
    pub identity_dir: PathBuf,
    /// The [`peers`] file. Its folder is watched, so it needs one of its own, where it is replaced by a rename.
    pub peers_file: PathBuf,
    /// Folder with [`blueprint::plan::SERVER_CERTIFICATE`] and [`blueprint::plan::SERVER_KEY`] of a
    /// boundary pod, watched: Envoy reads both again, as a pair, when a file is moved into it.
    pub pinhole_dir: PathBuf,
    /// The [`pinhole`] file, which never changes.
    pub pinhole_file: PathBuf,
    /// The [`listeners`] file, where there is one. Its folder is watched.
    pub listeners_file: PathBuf,
    /// Unix socket of the admin interface, made by Envoy with mode 0600. At most 107 bytes long (unix(7)).
    pub admin_socket: PathBuf,
}

impl EnvoyPaths {
    /// Where the volumes of a Kubernetes pod are mounted.
    pub fn in_pod() -> Self {
        Self {
            pinhole_dir: "/etc/ferry/pinhole".into(),
            pinhole_file: Path::new("/etc/ferry/envoy").join(PINHOLE_FILE),
            listeners_file: Path::new("/etc/ferry/envoy").join(LISTENERS_FILE),
            ..Self::below(Path::new("/run/ferry"), Path::new("/run/ferry/envoy"))
        }
    }

    /// Below Envoy's working directory: a socket's path may be 107 bytes long, a state folder's is often longer.
    pub fn in_working_directory() -> Self {
        Self::below(Path::new(""), Path::new(""))
    }

    fn below(folder: &Path, admin: &Path) -> Self {
        Self {
            identity_dir: folder.join(IDENTITY_FOLDER),
            peers_file: folder.join(PEERS_FOLDER).join(PEERS_FILE),
            pinhole_dir: folder.join(PINHOLE_FOLDER),
            pinhole_file: folder.join(PINHOLE_FILE),
            listeners_file: folder.join(LISTENERS_FILE),
            admin_socket: admin.join(ADMIN_SOCKET),
        }
    }
}

/// Envoy's command line for a configuration file: no hot restart, so that any number of Envoys share a machine; one
/// worker, since a pod has a handful of long connections; a refusal is in the log immediately and
/// not after ten seconds.
/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/operations/cli>
pub fn arguments(config: &Path) -> Vec<String> {
    [
        "--config-path",
        &config.to_string_lossy(),
        "--disable-hot-restart",
        "--concurrency",
        "1",
        "--log-level",
        "warning",
        "--file-flush-interval-msec",
        "200",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The bootstrap of a pod's Envoy.
/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/bootstrap/v3/bootstrap.proto>
pub fn bootstrap(pod: &PodPlan, paths: &EnvoyPaths) -> Value {
    let (ingress, ingress_v6) = families(pod.sockets.ingress);
    let (stats, stats_v6) = families(pod.sockets.envoy_stats);
    let mut listeners = vec![ingress::listener(pod, ingress, paths)];
    listeners.extend(pod.egress.iter().map(egress::listener));
    listeners.push(ingress::stats_listener(stats));
    let mut dynamic = json!({ "cds_config": parts::watched_file(&paths.peers_file) });
    if ingress_v6.or(stats_v6).is_some() {
        dynamic["lds_config"] = parts::watched_file(&paths.listeners_file);
    }
    json!({
        "node": { "id": pod.name, "cluster": pod.name },
        "admin": parts::admin(&paths.admin_socket),
        "static_resources": {
            "listeners": listeners,
            "clusters": ingress::clusters(pod, paths),
        },
        "dynamic_resources": dynamic,
        "overload_manager": ingress::overload_manager(MAX_CONNECTIONS),
    })
}

/// The listeners by IPv6 of a pod that listens on every address; `None` for one with a separate
/// address.
///
/// They are not in the bootstrap, which Envoy refuses whole, with all that is in it, where a node has no IPv6 ("malformed IP
/// address"). From a file it takes what it can, says in its log what it cannot, and serves by IPv4. Each counts and logs as its twin in
/// the bootstrap; limits on plaintext connections are for each by itself.
/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/listeners/lds>
pub fn listeners(pod: &PodPlan, paths: &EnvoyPaths) -> Option<Value> {
    let (_, ingress) = families(pod.sockets.ingress);
    let (_, stats) = families(pod.sockets.envoy_stats);
    let all = [
        ingress.map(|address| ingress::listener(pod, address, paths)),
        stats.map(ingress::stats_listener),
    ];
    let resources: Vec<_> = all.into_iter().flatten().map(parts::by_v6).collect();
    (!resources.is_empty()).then(|| json!({ "resources": resources }))
}

/// Where an address is listened on: `[::]` is every address of IPv4, and apart from that of IPv6.
fn families(address: SocketAddr) -> (SocketAddr, Option<SocketAddr>) {
    match address.ip() {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            let all = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
            (all, Some(address))
        }
        _ => (address, None),
    }
}

/// What leads Envoy to the pinhole's server certificate: an SDS resource that names two files, since only for such a one
/// does Envoy follow the files.
/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/security/secret#sds-configuration>
pub fn pinhole(paths: &EnvoyPaths) -> Value {
    json!({ "resources": [tls::server_secret(paths)] })
}

/// The peers file of a pod: one cluster for each connection out whose target has an address. A target without one is left
/// out: its egress port accepts connections and closes them immediately, until the file names it.
///
/// `version_info` names the addresses, so that `cluster_manager.cds.version_text` on the admin
/// socket shows the current ones.
/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/upstream/cluster_manager/cds>
pub fn peers(
    pod: &PodPlan,
    addresses: &BTreeMap<WorkloadName, PeerAddress>,
    paths: &EnvoyPaths,
) -> Value {
    let known: BTreeMap<_, _> = pod
        .egress
        .iter()
        .filter_map(|egress| addresses.get_key_value(&egress.target))
        .collect();
    let version: Vec<_> = known
        .iter()
        .map(|(name, address)| format!("{}={address}", name.pod()))
        .collect();
    let resources: Vec<_> = known
        .into_iter()
        .map(|(name, address)| egress::peer(name, address, paths))
        .collect();
    json!({
        "version_info": if version.is_empty() { "no peers".to_owned() } else { version.join(",") },
        "resources": resources,
    })
}
