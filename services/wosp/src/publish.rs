//! Publishes files for Envoy and the app. Each is written beside its place, then renamed, so that
//! readers see all or nothing. Certificate and key are in one file, so that no reader sees one
//! without the other. Envoy watches the folder for the rename (`watched_directory`).

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

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{path}`: {source}; give the pod a writable volume there")]
pub struct PublishError {
    path: PathBuf,
    source: io::Error,
}

/// Writes into one folder, which no other process writes to.
#[derive(Debug)]
pub struct Publisher {
    folder: PathBuf,
    roots: Option<String>,
}

impl Publisher {
    /// Returns a publisher for `folder`. A missing folder is made with mode 0700; one that exists
    /// keeps its mode.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.into(),
            roots: None,
        }
    }

    /// Replaces `identity.json`, mode 0600. Envoy and the app run as the same user as `wosp`.
    ///
    /// # Errors
    ///
    /// Returns the path and the error of the kernel if the file cannot be written.
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

    /// Replaces `roots.json`, mode 0600, if `roots` changed since the last call.
    ///
    /// # Errors
    ///
    /// Returns the path and the error of the kernel if the file cannot be written.
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
            // A killed agent may have left one. It is recreated and never reused, so that its mode
            // is ours.
            match fs::remove_file(&fresh) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&fresh)?;
            // No fsync: the volume is memory, and `wosp` mints a new identity after a crash of the
            // machine.
            file.write_all(content.to_string().as_bytes())?;
            fs::rename(&fresh, &path)
        };
        replace().map_err(|source| PublishError { path, source })
    }
}

/// Returns an SDS answer with one secret.
fn secret(name: &str, kind: &str, content: &Value) -> Value {
    json!({ "resources": [{ "@type": SECRET, "name": name, kind: content }] })
}
