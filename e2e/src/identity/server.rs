//! The certificate of a pinhole's HTTPS: proves a server's name and nothing else.

use std::{fmt, path::Path};

use anyhow::Context as _;
use jiff::Timestamp;
use messages::WorkloadName;
use rcgen::{
    DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData as _,
    SanType,
};
use rustls_pki_types::CertificateDer;

use super::{Root, SERVER_LIFETIME, Validity, files, new_key, parameters};
use crate::{
    envoy::{SERVER_CERTIFICATE, SERVER_KEY},
    plan::pinhole_name,
};

/// A pinhole's certificate with its key. It names no workload and is for servers only, so no tunnel takes it: not as a
/// client's (extended key usage, RFC 5280, 4.2.1.12), not as a peer's (the pin is on another name).
pub struct Server {
    key: KeyPair,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
}

impl Root {
    /// A certificate for the pinhole of `pod`, valid for [`SERVER_LIFETIME`] but never longer than the root.
    pub fn server(&self, pod: &WorkloadName) -> anyhow::Result<Server> {
        let name = pinhole_name(pod);
        let key = new_key()?;
        let mut validity = Validity::lasting(SERVER_LIFETIME);
        validity.not_after = validity.not_after.min(self.not_after());
        let mut parameters = parameters(DistinguishedName::new(), validity)?;
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.subject_alt_names = vec![SanType::DnsName(name.as_str().try_into()?)];
        let certificate = parameters
            .signed_by(&key, &self.issuer()?)
            .with_context(|| format!("sign the certificate of `{name}`"))?;
        Ok(Server {
            key,
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
        })
    }
}

impl Server {
    /// The one in `folder`, where this root made it and more than a third of its life is left; otherwise a new one, saved
    /// there.
    pub fn keep(root: &Root, pod: &WorkloadName, folder: &Path) -> anyhow::Result<Self> {
        if folder.join(SERVER_KEY).exists() && folder.join(SERVER_CERTIFICATE).exists() {
            let server = Self::load(folder)?;
            if server.is_good(root)? {
                return Ok(server);
            }
        }
        let server = root.server(pod)?;
        server.save(folder)?;
        Ok(server)
    }

    /// Writes [`SERVER_KEY`] and [`SERVER_CERTIFICATE`] (mode 0600) into `folder`, which is made (mode 0700) where missing.
    /// An Envoy that watches the folder sees the new key with the old certificate for a moment: it refuses that pair,
    /// keeps the one it has, and takes the next.
    pub fn save(&self, folder: &Path) -> anyhow::Result<()> {
        files::make_private_folder(folder)?;
        files::write_private(folder, SERVER_KEY, &self.key.serialize_pem())?;
        files::write_private(folder, SERVER_CERTIFICATE, &self.certificate_pem)
    }

    /// Reads what [`Self::save`] wrote.
    fn load(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            key: files::read_key(folder, SERVER_KEY)?,
            certificate: files::read_certificate(folder, SERVER_CERTIFICATE)?,
            certificate_pem: files::read(folder, SERVER_CERTIFICATE)?,
        })
    }

    fn is_good(&self, root: &Root) -> anyhow::Result<bool> {
        let parse = |der| x509_parser::parse_x509_certificate(der).map(|(_, parsed)| parsed);
        let (own, issuer) = (
            parse(&self.certificate).context("read a pinhole's certificate")?,
            parse(root.certificate_der()).context("read the root")?,
        );
        let third = i64::try_from(SERVER_LIFETIME.as_secs() / 3)?;
        Ok(own.public_key().raw == self.key.subject_public_key_info()
            && own.verify_signature(Some(issuer.public_key())).is_ok()
            && own.validity().not_after.timestamp() - Timestamp::now().as_second() > third)
    }

    /// What goes into [`SERVER_CERTIFICATE`].
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// What goes into [`SERVER_KEY`]: a secret.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("certificate", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}
