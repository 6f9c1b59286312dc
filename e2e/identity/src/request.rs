//! Requests (PKCS #10, RFC 2986) for authorities that an operator's CA signs. The keys stay in
//! the state folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use messages::{WorkloadName, der::tagged};
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, KeyPair, KeyUsagePurpose};

use super::{AUTHORITY_KEY, Authority, authority::subject, files, new_key};

/// In the identity folder: the keys of requests that no certificate has come for yet.
const REQUESTS: &str = "requests";
/// OID of the name constraints, RFC 5280, 4.2.1.10.
const NAME_CONSTRAINTS: [u64; 4] = [2, 5, 29, 30];

/// Name of the file with a pod's request: `international-ferry.cluster-b.sink.csr`.
pub fn request_file(name: &WorkloadName) -> String {
    format!("{}.csr", stem(name))
}

pub(super) fn stem(name: &WorkloadName) -> String {
    format!("{}.{}.{}", name.blueprint(), name.cluster(), name.pod())
}

/// The request for an authority of the pod `name`, PEM. Its key is made and kept (mode 0600) below `folder`, the
/// environment's identity folder; asked again before the certificate has come, it is the same key.
pub fn request(folder: &Path, name: &WorkloadName) -> anyhow::Result<String> {
    let home = home(folder, name);
    let key = if home.join(AUTHORITY_KEY).exists() {
        files::read_key(&home, AUTHORITY_KEY)?
    } else {
        let key = new_key()?;
        files::make_private_folder(&home)?;
        files::write_private(&home, AUTHORITY_KEY, &key.serialize_pem())?;
        key
    };
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = subject(name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let mut constraints =
        CustomExtension::from_oid_content(&NAME_CONSTRAINTS, name_constraints(&name.to_string()));
    constraints.set_criticality(true);
    parameters.custom_extensions = vec![constraints];
    parameters
        .serialize_request(&key)
        .and_then(|request| request.pem())
        .with_context(|| format!("write the request of `{name}`"))
}

/// The key of a request; `None` where none was made.
pub(super) fn key_of(folder: &Path, name: &WorkloadName) -> anyhow::Result<Option<KeyPair>> {
    let home = home(folder, name);
    if !home.join(AUTHORITY_KEY).exists() {
        return Ok(None);
    }
    files::read_key(&home, AUTHORITY_KEY).map(Some)
}

/// Forgets the request of a pod whose certificate has come: the one with this authority's key.
pub fn drop_request(
    folder: &Path,
    name: &WorkloadName,
    authority: &Authority,
) -> anyhow::Result<()> {
    let answered =
        key_of(folder, name)?.is_some_and(|key| key.serialize_pem() == authority.key_pem());
    if answered {
        let home = home(folder, name);
        fs::remove_dir_all(&home).with_context(|| format!("delete `{}`", home.display()))?;
    }
    Ok(())
}

fn home(folder: &Path, name: &WorkloadName) -> PathBuf {
    folder.join(REQUESTS).join(stem(name))
}

/// `NameConstraints { permittedSubtrees [0] { GeneralSubtree { base dNSName [2] } } }` in DER; rcgen writes none into a request.
fn name_constraints(dns: &str) -> Vec<u8> {
    const SEQUENCE: u8 = 0x30;
    const PERMITTED: u8 = 0xa0;
    const DNS_NAME: u8 = 0x82;
    let subtree = tagged(SEQUENCE, &tagged(DNS_NAME, dns.as_bytes()));
    tagged(SEQUENCE, &tagged(PERMITTED, &subtree))
}
