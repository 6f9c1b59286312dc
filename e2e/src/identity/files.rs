//! Files with keys: mode 0600 in folders of mode 0700, replaced by rename so that no reader sees half of one, and those that
//! belong together by one rename.

use std::{
    fs::{self, DirBuilder},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink},
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

/// The link through which the names of files lead that belong together, as a kubelet has it in a mounted Secret.
const DATA: &str = "..data";
/// How the folder of one version of them begins.
const VERSION: &str = "..v";

/// Makes `folder` and what is missing above it, closed to other users.
pub(super) fn make_private_folder(folder: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("make the folder `{}`", folder.display()))
}

/// A new folder in `folder`, closed to other users, that goes away unless it is kept.
pub(super) fn aside(folder: &Path, prefix: &str) -> anyhow::Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix(prefix)
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(folder)
        .with_context(|| format!("make a folder in `{}`", folder.display()))
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

/// Replaces files that belong together: whoever reads through `..data` sees all of the old or all of the new, and what a
/// killed command leaves is one of the two. A name without text is removed.
pub(super) fn replace_together(
    folder: &Path,
    files: &[(&str, Option<&str>)],
) -> anyhow::Result<()> {
    make_private_folder(folder)?;
    let link = |target: &Path, name: &str| -> std::io::Result<()> {
        let fresh = folder.join(format!("..new-{}", name.trim_start_matches('.')));
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        symlink(target, &fresh)?;
        fs::rename(&fresh, folder.join(name))
    };
    let shown = || format!("write `{}`", folder.display());
    let version = aside(folder, VERSION)?;
    for (name, text) in files {
        if let Some(text) = text {
            write_private(version.path(), name, text)?;
        }
    }
    let version = version.keep();
    let own = version.file_name().context("it has a name")?;
    link(Path::new(own), DATA).with_context(shown)?;
    for (name, text) in files {
        let path = folder.join(name);
        match (text, fs::symlink_metadata(&path)) {
            (Some(_), Ok(found)) if found.is_symlink() => {}
            (Some(_), _) => link(&Path::new(DATA).join(name), name).with_context(shown)?,
            (None, Ok(_)) => fs::remove_file(&path).with_context(shown)?,
            (None, Err(_)) => {}
        }
    }
    for entry in fs::read_dir(folder).with_context(shown)? {
        let entry = entry.with_context(shown)?;
        let name = entry.file_name();
        if name != own && name.to_string_lossy().starts_with(VERSION) {
            fs::remove_dir_all(entry.path()).with_context(shown)?;
        }
    }
    Ok(())
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
    one_certificate(&read(folder, name)?).ok_or_else(|| {
        broken(
            &folder.join(name),
            "does not hold exactly one certificate in PEM",
        )
    })
}

/// All certificates of a PEM text; none where one of them is broken.
pub(super) fn certificates(text: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .unwrap_or_default()
}

fn one_certificate(text: &str) -> Option<CertificateDer<'static>> {
    let mut all = certificates(text).into_iter();
    match (all.next(), all.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

pub(super) fn broken(path: &Path, what: &str) -> anyhow::Error {
    Failure::infrastructure(format!("`{}` {what}", path.display()))
        .hint("take the environment down and bring it up again: its certificates are made anew")
        .into()
}
