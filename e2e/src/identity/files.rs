//! Files with keys: mode 0600 in folders of mode 0700, replaced by rename so that no reader sees half of one.

use std::{
    fs::{self, DirBuilder},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
};

use anyhow::Context as _;
use rcgen::KeyPair;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::failure::Failure;

/// In an authority's folder: its certificate, PEM.
pub const AUTHORITY_CERTIFICATE: &str = "tls.crt";
/// In an authority's folder: its key, PKCS #8 PEM.
pub const AUTHORITY_KEY: &str = "tls.key";
/// In an authority's folder: the trusted roots, PEM.
pub const ROOTS: &str = "ca.crt";

/// Makes `folder` and what is missing above it, closed to other users.
pub(super) fn make_private_folder(folder: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("make the folder `{}`", folder.display()))
}

pub(super) fn write_private(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    let write = || -> std::io::Result<()> {
        // `tempfile` makes files of mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.persist(&path)?;
        Ok(())
    };
    write().with_context(|| format!("write `{}`", path.display()))
}

pub(super) fn read(folder: &Path, name: &str) -> anyhow::Result<String> {
    let path = folder.join(name);
    fs::read_to_string(&path).map_err(|error| {
        Failure::infrastructure(format!("cannot read `{}`: {error}", path.display()))
            .hint("bring the environment up again: its certificates are made with it")
            .into()
    })
}

/// Reads a key file and refuses one that other users can read.
pub(super) fn read_key(folder: &Path, name: &str) -> anyhow::Result<KeyPair> {
    let path = folder.join(name);
    let text = read(folder, name)?;
    let mode = fs::metadata(&path)
        .with_context(|| format!("look at `{}`", path.display()))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(Failure::infrastructure(format!(
            "`{}` holds a key and is open to other users (mode {:04o})",
            path.display(),
            mode & 0o7777
        ))
        .hint(format!(
            "`chmod 600 {}`, and make a new environment if somebody else may have read it",
            path.display()
        ))
        .into());
    }
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        .ok()
        .and_then(|der| KeyPair::try_from(&der).ok())
        .ok_or_else(|| broken(&path, "is no PKCS #8 key in PEM"))
}

/// Reads a file with exactly one certificate.
pub(super) fn read_certificate(
    folder: &Path,
    name: &str,
) -> anyhow::Result<CertificateDer<'static>> {
    let text = read(folder, name)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match all {
        Ok(all) if all.len() == 1 => Ok(all.into_iter().next().unwrap_or_else(|| vec![].into())),
        _ => Err(broken(
            &folder.join(name),
            "does not hold exactly one certificate in PEM",
        )),
    }
}

pub(super) fn broken(path: &Path, what: &str) -> anyhow::Error {
    Failure::infrastructure(format!("`{}` {what}", path.display()))
        .hint("take the environment down and bring it up again: its certificates are made anew")
        .into()
}
