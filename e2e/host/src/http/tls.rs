//! Client TLS: server name and trusted roots.

use std::{fmt, path::Path, sync::Arc};

use anyhow::Context as _;
use blueprint::failure::Failure;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::ring, version::TLS13},
};

/// TLS 1.3 with exactly one server name, trusting exactly the given roots and not the machine's; shows no certificate.
#[derive(Clone)]
pub struct Tls {
    name: String,
    /// As they were given, to tell whether others are trusted by now.
    roots_pem: Vec<u8>,
    server: ServerName<'static>,
    config: Arc<ClientConfig>,
}

/// The handshake failed: no byte of the request was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no TLS with `{0}`")]
pub struct NoTls(String);

impl Tls {
    /// For the server `name`, whose certificate goes back to one of the roots in the file `roots`, PEM.
    ///
    /// # Errors
    ///
    /// An infrastructure failure where the file cannot be read or holds no certificate.
    pub fn trusting(roots: &Path, name: &str) -> anyhow::Result<Self> {
        let text = std::fs::read(roots).map_err(|error| unusable(roots, &error.to_string()))?;
        // Some editors put a mark first, which would hide the first line.
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&text);
        Self::of(text, name).map_err(|error| unusable(roots, &format!("{error:#}")))
    }

    /// As [`Self::trusting`], from the text of such a file.
    pub fn of(roots_pem: &[u8], name: &str) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(roots_pem) {
            roots.add(certificate.context("no PEM certificate")?)?;
        }
        anyhow::ensure!(!roots.is_empty(), "no certificate in it");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            name: name.to_owned(),
            roots_pem: roots_pem.to_owned(),
            server: ServerName::try_from(name.to_owned())
                .with_context(|| format!("`{name}` is no server name"))?,
            config: Arc::new(config),
        })
    }

    /// Whether both trust the same roots.
    pub fn trusts_as(&self, other: &Self) -> bool {
        self.roots_pem == other.roots_pem
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn handshake(
        &self,
        stream: TcpStream,
    ) -> anyhow::Result<TlsStream<TcpStream>> {
        TlsConnector::from(self.config.clone())
            .connect(self.server.clone(), stream)
            .await
            .with_context(|| NoTls(self.name.clone()))
    }
}

fn unusable(roots: &Path, why: &str) -> anyhow::Error {
    Failure::infrastructure(format!(
        "cannot use the roots in `{}`: {why}",
        roots.display()
    ))
    .hint("put the certificate of the CA that signed the pinhole's there, in PEM")
    .into()
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.name).finish()
    }
}
