//! The pod authority as it lies in its folder, and whether it can speak for this pod.

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

/// The authority's certificate, PEM; what stands between it and the root, if anything, follows it.
pub const CERTIFICATE: &str = "tls.crt";
/// Its key, PEM: PKCS #8, or SEC1 as `openssl ecparam` and cert-manager write it.
pub const KEY: &str = "tls.key";
/// The trusted roots, PEM.
pub const ROOTS: &str = "ca.crt";

/// Larger files are refused unread: thousands of roots fit.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Most certificates from the authority to below the root. Ferry's own authorities have one; an operator's CA may put
/// others between.
const MAX_CHAIN: usize = 3;

/// The share of an authority's life that is left when its replacement is due: a fifth, 18 of 90 days. A share and not a
/// number of hours, so that an authority that lives for minutes in a test is not overdue from birth.
const RENEWAL_SHARE: i32 = 5;

/// Why there is no authority to mint with.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("cannot read `{path}`: {source}; mount the pod's authority there")]
    Read { path: PathBuf, source: io::Error },
    #[error("`{path}` {problem}; replace the pod's authority")]
    Broken { path: PathBuf, problem: String },
    /// By this machine's clock it is not valid yet, which time or a right clock mends.
    #[error(
        "the authority is valid from {from} only, and it is {now} on this machine; set its clock right"
    )]
    Early { from: Timestamp, now: Timestamp },
    /// What is there was read well and cannot speak for this pod.
    #[error("{0}; replace the pod's authority")]
    Refused(String),
}

impl AuthorityError {
    /// True when trying again cannot help: not for what may be seen in the middle of a replacement.
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

/// A pod authority that was read and found fit.
pub struct Authority {
    pub(crate) key: KeyPair,
    certificate: CertificateDer<'static>,
    /// The authority's certificate first, then those between it and the root, if any.
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
    pub fn read(folder: &Path, name: &WorkloadName) -> Result<Self, AuthorityError> {
        // The kubelet replaces a mounted Secret by pointing `..data` elsewhere. Read through the folder that it points to
        // now, so that the three files are of one version.
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
                "`{}` is no authority's certificate",
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

    /// The trusted roots as they lie in their file.
    pub fn roots_pem(&self) -> &str {
        &self.roots_pem
    }

    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// When it ends, or its root where that is earlier: nothing is minted beyond.
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// True when less than a fifth of its life is left.
    pub fn is_renewal_due(&self, now: Timestamp) -> bool {
        let life = self.not_after.duration_since(self.not_before);
        self.not_after.duration_since(now) < life / RENEWAL_SHARE
    }

    /// What is unsafe about it though it works.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// True if `other` is the same certificate.
    pub fn is_same(&self, other: &CertificateDer<'_>) -> bool {
        self.certificate == *other
    }

    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// How it and the roots beside it are told from others.
    pub fn report(&self) -> Option<(CertificateReport, Vec<CertificateReport>)> {
        let roots = self.roots.iter().map(|root| CertificateReport::of(root));
        Some((
            CertificateReport::of(&self.certificate)?,
            roots.collect::<Option<_>>()?,
        ))
    }

    /// The end of an identity of `lifetime` minted at `now`, refused if the authority ends before.
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

/// Refuses an authority whose name constraints (RFC 5280, 4.2.1.10) leave out `name`; warns of one that could speak for others.
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
            "the authority is not constrained to this pod's name: whoever steals it can speak for every pod".into(),
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

/// All certificates of a PEM file; none if one of them is broken.
fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    // Some editors put a mark first, which would hide the first line.
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

/// When the chain and its root are valid: a leaf must not go beyond. Of several roots that bear the last issuer's name,
/// as while a root is replaced, the longest-lived counts.
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

/// The PEM blocks without what a file may have around them, ending in a line break.
fn blocks(text: &str) -> String {
    let start = text.find("-----BEGIN CERTIFICATE-----").unwrap_or(0);
    let marker = "-----END CERTIFICATE-----";
    let end = text
        .rfind(marker)
        .map_or(text.len(), |at| at + marker.len());
    format!("{}\n", text.get(start..end).unwrap_or(text))
}
