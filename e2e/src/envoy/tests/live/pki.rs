//! Identities as `wosp` publishes them: root, an authority that is bound to its pod's name, a short-lived leaf.

use std::{fs, path::Path};

use messages::{
    WorkloadName,
    env::{IDENTITY_FILE, ROOTS_FILE},
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use serde_json::{Value, json};

pub(in super::super) struct Pki {
    root: Issuer<'static, KeyPair>,
    root_pem: String,
}

fn authority(name: &str, path_length: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Pki {
    pub(in super::super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let params = authority("root", 1);
        let root_pem = params.self_signed(&key).unwrap().pem();
        Self {
            root: Issuer::new(params, key),
            root_pem,
        }
    }

    /// A leaf for `name`, made by the authority of `name`.
    pub(in super::super) fn publish(&self, folder: &Path, name: &WorkloadName) {
        self.publish_as(folder, name, name);
    }

    /// A leaf for `name`, made by the authority of `owner`.
    pub(in super::super) fn publish_as(
        &self,
        folder: &Path,
        owner: &WorkloadName,
        name: &WorkloadName,
    ) {
        let authority_key = KeyPair::generate().unwrap();
        let mut params = authority(owner.pod(), 0);
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(owner.to_string())],
            excluded_subtrees: vec![],
        });
        let authority_pem = params.signed_by(&authority_key, &self.root).unwrap().pem();
        let authority = Issuer::new(params, authority_key);

        let leaf_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_string()]).unwrap();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let leaf_pem = params.signed_by(&leaf_key, &authority).unwrap().pem();

        fs::create_dir_all(folder).unwrap();
        write(
            &folder.join(IDENTITY_FILE),
            "identity",
            "tls_certificate",
            json!({
                "certificate_chain": { "inline_string": leaf_pem + &authority_pem },
                "private_key": { "inline_string": leaf_key.serialize_pem() },
            }),
        );
        write(
            &folder.join(ROOTS_FILE),
            "roots",
            "validation_context",
            json!({ "trusted_ca": { "inline_string": self.root_pem } }),
        );
    }
}

fn write(file: &Path, name: &str, field: &str, content: Value) {
    let secret = json!({ "resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": name,
        field: content,
    }] });
    super::replace(file, &secret);
}
