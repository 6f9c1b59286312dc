use crate::plan::{PeerAddress, PodPlan};
use messages::WorkloadName;
use std::{collections::BTreeMap, path::PathBuf};
pub struct EnvoyPaths {
    pub identity_dir: PathBuf,
    pub peers_file: PathBuf,
    pub admin_socket: PathBuf,
}
impl EnvoyPaths {
    pub fn in_pod() -> Self {
        Self {
            identity_dir: "/run/ferry/identity".into(),
            peers_file: "/etc/ferry/peers/cds.json".into(),
            admin_socket: "/run/ferry/envoy/admin.sock".into(),
        }
    }
}
pub fn bootstrap(_: &PodPlan, _: &EnvoyPaths) -> serde_json::Value {
    serde_json::json!({})
}
pub fn peers(
    _: &PodPlan,
    _: &BTreeMap<WorkloadName, PeerAddress>,
    _: &EnvoyPaths,
) -> serde_json::Value {
    serde_json::json!({})
}
