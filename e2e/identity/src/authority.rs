//! A pod's authority, from which `wosp` mints identities.

use std::{fmt, path::Path};

use anyhow::Context as _;
use messages::{CertificateReport, WorkloadName};
use rcgen::{
    BasicConstraints, DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use rustls_pki_types::CertificateDer;

use super::{
    AUTHORITY_CERTIFICATE, AUTHORITY_KEY, LEAF_LIFETIME, ROOTS, Validity, files, new_key,
    parameters,
};

/// What an authority's certificate shall say.
#[derive(Clone, Debug)]
pub struct AuthorityRequest {
    /// Becomes the subject: common name `sink`, unit `cluster-b`, organisation `international-ferry`. Three
    /// attributes, since the whole DNS name may be longer than the 64 characters one of them may have.
    pub name: WorkloadName,
    pub validity: Validity,
    /// The DNS names its leaves may have; `None` leaves out the name constraints, which no pod of Ferry's is given.
    pub permitted: Option<Vec<String>>,
}

impl AuthorityRequest {
    /// For the pod `name`, constrained to its DNS name.
    pub fn of(name: &WorkloadName, validity: Validity) -> Self {
        Self {
            name: name.clone(),
            validity,
            permitted: Some(vec![name.to_string()]),
        }
    }
}

pub(super) fn subject(name: &WorkloadName) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, name.blueprint());
    subject.push(DnType::OrganizationalUnitName, name.cluster());
    subject.push(DnType::CommonName, name.pod());
    subject
}

/// A pod's own authority: what its `wosp` mints identities from.
pub struct Authority {
    key: KeyPair,
    certificate: CertificateDer<'static>,
    /// Its own certificate, and those between it and the root, which Ferry's own authorities have none of.
    chain_pem: String,
    roots_pem: String,
}

impl Authority {
    pub(super) fn issue(
        request: &AuthorityRequest,
        issuer: &Issuer<'_, &KeyPair>,
        roots_pem: String,
    ) -> anyhow::Result<Self> {
        let key = new_key()?;
        let mut parameters = parameters(subject(&request.name), request.validity)?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        parameters.name_constraints = request.permitted.as_ref().map(|names| NameConstraints {
            permitted_subtrees: names.iter().cloned().map(GeneralSubtree::DnsName).collect(),
            excluded_subtrees: vec![],
        });
        let certificate = parameters
            .signed_by(&key, issuer)
            .with_context(|| format!("sign the authority of `{}`", request.name))?;
        Ok(Self {
            key,
            certificate: certificate.der().clone(),
            chain_pem: certificate.pem(),
            roots_pem,
        })
    }

    /// Writes [`AUTHORITY_CERTIFICATE`], [`AUTHORITY_KEY`] and [`ROOTS`] (mode 0600) into `folder`, which is made (mode 0700)
    /// where missing, all three at once. This is the folder that `wosp` reads, and the data of a pod's Secret.
    pub fn save(&self, folder: &Path) -> anyhow::Result<()> {
        files::replace_together(
            folder,
            &[
                (AUTHORITY_KEY, Some(&self.key.serialize_pem())),
                (AUTHORITY_CERTIFICATE, Some(&self.chain_pem)),
                (ROOTS, Some(&self.roots_pem)),
            ],
        )
    }

    /// Reads what [`Self::save`] or an operator wrote; the key may be of any form that tools write.
    ///
    /// # Errors
    ///
    /// A file that is missing or holds something else, and a key that is not the certificate's.
    pub fn load(folder: &Path) -> anyhow::Result<Self> {
        let certificate = files::read_certificate(folder, AUTHORITY_CERTIFICATE)?;
        let chain = std::slice::from_ref(&certificate);
        Ok(Self {
            key: files::read_key_of(folder, AUTHORITY_KEY, chain, AUTHORITY_CERTIFICATE)?,
            chain_pem: files::pem(&certificate),
            roots_pem: files::read(folder, ROOTS)?,
            certificate,
        })
    }

    /// Returns an authority that an operator's CA has signed, with the key of its request. Checks
    /// nothing.
    pub(super) fn of_parts(
        key: KeyPair,
        certificate: CertificateDer<'static>,
        certificate_pem: String,
        roots_pem: String,
    ) -> Self {
        Self {
            key,
            certificate,
            chain_pem: certificate_pem,
            roots_pem,
        }
    }

    /// The same one with other trusted roots, PEM.
    #[must_use]
    pub fn trusting(self, roots_pem: String) -> Self {
        Self { roots_pem, ..self }
    }

    /// Identifies its certificate, and its expiry.
    pub fn report(&self) -> anyhow::Result<CertificateReport> {
        CertificateReport::of(&self.certificate).context("read the authority back")
    }

    /// The trusted roots, each as [`Self::report`].
    pub fn root_reports(&self) -> anyhow::Result<Vec<CertificateReport>> {
        files::certificates(&self.roots_pem)
            .iter()
            .map(|root| CertificateReport::of(root).context("read a root back"))
            .collect()
    }

    /// What goes into [`AUTHORITY_CERTIFICATE`].
    pub fn certificate_pem(&self) -> &str {
        &self.chain_pem
    }

    /// What goes into [`AUTHORITY_KEY`]: a secret.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// What goes into [`ROOTS`].
    pub fn roots_pem(&self) -> &str {
        &self.roots_pem
    }

    /// Signs a leaf exactly as asked, sensible or not: whether it is accepted is for its reader to decide.
    pub fn leaf(&self, request: &LeafRequest) -> anyhow::Result<Leaf> {
        let (certificate_pem, _, key) = self.sign(request)?;
        Ok(Leaf {
            certificate_chain_pem: certificate_pem + &self.chain_pem,
            key_pem: key.serialize_pem(),
        })
    }

    /// An authority below this one. Its path length forbids that: for tests that must see such a chain refused.
    pub fn subordinate(&self, request: &LeafRequest) -> anyhow::Result<Self> {
        let (certificate_pem, certificate, key) = self.sign(request)?;
        Ok(Self {
            key,
            certificate,
            chain_pem: certificate_pem + &self.chain_pem,
            roots_pem: self.roots_pem.clone(),
        })
    }

    fn sign(
        &self,
        request: &LeafRequest,
    ) -> anyhow::Result<(String, CertificateDer<'static>, KeyPair)> {
        let text = |name: &String| {
            name.as_str()
                .try_into()
                .with_context(|| format!("`{name}` is not ASCII"))
        };
        let key = new_key()?;
        let mut parameters = parameters(request.subject(), request.validity)?;
        for name in &request.dns_names {
            let name = SanType::DnsName(text(name)?);
            parameters.subject_alt_names.push(name);
        }
        for uri in &request.uris {
            parameters.subject_alt_names.push(SanType::URI(text(uri)?));
        }
        parameters.is_ca = match request.kind {
            CertificateKind::EndEntity => IsCa::ExplicitNoCa,
            CertificateKind::Authority => IsCa::Ca(BasicConstraints::Unconstrained),
        };
        parameters.key_usages.clone_from(&request.key_usages);
        parameters
            .extended_key_usages
            .clone_from(&request.extended_key_usages);
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key)
            .context("take the authority as issuer")?;
        let certificate = parameters
            .signed_by(&key, &issuer)
            .with_context(|| format!("sign a leaf for {:?}", request.dns_names))?;
        Ok((certificate.pem(), certificate.der().clone(), key))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("certificate", &self.chain_pem)
            .finish_non_exhaustive()
    }
}

/// Whether a certificate may sign others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateKind {
    EndEntity,
    Authority,
}

/// What a leaf shall say. [`Self::of`] asks for what `wosp` would mint; a test changes what it wants to see refused.
#[derive(Clone, Debug)]
pub struct LeafRequest {
    /// The common name; `None` for an empty subject, as `wosp` has it.
    pub common_name: Option<String>,
    pub dns_names: Vec<String>,
    pub uris: Vec<String>,
    pub validity: Validity,
    pub kind: CertificateKind,
    pub key_usages: Vec<KeyUsagePurpose>,
    pub extended_key_usages: Vec<ExtendedKeyUsagePurpose>,
}

impl LeafRequest {
    /// The identity of `name`, valid for [`LEAF_LIFETIME`], for both ends of a TLS connection.
    pub fn of(name: &WorkloadName) -> Self {
        Self {
            common_name: None,
            dns_names: vec![name.to_string()],
            uris: vec![name.spiffe_id()],
            validity: Validity::lasting(LEAF_LIFETIME),
            kind: CertificateKind::EndEntity,
            key_usages: vec![KeyUsagePurpose::DigitalSignature],
            extended_key_usages: vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        }
    }

    fn subject(&self) -> DistinguishedName {
        let mut subject = DistinguishedName::new();
        if let Some(name) = &self.common_name {
            subject.push(DnType::CommonName, name.as_str());
        }
        subject
    }
}

/// A leaf with its key.
#[derive(Clone)]
pub struct Leaf {
    /// The leaf, then its authority.
    pub certificate_chain_pem: String,
    /// PKCS #8: a secret.
    pub key_pem: String,
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf")
            .field("certificate_chain_pem", &self.certificate_chain_pem)
            .finish_non_exhaustive()
    }
}
