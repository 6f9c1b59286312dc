//! Certificates for tests, made as an environment makes them, and as an attacker would.

use std::time::Duration;

use messages::{Hop, Role, Timestamp, WorkloadName, signature::Signer};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints,
    SanType, date_time_ymd,
};
use rustls_pki_types::CertificateDer;

pub(crate) type Issuer = CertifiedIssuer<'static, KeyPair>;

/// Years in which a certificate is valid: from the first day of the one to the first of the other.
pub(crate) type Years = (i32, i32);

pub(crate) const YEARS: Years = (2026, 2100);

pub(crate) fn workload(pod: &str, cluster: &str) -> WorkloadName {
    WorkloadName::new("international-ferry", cluster, pod).unwrap()
}

fn authority_params(common_name: &str, path: u8, years: Years) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 1, 1);
    params
}

pub(crate) fn root() -> Issuer {
    let params = authority_params("Ferry test root, worthless", 1, YEARS);
    Issuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

pub(crate) fn roots(root: &Issuer) -> Vec<CertificateDer<'static>> {
    vec![root.der().clone()]
}

/// The authority of a pod: path length 0, constrained to the pod's own name.
pub(crate) fn authority(root: &Issuer, name: &WorkloadName) -> Issuer {
    authority_of(root, name, YEARS)
}

pub(crate) fn authority_of(root: &Issuer, name: &WorkloadName, years: Years) -> Issuer {
    authority_titled(&format!("authority of {name}"), root, name, years)
}

pub(crate) fn authority_titled(
    title: &str,
    root: &Issuer,
    name: &WorkloadName,
    years: Years,
) -> Issuer {
    let mut params = authority_params(title, 0, years);
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(name.to_string())],
        excluded_subtrees: vec![],
    });
    Issuer::signed_by(params, KeyPair::generate().unwrap(), root).unwrap()
}

/// An identity in use: what `wosp` would have written.
pub(crate) struct Leaf {
    pub(crate) chain_pem: String,
    pub(crate) key_pem: String,
    pub(crate) chain: Vec<CertificateDer<'static>>,
}

impl Leaf {
    pub(crate) fn signer(&self) -> Signer {
        Signer::from_pem(&self.chain_pem, &self.key_pem).unwrap()
    }

    pub(crate) fn identity_file(&self) -> String {
        serde_json::json!({"resources": [{
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            "name": "identity",
            "tls_certificate": {
                "certificate_chain": {"inline_string": self.chain_pem},
                "private_key": {"inline_string": self.key_pem},
            },
        }]})
        .to_string()
    }
}

pub(crate) fn leaf(authority: &Issuer, name: &WorkloadName) -> Leaf {
    leaf_of(&[authority], &[name], YEARS)
}

/// A leaf by the first of `issuers`, with all of them in its chain.
pub(crate) fn leaf_of(issuers: &[&Issuer], names: &[&WorkloadName], years: Years) -> Leaf {
    leaf_with(issuers, names, |params| {
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
    })
}

/// A leaf that is valid so many seconds, from the first second of 2027 on.
pub(crate) fn leaf_for(authority: &Issuer, name: &WorkloadName, seconds: u64) -> Leaf {
    leaf_with(&[authority], &[name], |params| {
        params.not_before = date_time_ymd(2027, 1, 1);
        params.not_after = params.not_before + Duration::from_secs(seconds);
    })
}

/// A leaf by the first of `issuers`, whose validity `valid` sets.
pub(crate) fn leaf_with(
    issuers: &[&Issuer],
    names: &[&WorkloadName],
    valid: impl FnOnce(&mut CertificateParams),
) -> Leaf {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for name in names {
        let dns = name.to_string().try_into().unwrap();
        let uri = name.spiffe_id().try_into().unwrap();
        params
            .subject_alt_names
            .extend([SanType::DnsName(dns), SanType::URI(uri)]);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    valid(&mut params);
    let certificate = params.signed_by(&key, issuers[0]).unwrap();
    let issuers_pem: String = issuers.iter().map(|issuer| issuer.pem()).collect();
    Leaf {
        chain_pem: certificate.pem() + &issuers_pem,
        key_pem: key.serialize_pem(),
        chain: std::iter::once(certificate.der().clone())
            .chain(issuers.iter().map(|issuer| issuer.der().clone()))
            .collect(),
    }
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The unsigned hop of `name`, `second` seconds into a minute.
pub(crate) fn hop(name: &WorkloadName, role: Role, second: u8) -> Hop {
    Hop {
        pod: format!("{}-6d4f5c-x2k4p", name.pod()),
        role,
        cluster: name.cluster().into(),
        namespace: name.namespace(),
        node: format!("k3d-{}-agent-0", name.cluster()),
        at: at(&format!("2026-11-22T18:53:{second:02}.000001Z")),
        signature: String::new(),
    }
}
