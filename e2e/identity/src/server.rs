//! The certificate of a pinhole's HTTPS, valid for its server name only.

use std::{fmt, path::Path};

use anyhow::Context as _;
use blueprint::{
    failure::Failure,
    pinhole_name,
    plan::{SERVER_CERTIFICATE, SERVER_KEY},
};
use jiff::Timestamp;
use messages::WorkloadName;
use rcgen::{DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use rustls_pki_types::CertificateDer;

use super::{
    ROOTS, Root, SERVER_LIFETIME, Validity, files, import::parse, new_key, parameters, server_check,
};

/// A pinhole's certificate with its key. It names no workload and is for servers only, so no tunnel takes it: not as a
/// client's (extended key usage, RFC 5280, 4.2.1.12), not as a peer's (the pin is on another name).
pub struct Server {
    certificate_pem: String,
    key_pem: String,
    roots_pem: String,
}

/// Who looks at a pinhole's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Ferry's own commands, which trust the `ca.crt` beside it.
    Commands,
    /// Others, who may trust what they like: a bundle's scripts do not ask by HTTPS.
    Others,
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
                "cannot issue the pinhole's certificate of {} in {}: the root's key is not in the state folder",
                pod.pod(),
                pod.cluster()
            ))
            .hint(
                "put your own `tls.crt`, `tls.key` and `ca.crt` into the pod's folder `pinhole`, see docs/operations.md",
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
    /// The one in `folder`, where it is the operator's, or this root's with more than a third of its life left; otherwise a new
    /// one, saved there. `clients` says who will look at it.
    ///
    /// # Errors
    ///
    /// A usage failure where the one in `folder` is the operator's and cannot work, or Ferry's own, broken, and the root's key is
    /// elsewhere.
    pub fn keep(
        root: &Root,
        pod: &WorkloadName,
        folder: &Path,
        clients: Clients,
    ) -> anyhow::Result<Self> {
        if folder.join(ROOTS).exists() && !Self::is_due(root, folder)? {
            let trusted = files::certificates(&files::read(folder, ROOTS)?);
            // A `ca.crt` that Ferry made does not describe the operator's certificate.
            let is_ferrys = trusted.contains(root.certificate_der())
                && !Self::is_of(folder, std::slice::from_ref(root.certificate_der()))?;
            let roots = match clients {
                Clients::Others if is_ferrys => None,
                Clients::Others | Clients::Commands => Some(&trusted[..]),
            };
            let server = Self::load(folder)?;
            server.fits(pod, folder, roots)?;
            return Ok(server);
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
        match Self::load(folder) {
            Ok(server) => Ok(!server.has_long()),
            // What is wrong with one of Ferry's own is mended by another. A key in a form that Ferry does not write is an
            // operator's, whose certificate is still to come.
            Err(_) => Ok(files::is_pkcs8(folder, SERVER_KEY)),
        }
    }

    /// Whether the one in `folder` goes back to one of `roots`: if not, it is the operator's own, and none of Ferry's business.
    pub fn is_of(folder: &Path, roots: &[CertificateDer<'_>]) -> anyhow::Result<bool> {
        let trusted = files::certificates(&files::read(folder, ROOTS)?);
        if !trusted.iter().any(|root| roots.contains(root)) {
            return Ok(false);
        }
        // An operator may have put a certificate there and left `ca.crt`, which only Ferry's commands read.
        let text = files::read(folder, SERVER_CERTIFICATE)?;
        let chain = files::certificates(&text);
        Ok(chain.first().and_then(parse).is_none_or(|leaf| {
            roots
                .iter()
                .filter_map(parse)
                .any(|root| root.subject().as_raw() == leaf.issuer().as_raw())
        }))
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

    /// Reads what [`Self::save`] or the operator wrote. The operator's certificate may have others above it in the file, and the
    /// key may be of any form that tools write; both become what every Envoy reads.
    fn load(folder: &Path) -> anyhow::Result<Self> {
        let chain = files::chain(folder, SERVER_CERTIFICATE, SERVER_KEY)?;
        let key = files::read_key_of(folder, SERVER_KEY, &chain, SERVER_CERTIFICATE)?;
        Ok(Self {
            key_pem: key.serialize_pem(),
            certificate_pem: chain.iter().map(files::pem).collect(),
            roots_pem: files::read(folder, ROOTS)?,
        })
    }

    /// # Errors
    ///
    /// A usage failure with all that a client would find wrong with it.
    fn fits(
        &self,
        pod: &WorkloadName,
        folder: &Path,
        roots: Option<&[CertificateDer<'_>]>,
    ) -> anyhow::Result<()> {
        let name = pinhole_name(pod);
        let chain = files::certificates(&self.certificate_pem);
        let problems = server_check::problems(&chain, &name, roots);
        if problems.is_empty() {
            return Ok(());
        }
        let path = folder.join(SERVER_CERTIFICATE);
        Err(
            Failure::usage(format!("`{}` {}", path.display(), problems.join("; it ")))
                .hint(format!(
                    "put a certificate for `{name}` there, its key in `{SERVER_KEY}`, and the \
                     certificate of the CA that signed it in `{ROOTS}`; or delete `{}`: Ferry \
                     then creates a new one",
                    folder.display()
                ))
                .into(),
        )
    }

    /// It has more than a third of its life left.
    fn has_long(&self) -> bool {
        let third = i64::try_from(SERVER_LIFETIME.as_secs() / 3).unwrap_or(i64::MAX);
        let chain = files::certificates(&self.certificate_pem);
        chain.first().and_then(parse).is_some_and(|leaf| {
            leaf.validity().not_after.timestamp() - Timestamp::now().as_second() > third
        })
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
