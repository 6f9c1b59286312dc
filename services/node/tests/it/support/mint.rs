//! Identities for tests, made as an environment makes them.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use messages::{WorkloadName, env, limits::BACKDATE, signature::Signer};
use rcgen::date_time_ymd;
use rustls_pki_types::CertificateDer;

#[path = "../../../../messages/tests/it/mint.rs"]
#[expect(dead_code, reason = "the tests of `messages` use the rest")]
mod certificates;

/// The root of one test.
pub(crate) struct Root(certificates::Issuer);

impl Root {
    pub(crate) fn new() -> Self {
        Self(certificates::root())
    }

    pub(crate) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        certificates::roots(&self.0)
    }

    /// Writes these roots into `dir` as `wosp` does: by one rename.
    pub(crate) fn trust(roots: &[&Self], dir: &Path) {
        let pem: String = roots.iter().map(|root| root.0.pem()).collect();
        let file = serde_json::json!({ "resources": [{
            "name": "roots",
            "validation_context": { "trusted_ca": { "inline_string": pem } },
        }] });
        replace(dir, env::ROOTS_FILE, &file.to_string());
    }

    /// Returns what signs the hops of `name`.
    pub(crate) fn signer(&self, name: &WorkloadName) -> Signer {
        let authority = certificates::authority(&self.0, name);
        let leaf = certificates::leaf(&authority, name);
        Signer::from_identity_file(&leaf.identity_file()).unwrap()
    }

    /// Writes an identity of `name` into `dir` as `wosp` does: by one rename.
    pub(crate) fn issue(&self, name: &WorkloadName, dir: &Path, valid: Duration) {
        self.issue_aged(name, dir, valid, Duration::ZERO);
    }

    /// Writes an identity that was minted `age` ago and has `left` to live.
    pub(crate) fn issue_aged(
        &self,
        name: &WorkloadName,
        dir: &Path,
        left: Duration,
        age: Duration,
    ) {
        let authority = certificates::authority(&self.0, name);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let epoch = date_time_ymd(1970, 1, 1);
        let leaf = certificates::leaf_with(&[&authority], &[name], |params| {
            params.not_before = epoch + (now - age - BACKDATE);
            params.not_after = epoch + (now + left);
        });
        replace(dir, env::IDENTITY_FILE, &leaf.identity_file());
    }
}

fn replace(dir: &Path, file: &str, text: &str) {
    let new = dir.join("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, dir.join(file)).unwrap();
}
