//! Connects to an API server as `kubectl` would with the same kubeconfig and environment.
//!
//! The client library decides for itself by which proxy it goes, and decides otherwise than `kubectl`: it is handed a decided
//! way instead, and asked nothing about it.

mod plugin;
mod server;
mod socks;
mod tunnel;

use blueprint::failure::Failure;
use hyper_timeout::TimeoutConnector;
use hyper_util::{client::legacy, rt::TokioExecutor};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt as _, retry::RetryPolicy},
    config::{AuthInfo, Cluster, KubeConfigOptions, Kubeconfig},
};
use tokio_rustls::TlsConnector;
use tower::{BoxError, ServiceBuilder, retry::RetryLayer};

use crate::proxy::{self, Scheme, Variables};

pub(super) use tunnel::NoWay;

/// Stands where the client library would look into the environment for a proxy. Nothing is sent to it.
const DECIDED_ELSEWHERE: &str = "http://decided.invalid";

/// A client for a context of `kubeconfig`, the current one unless named. Nothing is asked of the server yet, but a plugin that
/// has the credentials is.
pub(super) async fn open(
    mut kubeconfig: Kubeconfig,
    context: Option<&str>,
    variables: &Variables,
) -> anyhow::Result<Client> {
    let shown = context.or(kubeconfig.current_context.as_deref());
    let shown = shown.unwrap_or_default().to_owned();
    let mut server = None;
    let mut proxy = None;
    let (cluster, user) = entries(&mut kubeconfig, &shown);
    let secure_by_default = server::has_certificates(cluster.as_deref(), user.as_deref());
    if let Some(cluster) = cluster {
        let (url, found) = server::read(cluster, secure_by_default, &shown)?;
        proxy = proxy::choose(&found, cluster.proxy_url.as_deref(), variables)?;
        cluster.server = Some(url);
        cluster.proxy_url = Some(DECIDED_ELSEWHERE.into());
        server = Some(found);
    }
    plugin::settle(user, &shown)?;
    let options = KubeConfigOptions {
        context: context.map(Into::into),
        ..KubeConfigOptions::default()
    };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    config.proxy_url = None;
    let way = match (server, proxy) {
        (Some(server), Some(proxy)) => Some(tunnel::Way {
            tls: match proxy.scheme() {
                Scheme::Https => Some(to_proxy(&config)?),
                Scheme::Http | Scheme::Socks5 => None,
            },
            server,
            proxy,
        }),
        _ => None,
    };
    build(&config, way, &shown).map_err(|error| match error {
        kube::Error::Auth(error) => plugin::failure(&error, &shown).into(),
        other => other.into(),
    })
}

/// The entries of the cluster and of the user that a context names.
fn entries<'a>(
    kubeconfig: &'a mut Kubeconfig,
    context: &str,
) -> (Option<&'a mut Cluster>, Option<&'a mut AuthInfo>) {
    let mut contexts = kubeconfig.contexts.iter();
    let named = contexts.find(|named| named.name == context);
    let Some(named) = named.and_then(|named| named.context.as_ref()) else {
        return (None, None);
    };
    let mut clusters = kubeconfig.clusters.iter_mut();
    let cluster = clusters.find(|entry| entry.name == named.cluster);
    let mut users = kubeconfig.auth_infos.iter_mut();
    let user = users.find(|entry| Some(&entry.name) == named.user.as_ref());
    (
        cluster.and_then(|entry| entry.cluster.as_mut()),
        user.and_then(|entry| entry.auth_info.as_mut()),
    )
}

/// TLS to a proxy is checked by what the cluster's entry trusts, as `kubectl` does. The proxy does
/// not learn who the user is.
fn to_proxy(config: &Config) -> anyhow::Result<TlsConnector> {
    let mut config = config.clone();
    config.auth_info = AuthInfo::default();
    Ok(TlsConnector::from(std::sync::Arc::new(
        config.rustls_client_config()?,
    )))
}

/// As `Client::try_from`, but for the way to the server.
fn build(config: &Config, way: Option<tunnel::Way>, context: &str) -> Result<Client, kube::Error> {
    let credentials = config.auth_layer()?;
    let mut for_tls = config.clone();
    if credentials.is_some() {
        // A plugin that has given a token has no certificate, and is not asked again for one.
        for_tls.auth_info.exec = None;
    }
    let connector = tunnel::Connector::new(way);
    let mut connector =
        TimeoutConnector::new(for_tls.rustls_https_connector_with_connector(connector)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let client = legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(connector);
    let retries = config.default_retry.then(RetryPolicy::server_retry);
    let context = context.to_owned();
    let service = ServiceBuilder::new()
        .map_err(move |error: BoxError| plugin::clean(error, &context))
        .layer(config.base_uri_layer())
        .option_layer(retries.map(RetryLayer::new))
        .option_layer(credentials)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}

/// The trouble with a proxy that is at the bottom of an error.
pub(super) fn no_way(error: &kube::Error) -> Option<&NoWay> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// A kubeconfig entry that cannot be used.
fn refused(context: &str, cause: &str) -> Failure {
    Failure::usage(format!("context `{context}`: {cause}")).hint(must_work(context))
}

/// What to try where a kubeconfig's context does not lead anywhere.
fn must_work(context: &str) -> String {
    format!("make `kubectl --context {context} get namespaces` work first")
}

#[cfg(test)]
mod tests;
