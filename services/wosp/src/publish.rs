//! Files for Envoy and the app, each replaced whole: written beside, then renamed. Certificate and key are in one file, so
//! that nobody ever sees one without the other. Envoy watches the folder for the rename (`watched_directory`).

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use messages::env::{IDENTITY_FILE, ROOTS_FILE};
use serde_json::{Value, json};

use crate::mint::Identity;

/// Type of an SDS resource.
/// <https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/transport_sockets/tls/v3/secret.proto>
const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

#[derive(Debug, thiserror::Error)]
#[error("cannot write `{path}`: {source}; give the pod a writable volume there")]
pub struct PublishError {
    path: PathBuf,
    source: io::Error,
}

/// Writes into one folder, which only it may write to.
#[derive(Debug)]
pub struct Publisher {
    folder: PathBuf,
    roots: Option<String>,
}

impl Publisher {
    /// For `folder`, made (mode 0700) where missing; what is there already keeps its mode.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.into(),
            roots: None,
        }
    }

    /// Replaces `identity.json`, mode 0600. Envoy and the app run as the same user as `wosp`.
    pub fn identity(&self, identity: &Identity) -> Result<(), PublishError> {
        self.replace(
            IDENTITY_FILE,
            &secret(
                "identity",
                "tls_certificate",
                &json!({
                    "certificate_chain": { "inline_string": identity.chain_pem },
                    "private_key": { "inline_string": identity.key_pem },
                }),
            ),
        )
    }

    /// Replaces `roots.json`, mode 0600, if `roots` are not those it was last given.
    pub fn roots(&mut self, roots: &str) -> Result<(), PublishError> {
        if self.roots.as_deref() == Some(roots) {
            return Ok(());
        }
        self.replace(
            ROOTS_FILE,
            &secret(
                "roots",
                "validation_context",
                &json!({ "trusted_ca": { "inline_string": roots } }),
            ),
        )?;
        self.roots = Some(roots.into());
        Ok(())
    }

    fn replace(&self, name: &str, content: &Value) -> Result<(), PublishError> {
        let path = self.folder.join(name);
        let fresh = self.folder.join(format!(".{name}.new"));
        let replace = || -> io::Result<()> {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.folder)?;
            // One left by an agent that was killed while it wrote. Made anew and never reused, so that its mode is ours.
            match fs::remove_file(&fresh) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&fresh)?;
            // No fsync: the volume is memory, and after a crash of the machine a new identity is minted anyway.
            file.write_all(content.to_string().as_bytes())?;
            fs::rename(&fresh, &path)
        };
        replace().map_err(|source| PublishError { path, source })
    }
}

/// An SDS answer with one secret.
fn secret(name: &str, kind: &str, content: &Value) -> Value {
    json!({ "resources": [{ "@type": SECRET, "name": name, kind: content }] })
}
