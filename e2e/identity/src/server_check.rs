//! Checks an operator's pinhole certificate as its clients would, before Envoy uses it.

use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::{extensions::GeneralName, prelude::X509Certificate};

use super::import::parse;

/// All that is wrong with `chain`, the server's certificate first, as that of the server `name`; each reads on after the name of
/// the file. `roots` are those that clients trust; where they are none of our business, `None`.
pub(super) fn problems(
    chain: &[CertificateDer<'_>],
    name: &str,
    roots: Option<&[CertificateDer<'_>]>,
) -> Vec<String> {
    let Some((leaf, issuers)) = chain.split_first() else {
        return vec!["holds no PEM certificate".into()];
    };
    let Some(parsed) = parse(leaf) else {
        return vec!["holds no X.509 certificate".into()];
    };
    let now = Timestamp::now();
    let mut problems = vec![];
    validity(&parsed, now, &mut problems);
    if parsed.is_ca() {
        problems.push("is an authority's certificate, which no client takes for a server's".into());
        return problems;
    }
    if !is_for(leaf, name) {
        problems.push(format!("is for {}, not for `{name}`", names(&parsed)));
    }
    // What time it is was said already.
    if let Some(roots) = roots
        && problems.is_empty()
        && let Err(error) = verify(leaf, issuers, roots, now)
    {
        problems.push(match error {
            webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => format!(
                "was issued by `{}`, and nothing in `ca.crt` leads there",
                parsed.issuer()
            ),
            webpki::Error::RequiredEkuNotFoundContext(_) => {
                "is not for servers: its extended key usage lacks `serverAuth`".into()
            }
            error => format!("is refused by clients that trust `ca.crt`: {error}"),
        });
    }
    problems
}

fn validity(parsed: &X509Certificate<'_>, now: Timestamp, problems: &mut Vec<String>) {
    let at = |seconds| Timestamp::from_second(seconds).unwrap_or(now);
    let (start, end) = (
        at(parsed.validity().not_before.timestamp()),
        at(parsed.validity().not_after.timestamp()),
    );
    if start > now {
        problems.push(format!("is valid from {start} only"));
    }
    if end <= now {
        problems.push(format!("expired at {end}"));
    }
}

fn is_for(leaf: &CertificateDer<'_>, name: &str) -> bool {
    let server = ServerName::try_from(name.to_owned());
    let leaf = EndEntityCert::try_from(leaf);
    match (leaf, server) {
        (Ok(leaf), Ok(server)) => leaf.verify_is_valid_for_subject_name(&server).is_ok(),
        _ => false,
    }
}

/// The DNS names that it is for, for a message.
fn names(parsed: &X509Certificate<'_>) -> String {
    let found = parsed.subject_alternative_name().ok().flatten();
    let names: Vec<_> = found
        .iter()
        .flat_map(|found| &found.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(format!("`{}`", name.escape_debug())),
            _ => None,
        })
        .collect();
    match names.len() {
        0 => "no DNS name".into(),
        1..=3 => names.join(", "),
        more => format!("{} and {} more", names[..3].join(", "), more - 3),
    }
}

fn verify(
    leaf: &CertificateDer<'_>,
    issuers: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<(), webpki::Error> {
    let anchors: Vec<_> = roots
        .iter()
        .filter_map(|root| anchor_from_trusted_cert(root).ok())
        .collect();
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    EndEntityCert::try_from(leaf)?.verify_for_usage(
        ALL_VERIFICATION_ALGS,
        &anchors,
        issuers,
        UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
        KeyUsage::server_auth(),
        None,
        None,
    )?;
    Ok(())
}
