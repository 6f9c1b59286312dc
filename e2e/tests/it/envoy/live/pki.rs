//! Identities as `wosp` publishes them: root, an authority that is bound to its pod's name, a short-lived leaf.

use std::{path::Path, sync::Arc};

use messages::{
    CertificateReport, WorkloadName,
    env::{IDENTITY_FILE, ROOTS_FILE},
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion},
};

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
        let params = authority("root", 2);
        let root_pem = params.self_signed(&key).unwrap().pem();
        Self {
            root: Issuer::new(params, key),
            root_pem,
        }
    }

    /// A client that trusts the root and has no identity.
    pub(in super::super) fn stranger(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.root_pem.as_bytes()).unwrap())
            .unwrap();
        let config = ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config).into()
    }

    /// A leaf for `name`, made by the authority of `name`.
    pub(in super::super) fn publish(&self, folder: &Path, name: &WorkloadName) {
        self.publish_as(folder, name, &name.to_string());
    }

    /// A leaf for `name`, made by the authority of `owner`.
    pub(in super::super) fn publish_as(&self, folder: &Path, owner: &WorkloadName, name: &str) {
        let (pem, authority) = self.authority(owner, 0);
        self.publish_by(folder, name, &authority, &pem);
    }

    /// The leaf that is in a folder that was published into.
    pub(in super::super) fn published(folder: &Path) -> CertificateReport {
        let file = std::fs::read(folder.join(IDENTITY_FILE)).unwrap();
        let file: Value = serde_json::from_slice(&file).unwrap();
        let chain = &file["resources"][0]["tls_certificate"]["certificate_chain"]["inline_string"];
        let leaf = CertificateDer::from_pem_slice(chain.as_str().unwrap().as_bytes()).unwrap();
        CertificateReport::of(&leaf).unwrap()
    }

    /// A leaf for `name`, made by an authority below its own, which has this path length.
    pub(in super::super) fn publish_below(
        &self,
        folder: &Path,
        name: &WorkloadName,
        path_length: u8,
    ) {
        let (own_pem, own) = self.authority(name, path_length);
        let key = KeyPair::generate().unwrap();
        let params = authority("second", 0);
        let pem = params.signed_by(&key, &own).unwrap().pem() + &own_pem;
        self.publish_by(folder, &name.to_string(), &Issuer::new(params, key), &pem);
    }

    fn authority(
        &self,
        owner: &WorkloadName,
        path_length: u8,
    ) -> (String, Issuer<'static, KeyPair>) {
        let authority_key = KeyPair::generate().unwrap();
        let mut params = authority(owner.pod(), path_length);
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(owner.to_string())],
            excluded_subtrees: vec![],
        });
        let authority_pem = params.signed_by(&authority_key, &self.root).unwrap().pem();
        (authority_pem, Issuer::new(params, authority_key))
    }

    fn publish_by(
        &self,
        folder: &Path,
        name: &str,
        authority: &Issuer<'_, KeyPair>,
        issuers_pem: &str,
    ) {
        let leaf_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let leaf_pem = params.signed_by(&leaf_key, authority).unwrap().pem();

        write(
            &folder.join(IDENTITY_FILE),
            "identity",
            "tls_certificate",
            json!({
                "certificate_chain": { "inline_string": leaf_pem + issuers_pem },
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
    super::lab::replace(file, &secret);
}
