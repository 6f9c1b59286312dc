//! Verifies a sample identity of an authority against the roots, as a peer does.

use std::{path::Path, time::Duration};

use blueprint::failure::Failure;
use jiff::Timestamp;
use messages::WorkloadName;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::{
    AUTHORITY_CERTIFICATE, AUTHORITY_KEY, Authority, IMPORT_ROOT, LeafRequest, ROOTS, Validity,
    files,
};

impl Authority {
    /// Whether pods that trust the roots beside it take the identities that it makes for `name`. `folder` is where it was read.
    ///
    /// # Errors
    ///
    /// A usage failure with the reason.
    pub fn speaks_for(&self, name: &WorkloadName, folder: &Path) -> anyhow::Result<()> {
        let Err(problem) = sample(self, name, &files::certificates(self.roots_pem())) else {
            return Ok(());
        };
        let path = folder.join(AUTHORITY_CERTIFICATE);
        Err(Failure::usage(format!("`{}` {problem}", path.display()))
            .hint(format!(
                "put the authority of {} in {} there, its key in `{AUTHORITY_KEY}` and its root \
                 in `{ROOTS}`; or delete `{}`: Ferry creates a new one if it has the root's key",
                name.pod(),
                name.cluster(),
                folder.display()
            ))
            .into())
    }
}

/// Makes an identity of `name` and looks at it as a peer would that trusts `roots`; else what is wrong, after the file's name.
pub(super) fn sample(
    authority: &Authority,
    name: &WorkloadName,
    roots: &[CertificateDer<'_>],
) -> Result<(), String> {
    let mut wanted = LeafRequest::of(name);
    wanted.validity = Validity::lasting(Duration::from_secs(60));
    let leaf = authority
        .leaf(&wanted)
        .map_err(|error| format!("makes no identity: {error:#}"))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(leaf.certificate_chain_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| "makes no identity that can be read".to_owned())?;
    let [end, issuers @ ..] = &chain[..] else {
        return Err("makes no identity".into());
    };
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
    let verify = || -> Result<(), webpki::Error> {
        let anchors: Vec<_> = roots
            .iter()
            .map(anchor_from_trusted_cert)
            .collect::<Result<_, _>>()?;
        let end = EndEntityCert::try_from(end)?;
        for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
            end.verify_for_usage(
                ALL_VERIFICATION_ALGS,
                &anchors,
                issuers,
                UnixTime::since_unix_epoch(Duration::from_secs(now)),
                usage,
                None,
                None,
            )?;
        }
        let dns = ServerName::try_from(name.to_string()).map_err(|_| webpki::Error::BadDer)?;
        end.verify_is_valid_for_subject_name(&dns)
    };
    verify().map_err(|error| match error {
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            format!("is not signed by the key of `{IMPORT_ROOT}`")
        }
        other => format!("makes no identity that peers accept: {other:?}"),
    })
}
