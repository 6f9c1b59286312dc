//! The certificate of a pinhole's HTTPS: proves a server's name and nothing else.

use std::{fmt, path::Path};

use anyhow::Context as _;
use jiff::Timestamp;
use messages::WorkloadName;
use rcgen::{
    DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData as _,
    SanType,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::{ROOTS, Root, SERVER_LIFETIME, Validity, files, new_key, parameters};
use crate::{
    envoy::{SERVER_CERTIFICATE, SERVER_KEY},
    failure::Failure,
    plan::pinhole_name,
};

/// A pinhole's certificate with its key. It names no workload and is for servers only, so no tunnel takes it: not as a
/// client's (extended key usage, RFC 5280, 4.2.1.12), not as a peer's (the pin is on another name).
pub struct Server {
    certificate_pem: String,
    key_pem: String,
    roots_pem: String,
}

impl Root {
    /// A certificate for the pinhole of `pod`, valid for [`SERVER_LIFETIME`] but never longer than the root.
    ///
    /// # Errors
    ///
    /// A usage failure where the root is an operator's own, whose key is elsewhere.
    pub fn server(&self, pod: &WorkloadName) -> anyhow::Result<Server> {
        if !self.has_key() {
            return Err(Failure::usage(format!(
                "the key of the root is not here, so no certificate can be made for the pinhole of {} in {}",
                pod.pod(),
                pod.cluster()
            ))
            .hint(
                "put `tls.crt`, `tls.key` and `ca.crt` of your own into the folder `pinhole` of the pod, as the README says",
            )
            .into());
        }
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
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            roots_pem: self.certificate_pem().to_owned(),
        })
    }
}

impl Server {
    /// The one in `folder`, where it is the operator's, which goes back to other roots, or this root's with more than a
    /// third of its life left; otherwise a new one, saved there. Without the root's key it is kept whatever it is.
    pub fn keep(root: &Root, pod: &WorkloadName, folder: &Path) -> anyhow::Result<Self> {
        if folder.join(ROOTS).exists() && !Self::is_due(root, folder)? {
            return Self::load(folder);
        }
        let server = root.server(pod)?;
        server.save(folder)?;
        Ok(server)
    }

    /// Whether the one in `folder` is this root's and is to be replaced by another of it: it has less than a third of its
    /// life left, or a command that was killed has left the key of one with the certificate of the other.
    pub fn is_due(root: &Root, folder: &Path) -> anyhow::Result<bool> {
        if !root.has_key() || !Self::is_of(folder, std::slice::from_ref(root.certificate_der()))? {
            return Ok(false);
        }
        Ok(!Self::load(folder)?.is_good()?)
    }

    /// Whether the one in `folder` goes back to one of `roots`: if not, it is the operator's own, and none of Ferry's business.
    pub fn is_of(folder: &Path, roots: &[CertificateDer<'_>]) -> anyhow::Result<bool> {
        let trusted = files::certificates(&files::read(folder, ROOTS)?);
        Ok(trusted.iter().any(|root| roots.contains(root)))
    }

    /// Has clients of the one in `folder` trust `root` besides those that they trust already.
    pub fn trust_too(folder: &Path, root: &Root) -> anyhow::Result<()> {
        let trusted = files::read(folder, ROOTS)?;
        if files::certificates(&trusted).contains(root.certificate_der()) {
            return Ok(());
        }
        let both = format!("{}\n{}", trusted.trim_end(), root.certificate_pem());
        files::write_private(folder, ROOTS, &both)
    }

    /// Replaces certificate and key in `folder`; whom clients trust stays.
    pub fn replace(&self, folder: &Path) -> anyhow::Result<()> {
        files::write_private(folder, SERVER_KEY, &self.key_pem)?;
        files::write_private(folder, SERVER_CERTIFICATE, &self.certificate_pem)
    }

    /// Writes [`SERVER_KEY`], [`SERVER_CERTIFICATE`] and, for clients, [`ROOTS`] (mode 0600) into `folder`, which is made (mode
    /// 0700) where missing. An Envoy that watches the folder sees the new key with the old certificate for a moment: it
    /// refuses that pair, keeps the one it has, and takes the next.
    pub fn save(&self, folder: &Path) -> anyhow::Result<()> {
        files::make_private_folder(folder)?;
        self.replace(folder)?;
        files::write_private(folder, ROOTS, &self.roots_pem)
    }

    /// Reads what [`Self::save`] or the operator wrote; the operator's certificate may have others above it in the file.
    fn load(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            key_pem: files::read_key(folder, SERVER_KEY)?.serialize_pem(),
            certificate_pem: files::read(folder, SERVER_CERTIFICATE)?,
            roots_pem: files::read(folder, ROOTS)?,
        })
    }

    /// It is of its key, and not old.
    fn is_good(&self) -> anyhow::Result<bool> {
        let der = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes())
            .context("read a pinhole's certificate")?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&der).context("read a pinhole's certificate")?;
        let key = KeyPair::from_pem(&self.key_pem).context("read a pinhole's key")?;
        let third = i64::try_from(SERVER_LIFETIME.as_secs() / 3)?;
        let left = parsed.validity().not_after.timestamp() - Timestamp::now().as_second();
        Ok(parsed.public_key().raw == key.subject_public_key_info() && left > third)
    }

    /// What goes into [`SERVER_CERTIFICATE`].
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// What goes into [`SERVER_KEY`]: a secret.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("certificate", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}
