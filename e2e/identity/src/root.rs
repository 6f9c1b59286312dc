//! The root of an environment.

use std::{fmt, path::Path};

use anyhow::Context as _;
use blueprint::failure::Failure;
use jiff::Timestamp;
use messages::{CertificateReport, WorkloadName};
use rcgen::{BasicConstraints, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::CertificateDer;

use super::{
    AUTHORITY_LIFETIME, Authority, AuthorityRequest, ROOT_LIFETIME, Validity, files, new_key,
    parameters,
};

/// In a root's folder: its certificate, PEM.
pub const ROOT_CERTIFICATE: &str = "root.crt";
/// In a root's folder: its key, PEM, which Ferry writes as PKCS #8. No cluster ever sees it.
pub const ROOT_KEY: &str = "root.key";

/// What every certificate of an environment goes back to.
pub struct Root {
    /// `None` where it is an operator's own, who keeps it.
    key: Option<KeyPair>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    not_after: Timestamp,
}

impl Root {
    /// A new root named `Ferry root <label>`, valid for [`ROOT_LIFETIME`]. The label is the environment's name; what
    /// does not fit a common name (64 characters, RFC 5280 appendix A.1) is cut.
    pub fn create(label: &str) -> anyhow::Result<Self> {
        let key = new_key()?;
        let mut subject = DistinguishedName::new();
        let name: String = format!("Ferry root {label}").chars().take(64).collect();
        subject.push(DnType::CommonName, name);
        let mut parameters = parameters(subject, Validity::lasting(ROOT_LIFETIME))?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = parameters.self_signed(&key).context("sign the root")?;
        Self::of(Some(key), certificate.der().clone(), certificate.pem())
    }

    /// One whose key is elsewhere.
    pub(super) fn without_key(
        certificate: CertificateDer<'static>,
        certificate_pem: String,
    ) -> anyhow::Result<Self> {
        Self::of(None, certificate, certificate_pem)
    }

    fn of(
        key: Option<KeyPair>,
        certificate: CertificateDer<'static>,
        certificate_pem: String,
    ) -> anyhow::Result<Self> {
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&certificate).context("read the root back")?;
        let not_after =
            Timestamp::from_second(parsed.validity().not_after.timestamp()).context("its end")?;
        Ok(Self {
            key,
            certificate,
            certificate_pem,
            not_after,
        })
    }

    /// Writes [`ROOT_CERTIFICATE`] and, where it is here, [`ROOT_KEY`] (mode 0600) into `folder`, which is made (mode 0700)
    /// where missing; both at once.
    pub fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let key = self.key.as_ref().map(KeyPair::serialize_pem);
        files::replace_together(
            folder,
            &[
                (ROOT_KEY, key.as_deref()),
                (ROOT_CERTIFICATE, Some(&self.certificate_pem)),
            ],
        )
    }

    /// Reads what [`Self::save`] wrote, and checks that the key is closed to others and belongs to the certificate, and
    /// that the certificate is an authority's and valid now. Without a key it is an operator's own root.
    pub fn load(folder: &Path) -> anyhow::Result<Self> {
        let certificate = files::read_certificate(folder, ROOT_CERTIFICATE)?;
        let key = match folder.join(ROOT_KEY).exists() {
            true => Some(files::read_key_of(
                folder,
                ROOT_KEY,
                std::slice::from_ref(&certificate),
                ROOT_CERTIFICATE,
            )?),
            false => None,
        };
        let path = folder.join(ROOT_CERTIFICATE);
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)
            .map_err(|_| files::broken(&path, "is no certificate"))?;
        if !parsed.is_ca() {
            return Err(files::broken(&path, "is no authority's certificate"));
        }
        let text = files::read(folder, ROOT_CERTIFICATE)?;
        let root = Self::of(key, certificate.clone(), text)?;
        if root.not_after <= Timestamp::now() {
            return Err(Failure::infrastructure(format!(
                "the root in `{}` expired at {}",
                path.display(),
                root.not_after
            ))
            .hint(match root.key {
                Some(_) => "remove and recreate the environment: a root is valid for one year",
                None => {
                    "run `cargo xtask identity import` with another root and the \
                         certificates that it has signed"
                }
            })
            .into());
        }
        Ok(root)
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// What trails are checked against.
    pub const fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Unique identifier.
    pub fn report(&self) -> anyhow::Result<CertificateReport> {
        CertificateReport::of(&self.certificate).context("read the root back")
    }

    /// Whether it can sign here.
    pub const fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// The end of its validity.
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// An authority for the pod `name`, valid for [`AUTHORITY_LIFETIME`] but never longer than the root.
    pub fn authority(&self, name: &WorkloadName) -> anyhow::Result<Authority> {
        let mut request = AuthorityRequest::of(name, Validity::lasting(AUTHORITY_LIFETIME));
        request.validity.not_after = request.validity.not_after.min(self.not_after);
        self.authority_as_asked(&request)
    }

    /// An authority exactly as asked, sensible or not.
    pub fn authority_as_asked(&self, request: &AuthorityRequest) -> anyhow::Result<Authority> {
        Authority::issue(request, &self.issuer()?, self.certificate_pem.clone())
    }

    pub(super) fn issuer(&self) -> anyhow::Result<Issuer<'_, &KeyPair>> {
        let key = self.key.as_ref().ok_or_else(|| {
            Failure::usage("cannot issue an authority: the root's key is not in the state folder").hint(
                "run `cargo xtask identity export`, have the requests signed by the owner of the \
                 key, and `import` the certificates; or run `cargo xtask identity rotate --root` \
                 for a root of Ferry",
            )
        })?;
        Issuer::from_ca_cert_der(&self.certificate, key).context("take the root as issuer")
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}
