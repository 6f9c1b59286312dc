//! Roots and authorities as the harness makes them, and variations that must be refused.

use std::{path::Path, time::Duration};

use jiff::Timestamp;
use messages::WorkloadName;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, GeneralSubtree, IsCa, KeyPair,
    KeyUsagePurpose, NameConstraints,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use serde_json::Value;
use tempfile::TempDir;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring::ECDSA_P256_SHA256};
use wosp::authority::{CERTIFICATE, KEY, ROOTS};

pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);

pub(crate) fn sink() -> WorkloadName {
    "sink.cluster-b.international-ferry.ferry.internal"
        .parse()
        .unwrap()
}

pub(crate) fn gateway() -> WorkloadName {
    "gateway.cluster-a.international-ferry.ferry.internal"
        .parse()
        .unwrap()
}

/// The fields of an authority's or a root's certificate.
pub(crate) struct Request {
    pub(crate) common_name: &'static str,
    pub(crate) permitted: Vec<String>,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) is_ca: IsCa,
}

impl Request {
    /// A good authority for `name`, an hour old, with `left` to live.
    pub(crate) fn of(name: &WorkloadName, left: Duration) -> Self {
        let now = Timestamp::now();
        Self {
            common_name: "authority",
            permitted: vec![name.to_string()],
            not_before: now - HOUR,
            not_after: now + left,
            is_ca: IsCa::Ca(BasicConstraints::Constrained(0)),
        }
    }

    fn parameters(&self) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters
            .distinguished_name
            .push(DnType::CommonName, self.common_name);
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let since = |at: Timestamp| Duration::from_secs(at.as_second().try_into().unwrap());
        parameters.not_before = epoch + since(self.not_before);
        parameters.not_after = epoch + since(self.not_after);
        parameters.is_ca = self.is_ca;
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        parameters.name_constraints = Some(NameConstraints {
            permitted_subtrees: self
                .permitted
                .iter()
                .cloned()
                .map(GeneralSubtree::DnsName)
                .collect(),
            excluded_subtrees: vec![],
        });
        parameters
    }
}

pub(crate) type Issuer = CertifiedIssuer<'static, KeyPair>;

/// A root with `left` to live.
pub(crate) fn root(left: Duration) -> Issuer {
    let mut request = Request::of(&sink(), left);
    request.common_name = "root";
    request.permitted.clear();
    request.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Issuer::self_signed(request.parameters(), KeyPair::generate().unwrap()).unwrap()
}

/// An authority below `root` that may have others below it.
pub(crate) fn issuer_below(root: &Issuer, request: &Request) -> Issuer {
    Issuer::signed_by(request.parameters(), KeyPair::generate().unwrap(), root).unwrap()
}

/// Writes an authority below `root` into `folder`, as a Secret would lie there.
pub(crate) fn write_authority(folder: &Path, root: &Issuer, request: &Request) {
    let key = KeyPair::generate().unwrap();
    let certificate = request.parameters().signed_by(&key, root).unwrap();
    write(folder, CERTIFICATE, &certificate.pem());
    write(folder, KEY, &key.serialize_pem());
    write(folder, ROOTS, &root.pem());
}

/// Returns a folder with an authority below `root`.
pub(crate) fn authority_folder(root: &Issuer, request: &Request) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_authority(folder.path(), root, request);
    folder
}

pub(crate) fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

/// Verifies a chain at `at` as a peer does that trusts `root` and pins `name`.
pub(crate) fn verify(
    root: &CertificateDer<'_>,
    chain_pem: &str,
    name: &WorkloadName,
    at: Timestamp,
) -> Result<(), webpki::Error> {
    let chain = certificates(chain_pem);
    let anchors = [anchor_from_trusted_cert(root).unwrap()];
    let end = EndEntityCert::try_from(&chain[0]).unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at.as_second().try_into().unwrap()));
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        end.verify_for_usage(
            &[ECDSA_P256_SHA256],
            &anchors,
            &chain[1..],
            at,
            usage,
            None,
            None,
        )?;
    }
    end.verify_is_valid_for_subject_name(&ServerName::try_from(name.to_string()).unwrap())
}

pub(crate) fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(Result::unwrap)
        .collect()
}

/// A published file, parsed; its one resource.
pub(crate) fn resource(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["resources"].as_array().unwrap().len(), 1);
    value["resources"][0].clone()
}
