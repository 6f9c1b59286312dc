//! Reads the pod authority from its folder, and checks that it can sign for this pod.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use messages::{CertificateReport, KeyProblem, PrivateKey, WorkloadName};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::{extensions::GeneralName, prelude::X509Certificate};

/// The authority's certificate, PEM. Certificates between it and the root follow it.
pub const CERTIFICATE: &str = "tls.crt";
/// Its key, PEM: PKCS #8, or SEC1 as `openssl ecparam` and cert-manager write it.
pub const KEY: &str = "tls.key";
/// The trusted roots, PEM.
pub const ROOTS: &str = "ca.crt";

/// Larger files are refused unread: thousands of roots fit.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Most certificates from the authority to below the root. Ferry's own authorities have one; an
/// operator's CA may add intermediates.
const MAX_CHAIN: usize = 3;

/// The share of an authority's life that is left when its replacement is due: a fifth, 18 of 90
/// days. It is a share, not a number of hours, so that an authority that lives for minutes in a
/// test is not overdue from the start.
const RENEWAL_SHARE: i32 = 5;

/// Why there is no authority to mint with.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("cannot read `{path}`: {source}; mount the pod's authority there")]
    Read { path: PathBuf, source: io::Error },
    #[error("`{path}` {problem}; replace the pod's authority")]
    Broken { path: PathBuf, problem: String },
    /// It is not valid yet by this machine's clock. Time or a corrected clock resolves this.
    #[error(
        "the authority is valid from {from} on, and it is {now} on this machine; \
         set its clock right"
    )]
    Early { from: Timestamp, now: Timestamp },
    /// It was read and cannot sign for this pod.
    #[error("{0}; replace the pod's authority")]
    Refused(String),
}

impl AuthorityError {
    /// Returns true if a retry cannot help. A state that may be seen in the middle of a replacement
    /// is not such.
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

/// A pod authority that was read and checked.
pub struct Authority {
    pub(crate) key: KeyPair,
    certificate: CertificateDer<'static>,
    /// The authority's certificate first, then the intermediates.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) chain_pem: String,
    pub(crate) roots: Vec<CertificateDer<'static>>,
    roots_pem: String,
    not_before: Timestamp,
    not_after: Timestamp,
    warning: Option<String>,
}

impl Authority {
    /// Reads the authority of `name` from `folder`: [`CERTIFICATE`], [`KEY`] and [`ROOTS`].
    ///
    /// # Errors
    ///
    /// Returns the path of a file that cannot be read or parsed, or why the authority cannot sign
    /// for `name`.
    pub fn read(folder: &Path, name: &WorkloadName) -> Result<Self, AuthorityError> {
        // kubelet replaces a mounted Secret by pointing `..data` elsewhere. The folder that it
        // points to now is read, so that the three files are of one version.
        let data = folder.join("..data");
        let folder = data.canonicalize().unwrap_or_else(|_| folder.into());
        let certificate_path = folder.join(CERTIFICATE);
        let broken = |path: &Path, problem: &str| AuthorityError::Broken {
            path: path.into(),
            problem: problem.into(),
        };

        let certificate_pem = read(&certificate_path)?;
        let chain = certificates(&certificate_pem);
        let certificate = match &chain[..] {
            [own, ..] if chain.len() <= MAX_CHAIN => own.clone(),
            _ => {
                return Err(broken(
                    &certificate_path,
                    &format!("does not hold 1 to {MAX_CHAIN} certificates in PEM"),
                ));
            }
        };
        let parsed = parse(&certificate)
            .ok_or_else(|| broken(&certificate_path, "holds no X.509 certificate"))?;
        let key_path = folder.join(KEY);
        let key = PrivateKey::from_pem(&read(&key_path)?)
            .and_then(|key| key.of(parsed.public_key().raw))
            .map_err(|problem| match problem {
                KeyProblem::Mismatch => broken(
                    &certificate_path,
                    &format!("does not belong to the key in `{KEY}`"),
                ),
                problem => broken(
                    &key_path,
                    &format!("holds no ECDSA P-256 key: it {problem}"),
                ),
            })?;
        let key = KeyPair::try_from(&key)
            .ok()
            .filter(|key| key.is_compatible(&PKCS_ECDSA_P256_SHA256))
            .ok_or_else(|| broken(&key_path, "holds no ECDSA P-256 key"))?;
        let roots_path = folder.join(ROOTS);
        let roots_pem = read(&roots_path)?;
        let roots = certificates(&roots_pem);
        if roots.is_empty() {
            return Err(broken(&roots_path, "holds no certificate"));
        }

        if !parsed.is_ca() {
            return Err(AuthorityError::Refused(format!(
                "`{}` is not the certificate of an authority",
                certificate_path.display()
            )));
        }
        let warning = check_names(&parsed, name)?;
        let (not_before, not_after) = common_validity(&chain, &roots);
        Ok(Self {
            key,
            chain_pem: blocks(&certificate_pem),
            chain,
            certificate,
            roots,
            roots_pem,
            not_before,
            not_after,
            warning,
        })
    }

    /// Returns the trusted roots as they are in their file.
    pub fn roots_pem(&self) -> &str {
        &self.roots_pem
    }

    /// Returns when the authority and its chain become valid.
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Returns when the authority or its root expires, whichever is earlier. No identity outlives
    /// it.
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Returns true if less than a fifth of its life is left.
    pub fn is_renewal_due(&self, now: Timestamp) -> bool {
        let life = self.not_after.duration_since(self.not_before);
        self.not_after.duration_since(now) < life / RENEWAL_SHARE
    }

    /// Returns what is unsafe about an authority that works.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Returns true if `other` is the same certificate.
    pub fn is_same(&self, other: &CertificateDer<'_>) -> bool {
        self.certificate == *other
    }

    /// Returns the authority's certificate in DER.
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Returns the identifiers of the authority and of its roots, or `None` if one cannot be
    /// parsed.
    pub fn report(&self) -> Option<(CertificateReport, Vec<CertificateReport>)> {
        let roots = self.roots.iter().map(|root| CertificateReport::of(root));
        Some((
            CertificateReport::of(&self.certificate)?,
            roots.collect::<Option<_>>()?,
        ))
    }

    /// Returns the end of an identity of `lifetime` minted at `now`. Fails if the authority ends
    /// before.
    pub(crate) fn covers(
        &self,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Timestamp, AuthorityError> {
        if now < self.not_before {
            return Err(AuthorityError::Early {
                from: self.not_before,
                now,
            });
        }
        let end = now.saturating_add(lifetime).unwrap_or(Timestamp::MAX);
        if now >= self.not_after {
            return Err(AuthorityError::Refused(format!(
                "the authority expired at {}, and it is {now} on this machine",
                self.not_after
            )));
        }
        if end > self.not_after {
            return Err(AuthorityError::Refused(format!(
                "the authority expires at {}, before an identity of {lifetime:?} would",
                self.not_after
            )));
        }
        Ok(end)
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Fails if the name constraints (RFC 5280, 4.2.1.10) do not permit `name`. Returns a warning if
/// they permit others.
fn check_names(
    certificate: &X509Certificate<'_>,
    name: &WorkloadName,
) -> Result<Option<String>, AuthorityError> {
    let constraints = certificate.name_constraints().map_err(|_| {
        AuthorityError::Refused("the authority's name constraints cannot be read".into())
    })?;
    let permitted: Vec<&str> = constraints
        .as_ref()
        .and_then(|found| found.value.permitted_subtrees.as_ref())
        .into_iter()
        .flatten()
        .filter_map(|subtree| match subtree.base {
            GeneralName::DNSName(dns) => Some(dns),
            _ => None,
        })
        .collect();
    if permitted.is_empty() {
        return Ok(Some(
            "the authority is not constrained to this pod's name: a thief could sign for every pod"
                .into(),
        ));
    }
    let own = name.to_string();
    let covers = |base: &str| {
        let base = base.trim_start_matches('.').to_ascii_lowercase();
        own == base || own.ends_with(&format!(".{base}"))
    };
    if !permitted.iter().any(|base| covers(base)) {
        return Err(AuthorityError::Refused(format!(
            "the authority is for `{}` and this pod is `{own}`",
            permitted.join("`, `")
        )));
    }
    let critical = constraints.is_some_and(|found| found.critical);
    Ok(match permitted[..] {
        [only] if only.eq_ignore_ascii_case(&own) && critical => None,
        [only] if only.eq_ignore_ascii_case(&own) => Some(
            "the authority's name constraints are not critical: a verifier may ignore them".into(),
        ),
        _ => Some(format!(
            "the authority is for `{}`: more than this pod, `{own}`",
            permitted.join("`, `")
        )),
    })
}

fn read(path: &Path) -> Result<String, AuthorityError> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        File::open(path)?
            .take(MAX_BYTES + 1)
            .read_to_string(&mut text)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(io::Error::other(format!(
                "it is larger than {MAX_BYTES} bytes"
            )));
        }
        Ok(text)
    };
    read().map_err(|source| AuthorityError::Read {
        path: path.into(),
        source,
    })
}

/// Returns all certificates of a PEM file, or none if one of them is broken.
fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    // Some editors write a byte order mark, which would hide the first line.
    CertificateDer::pem_slice_iter(pem.trim_start_matches('\u{feff}').as_bytes())
        .collect::<Result<_, _>>()
        .unwrap_or_default()
}

fn parse<'a>(der: &'a CertificateDer<'a>) -> Option<X509Certificate<'a>> {
    let (rest, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    rest.is_empty().then_some(certificate)
}

fn validity(certificate: &X509Certificate<'_>) -> (Timestamp, Timestamp) {
    let validity = certificate.validity();
    let at = |seconds| Timestamp::from_second(seconds).ok();
    (
        at(validity.not_before.timestamp()).unwrap_or(Timestamp::MIN),
        at(validity.not_after.timestamp()).unwrap_or(Timestamp::MAX),
    )
}

/// Returns when the chain and its root are valid: the limits of every leaf. While a root is
/// replaced, several may have the last issuer's name; the longest-lived counts.
fn common_validity(
    chain: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
) -> (Timestamp, Timestamp) {
    let parsed: Vec<_> = chain.iter().filter_map(parse).collect();
    let root_end = parsed.last().and_then(|last| {
        roots
            .iter()
            .filter_map(parse)
            .filter(|root| root.subject().as_raw() == last.issuer().as_raw())
            .map(|root| validity(&root).1)
            .max()
    });
    let ends = parsed.iter().map(|certificate| validity(certificate).1);
    (
        parsed
            .iter()
            .map(|certificate| validity(certificate).0)
            .max()
            .unwrap_or(Timestamp::MAX),
        ends.chain(root_end).min().unwrap_or(Timestamp::MIN),
    )
}

/// Returns the PEM blocks without the text around them, ending in a line break.
fn blocks(text: &str) -> String {
    let start = text.find("-----BEGIN CERTIFICATE-----").unwrap_or(0);
    let marker = "-----END CERTIFICATE-----";
    let end = text
        .rfind(marker)
        .map_or(text.len(), |at| at + marker.len());
    format!("{}\n", text.get(start..end).unwrap_or(text))
}
