//! Checks authorities that an operator's CA has signed, before any pod uses them.

use std::{collections::BTreeMap, path::Path, time::Duration};

use blueprint::failure::Failure;
use jiff::Timestamp;
use messages::WorkloadName;
use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::CertificateDer;
use webpki::anchor_from_trusted_cert;
use x509_parser::{
    extensions::{GeneralName, ParsedExtension},
    prelude::X509Certificate,
};

use super::{
    Authority, Root, files,
    request::{key_of, stem},
    sample::sample,
};

/// In the folder that is imported: the certificate of the root that has signed the others.
pub const IMPORT_ROOT: &str = "root.crt";
/// An authority or root must be valid at least this much longer.
const SHORTEST: Duration = Duration::from_secs(60 * 60);

/// Name of the file with a pod's certificate: `international-ferry.cluster-b.sink.crt`.
pub fn certificate_file(name: &WorkloadName) -> String {
    format!("{}.crt", stem(name))
}

/// An operator's root, and the authorities that it has signed.
#[derive(Debug)]
pub struct Signed {
    pub root: Root,
    pub authorities: BTreeMap<WorkloadName, Authority>,
}

impl Signed {
    /// Reads [`IMPORT_ROOT`] and the [`certificate_file`] of each of `pods` from `folder`. `identity` is the environment's
    /// identity folder, which has the keys and the root of now: under a new root every pod needs a certificate.
    ///
    /// # Errors
    /// One usage failure with every problem found, each with its file.
    pub fn read(identity: &Path, folder: &Path, pods: &[&WorkloadName]) -> anyhow::Result<Self> {
        let mut problems = vec![];
        let root = match read_root(folder) {
            Ok(root) => Some(root),
            Err(found) => {
                problems.extend(found);
                None
            }
        };
        let known = Root::load(identity).ok();
        let is_known = root
            .as_ref()
            .zip(known.as_ref())
            .is_some_and(|(new, now)| new.certificate_der() == now.certificate_der());
        let mut authorities = BTreeMap::new();
        for name in pods {
            let file = certificate_file(name);
            let Some(text) = read(folder, &file, &mut problems) else {
                if !is_known {
                    problems.push(format!(
                        "`{file}` is missing: under a new root every pod needs one"
                    ));
                }
                continue;
            };
            let Some(key) = key_of(identity, name)? else {
                problems.push(format!(
                    "`{file}`: no request of this pod is open, see `cargo xtask identity export`"
                ));
                continue;
            };
            let Some(root) = &root else { continue };
            match check(name, &text, key, root) {
                Ok(authority) => {
                    authorities.insert((*name).clone(), authority);
                }
                Err(found) => {
                    problems.extend(found.into_iter().map(|what| format!("`{file}` {what}")));
                }
            }
        }
        match root {
            Some(root) if problems.is_empty() && !authorities.is_empty() => {
                Ok(Self { root, authorities })
            }
            _ => {
                if problems.is_empty() {
                    problems.push("it holds no certificate of a pod of this environment".into());
                }
                Err(Failure::usage(format!(
                    "cannot import `{}`; nothing was changed\n  {}",
                    folder.display(),
                    problems.join("\n  ")
                ))
                .hint(format!(
                    "sign the requests of `cargo xtask identity export` unchanged, and put each \
                     certificate beside `{IMPORT_ROOT}`, for example as `{}`",
                    pods.first()
                        .map(|name| certificate_file(name))
                        .unwrap_or_default()
                ))
                .into())
            }
        }
    }
}

/// A file's text; `None` where there is no such file, with a problem where it cannot be read.
fn read(folder: &Path, file: &str, problems: &mut Vec<String>) -> Option<String> {
    match std::fs::read(folder.join(file)).and_then(blueprint::text::decode) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            problems.push(format!(
                "`{file}` is not PEM; if it is DER, run \
                 `openssl x509 -inform DER -in {file} -out {file}.pem`"
            ));
            None
        }
        Err(error) => {
            problems.push(format!("`{file}` cannot be read: {error}"));
            None
        }
    }
}

fn read_root(folder: &Path) -> Result<Root, Vec<String>> {
    let mut problems = vec![];
    let Some(text) = read(folder, IMPORT_ROOT, &mut problems) else {
        if problems.is_empty() {
            problems.push(format!(
                "`{IMPORT_ROOT}` is missing: the certificate of the root that has signed the others"
            ));
        }
        return Err(problems);
    };
    root(&text).map_err(|found| {
        let named = |what: String| format!("`{IMPORT_ROOT}` {what}");
        found.into_iter().map(named).collect()
    })
}

/// A root from its certificate; else everything that is wrong with it.
pub(super) fn root(text: &str) -> Result<Root, Vec<String>> {
    let all = files::certificates(text);
    let [certificate] = &all[..] else {
        return Err(vec!["does not hold exactly one certificate in PEM".into()]);
    };
    let Some(parsed) = parse(certificate) else {
        return Err(vec!["holds no X.509 certificate".into()]);
    };
    let mut problems = vec![];
    if parsed.subject().as_raw() != parsed.issuer().as_raw() {
        problems.push(format!(
            "is no root: `{}` has issued it, and a chain must end at a certificate that is its own issuer",
            parsed.issuer()
        ));
    }
    may_sign(&parsed, &mut problems);
    if parsed
        .basic_constraints()
        .ok()
        .flatten()
        .is_some_and(|found| found.value.path_len_constraint == Some(0))
    {
        problems.push("has path length 0, so no authority may stand below it".into());
    }
    is_valid_long(&parsed, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    Root::without_key(certificate.clone(), files::pem(certificate))
        .map_err(|error| vec![format!("cannot be used: {error:#}")])
}

/// The authority of `name` from its certificate and the key of its request; else everything that is wrong with it.
pub(super) fn check(
    name: &WorkloadName,
    text: &str,
    key: KeyPair,
    root: &Root,
) -> Result<Authority, Vec<String>> {
    let mut all = files::certificates(text);
    // Tools that write the chain may end it with the root, which stands in its own file.
    all.retain(|certificate| certificate != root.certificate_der());
    let certificate = match &all[..] {
        [only] => only,
        [] if text.contains("PRIVATE KEY-----") => {
            return Err(vec!["holds a private key and no certificate".into()]);
        }
        [] => return Err(vec!["holds no PEM certificate".into()]),
        [..] => return Err(vec![between(None)]),
    };
    let Some(parsed) = parse(certificate) else {
        return Err(vec!["holds no X.509 certificate".into()]);
    };
    let mut problems = vec![];
    if parsed.public_key().raw != key.subject_public_key_info() {
        problems.push("is of another key than the request".into());
    }
    may_sign(&parsed, &mut problems);
    let length = parsed.basic_constraints().ok().flatten();
    match length.map(|found| found.value.path_len_constraint) {
        Some(Some(0)) => {}
        Some(Some(length)) => problems.push(format!(
            "has path length {length}: whoever steals it could make authorities of its own; it must be 0"
        )),
        _ => problems.push(
            "has no path length: whoever steals it could make authorities of its own; it must be 0"
                .into(),
        ),
    }
    names(&parsed, name, &mut problems);
    is_valid_long(&parsed, &mut problems);
    let by_root = anchor_from_trusted_cert(root.certificate_der())
        .is_ok_and(|anchor| is_subject(&anchor.subject, parsed.issuer().as_raw()));
    if !by_root {
        problems.push(between(Some(parsed.issuer().to_string())));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let authority = Authority::of_parts(
        key,
        certificate.clone(),
        files::pem(certificate),
        root.certificate_pem().to_owned(),
    );
    // What no list of rules foresees: an identity is made and looked at as a peer would.
    match sample(
        &authority,
        name,
        std::slice::from_ref(root.certificate_der()),
    ) {
        Ok(()) => Ok(authority),
        Err(problem) => Err(vec![problem]),
    }
}

/// A trust anchor has the content of the name, without its tag and length.
fn is_subject(anchor: &[u8], issuer: &[u8]) -> bool {
    issuer.ends_with(anchor) && issuer.len() <= anchor.len() + 4
}

fn between(issuer: Option<String>) -> String {
    let who = issuer.map_or_else(
        || "holds another certificate between the authority and the root".to_owned(),
        |issuer| format!("was issued by `{issuer}`, which is not the subject of `{IMPORT_ROOT}`"),
    );
    format!(
        "{who}: pods accept identity, authority, root and nothing between, so the root itself must sign"
    )
}

fn may_sign(parsed: &X509Certificate<'_>, problems: &mut Vec<String>) {
    if !parsed.is_ca() {
        problems
            .push("is no authority's certificate: its basic constraints must say `CA:TRUE`".into());
    }
    let usage = parsed.key_usage().ok().flatten();
    if usage.is_some_and(|found| !found.value.key_cert_sign()) {
        problems.push("may not sign certificates: its key usage lacks `keyCertSign`".into());
    }
}

fn is_valid_long(parsed: &X509Certificate<'_>, problems: &mut Vec<String>) {
    let now = Timestamp::now();
    let at = |seconds| Timestamp::from_second(seconds).unwrap_or(now);
    let start = at(parsed.validity().not_before.timestamp());
    let end = at(parsed.validity().not_after.timestamp());
    if start > now {
        problems.push(format!("is valid from {start} only"));
    }
    if end <= now {
        problems.push(format!("expired at {end}"));
    } else if end < now.saturating_add(SHORTEST).unwrap_or(now) {
        problems.push(format!("expires at {end}, within an hour"));
    }
}

/// The permitted names must be that of the pod and no other, and bind every reader.
fn names(parsed: &X509Certificate<'_>, name: &WorkloadName, problems: &mut Vec<String>) {
    let own = name.to_string();
    let found =
        parsed
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::NameConstraints(names) => Some((extension.critical, names)),
                _ => None,
            });
    let Some((critical, names)) = found else {
        problems.push(format!(
            "has no name constraints: whoever steals it could speak for every pod; they must permit `DNS:{own}` and nothing else"
        ));
        return;
    };
    if !critical {
        problems
            .push("has name constraints that are not critical: a verifier may ignore them".into());
    }
    let permitted = names.permitted_subtrees.as_deref().unwrap_or_default();
    let only_own =
        matches!(permitted, [only] if matches!(only.base, GeneralName::DNSName(dns) if dns == own));
    if !only_own {
        let shown: Vec<_> = permitted
            .iter()
            .map(|subtree| subtree.base.to_string())
            .collect();
        problems.push(format!(
            "has name constraints that permit `{}`; they must permit `DNS:{own}` and nothing else",
            shown.join(", ")
        ));
    }
}

pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (rest, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
    rest.is_empty().then_some(parsed)
}

#[cfg(test)]
mod tests;
