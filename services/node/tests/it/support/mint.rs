//! Identities for tests, made as an environment makes them.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use messages::{WorkloadName, env, limits::BACKDATE};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints,
    SanType, date_time_ymd,
};
use rustls_pki_types::CertificateDer;

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// The root of one test.
pub(crate) struct Root(Issuer);

impl Root {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        Self(Issuer::self_signed(authority_params("test root", 1), key).unwrap())
    }

    pub(crate) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        vec![self.0.der().clone()]
    }

    /// Writes an identity of `name` into `dir` as `wosp` does: by one rename.
    pub(crate) fn issue(&self, name: &WorkloadName, dir: &Path, valid: Duration) {
        self.issue_aged(name, dir, valid, Duration::ZERO);
    }

    /// One that was minted some time ago, and has `left` to live.
    pub(crate) fn issue_aged(
        &self,
        name: &WorkloadName,
        dir: &Path,
        left: Duration,
        age: Duration,
    ) {
        let mut params = authority_params(&format!("authority of {name}"), 0);
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(name.to_string())],
            excluded_subtrees: vec![],
        });
        let authority = Issuer::signed_by(params, KeyPair::generate().unwrap(), &self.0).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![
            SanType::DnsName(name.to_string().try_into().unwrap()),
            SanType::URI(name.spiffe_id().try_into().unwrap()),
        ];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let epoch = date_time_ymd(1970, 1, 1);
        params.not_before = epoch + (now - age - BACKDATE);
        params.not_after = epoch + (now + left);
        let leaf = params.signed_by(&key, &authority).unwrap();
        let file = serde_json::json!({"resources": [{
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            "name": "identity",
            "tls_certificate": {
                "certificate_chain": {"inline_string": leaf.pem() + &authority.pem()},
                "private_key": {"inline_string": key.serialize_pem()},
            },
        }]});
        let new = dir.join("new");
        std::fs::write(&new, file.to_string()).unwrap();
        std::fs::rename(new, dir.join(env::IDENTITY_FILE)).unwrap();
    }
}

fn authority_params(common_name: &str, path: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
    params
}
