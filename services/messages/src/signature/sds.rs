//! The files that `wosp` writes for Envoy: SDS resources, as far as they are needed here.
//! <https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/transport_sockets/tls/v3/secret.proto>

use serde::Deserialize;

use super::{InvalidIdentity, TrailError};

#[derive(Deserialize)]
struct File {
    resources: Vec<Secret>,
}

#[derive(Deserialize)]
struct Secret {
    name: String,
    tls_certificate: Option<Certificate>,
    validation_context: Option<Validation>,
}

#[derive(Deserialize)]
pub(super) struct Certificate {
    pub(super) certificate_chain: Data,
    pub(super) private_key: Data,
}

#[derive(Deserialize)]
struct Validation {
    trusted_ca: Data,
}

#[derive(Deserialize)]
pub(super) struct Data {
    pub(super) inline_string: String,
}

/// Returns the resource `identity`: the chain and its key, both PEM.
pub(super) fn identity(text: &str) -> Result<Certificate, InvalidIdentity> {
    let file: File = serde_json::from_str(text).map_err(InvalidIdentity::NotSds)?;
    let mut named = file
        .resources
        .into_iter()
        .filter(|one| one.name == "identity");
    named
        .find_map(|one| one.tls_certificate)
        .ok_or(InvalidIdentity::NoIdentity)
}

/// Returns the resource `roots`: certificates in PEM.
pub(super) fn roots(text: &str) -> Result<String, TrailError> {
    let not_sds = |cause: serde_json::Error| TrailError::NotRoots(cause.to_string());
    let file: File = serde_json::from_str(text).map_err(not_sds)?;
    let mut named = file.resources.into_iter().filter(|one| one.name == "roots");
    named
        .find_map(|one| one.validation_context)
        .map(|context| context.trusted_ca.inline_string)
        .ok_or(TrailError::NoRoot)
}
