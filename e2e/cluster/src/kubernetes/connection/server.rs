//! Parses the URL of an API server as `kubectl` does.

use blueprint::failure::Failure;
use hyper::Uri;
use kube::config::{AuthInfo, Cluster};

use super::refused;
use crate::proxy::Server;

/// Whether a server without a scheme is one of HTTPS: where certificates are named, the server's or the user's.
/// <https://pkg.go.dev/k8s.io/client-go/rest#DefaultServerUrlFor>
pub(super) fn has_certificates(cluster: Option<&Cluster>, user: Option<&AuthInfo>) -> bool {
    cluster.is_some_and(|cluster| {
        cluster.certificate_authority.is_some()
            || cluster.certificate_authority_data.is_some()
            || cluster.insecure_skip_tls_verify == Some(true)
    }) || user.is_some_and(|user| {
        user.client_certificate.is_some() || user.client_certificate_data.is_some()
    })
}

/// The URL with its scheme, and whom it leads to. A path behind the host stays: each request goes below it.
pub(super) fn read(
    cluster: &Cluster,
    secure_by_default: bool,
    context: &str,
) -> Result<(String, Server), Failure> {
    let written = cluster.server.as_deref().unwrap_or_default().trim();
    if written.is_empty() {
        return Err(refused(context, "its cluster has no `server`"));
    }
    // What stands before an `@` may be a password.
    let shown = match written.contains('@') {
        true => "its `server`".to_owned(),
        false => format!("its `server`, `{written}`,"),
    };
    let no_url = || refused(context, &format!("{shown} is no URL of a server"));
    let url = match written.split_once("://") {
        Some(_) => written.to_owned(),
        // `kubectl` takes no path here either.
        None if written.trim_end_matches('/').contains('/') => return Err(no_url()),
        None if secure_by_default => format!("https://{written}"),
        None => format!("http://{written}"),
    };
    let uri: Uri = url.parse().map_err(|_| no_url())?;
    let secure = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(no_url()),
    };
    let host = uri.host().filter(|host| !host.is_empty());
    let server = Server::new(secure, host.ok_or_else(no_url)?, uri.port_u16());
    Ok((url, server))
}
