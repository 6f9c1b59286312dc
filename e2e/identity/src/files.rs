//! Reads and writes files with keys: mode 0600 in folders of mode 0700, replaced by rename.
//! Files that belong together are replaced by one rename.

use std::{
    fs::{self, DirBuilder},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink},
    path::Path,
};

use anyhow::Context as _;
use blueprint::failure::Failure;
use messages::{KeyProblem, PrivateKey};
use rcgen::KeyPair;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

/// In an authority's folder: its certificate, PEM.
pub const AUTHORITY_CERTIFICATE: &str = "tls.crt";
/// In an authority's folder: its key, PKCS #8 PEM.
pub const AUTHORITY_KEY: &str = "tls.key";
/// In an authority's folder: the trusted roots, PEM.
pub const ROOTS: &str = "ca.crt";

/// U+FEFF at the start of a text, which editors of Windows write.
pub(super) const BYTE_ORDER_MARK: char = '\u{feff}';

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

/// Replaces files that belong together: a reader through `..data` sees all of the old or all of
/// the new, and what a
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

/// The text of a file, without the mark that some editors put first.
pub(super) fn read(folder: &Path, name: &str) -> anyhow::Result<String> {
    let path = folder.join(name);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(match text.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) => rest.to_owned(),
            None => text,
        }),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            let (path, kind) = (
                path.display(),
                if name.ends_with(".key") {
                    "pkey"
                } else {
                    "x509"
                },
            );
            Err(Failure::usage(format!("`{path}` is not PEM"))
                .hint(format!(
                    "if it is DER, run `openssl {kind} -inform DER -in {path} -out {path}.pem`"
                ))
                .into())
        }
        Err(error) => Err(Failure::infrastructure(format!(
            "cannot read `{}`: {error}",
            path.display()
        ))
        .hint("recreate the environment: its certificates are created with it")
        .into()),
    }
}

/// The text of a key file, unless other users can read it.
fn read_closed(folder: &Path, name: &str) -> anyhow::Result<String> {
    let path = folder.join(name);
    let text = read(folder, name)?;
    let mode = fs::metadata(&path)
        .with_context(|| format!("look at `{}`", path.display()))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(Failure::infrastructure(format!(
            "`{}` holds a key, but other users can access it (mode {:04o})",
            path.display(),
            mode & 0o7777
        ))
        .hint(format!(
            "run `chmod 600 {}`; recreate the environment if another user may have read the key",
            path.display()
        ))
        .into());
    }
    Ok(text)
}

/// Reads a key that Ferry wrote, and refuses one that other users can read.
pub(super) fn read_key(folder: &Path, name: &str) -> anyhow::Result<KeyPair> {
    let text = read_closed(folder, name)?;
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        .ok()
        .and_then(|der| KeyPair::try_from(&der).ok())
        .ok_or_else(|| broken(&folder.join(name), "is no PKCS #8 key in PEM"))
}

/// Whether a key file is, or was, one that Ferry may have written; also where it is missing.
pub(super) fn is_pkcs8(folder: &Path, name: &str) -> bool {
    read(folder, name).map_or(true, |text| {
        text.starts_with("-----BEGIN PRIVATE KEY-----") || !text.contains("PRIVATE KEY-----")
    })
}

/// Reads the key of the first certificate of `chain`, in whatever form tools write one; `certificate` is that one's file.
///
/// # Errors
///
/// One that other users can read, that is no key, or that is another's.
pub(super) fn read_key_of(
    folder: &Path,
    name: &str,
    chain: &[CertificateDer<'_>],
    certificate: &str,
) -> anyhow::Result<KeyPair> {
    let text = read_closed(folder, name)?;
    let path = folder.join(name);
    let public = |certificate: &CertificateDer<'_>| {
        x509_parser::parse_x509_certificate(certificate)
            .map(|(_, parsed)| parsed.public_key().raw.to_vec())
            .map_err(|_| KeyProblem::Mismatch)
    };
    let key =
        PrivateKey::from_pem(&text).map_err(|problem| refused(&path, problem, certificate))?;
    let of = |certificate| public(certificate).and_then(|public| key.of(&public));
    let first = chain.first().map_or(Err(KeyProblem::Mismatch), of);
    if first == Err(KeyProblem::Mismatch)
        && let Some(place) = chain.iter().position(|certificate| of(certificate).is_ok())
    {
        return Err(Failure::usage(format!(
            "the certificate of the key is number {1} in `{0}`, not the first",
            folder.join(certificate).display(),
            place + 1
        ))
        .hint("put it first, and after each certificate the one that signed it")
        .into());
    }
    let pkcs8 = first.map_err(|problem| refused(&path, problem, certificate))?;
    KeyPair::try_from(&pkcs8).map_err(|_| refused(&path, KeyProblem::Kind, certificate))
}

fn refused(path: &Path, problem: KeyProblem, certificate: &str) -> anyhow::Error {
    let shown = path.display();
    let cause = match problem {
        KeyProblem::Mismatch => {
            format!("`{shown}` is not the private key of the certificate in `{certificate}`")
        }
        problem => format!("`{shown}` {problem}"),
    };
    let hint = match problem.remedy(&shown) {
        Some(command) => {
            format!("`{command}` writes it as it is needed; put that in its place, with mode 600")
        }
        None => match problem {
            KeyProblem::Kind => format!(
                "make a key of one of these kinds, and a certificate of it for `{certificate}`"
            ),
            KeyProblem::Certificate => format!(
                "put the private key there and the certificate into `{certificate}`: they may have been swapped"
            ),
            _ => format!("put the private key of the certificate in `{certificate}` there, in PEM"),
        },
    };
    Failure::usage(cause).hint(hint).into()
}

/// The certificates of a file, in their order. `key` is the file of the key, which may have been put here.
pub(super) fn chain(
    folder: &Path,
    name: &str,
    key: &str,
) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let text = read(folder, name)?;
    let chain = certificates(&text);
    if !chain.is_empty() {
        return Ok(chain);
    }
    let path = folder.join(name);
    let failure = if text.contains("PRIVATE KEY-----") {
        Failure::usage(format!(
            "`{}` contains a private key instead of a certificate",
            path.display()
        ))
        .hint(format!(
            "put the certificate there and the private key into `{key}`; the files may be swapped"
        ))
    } else {
        Failure::usage(format!("`{}` contains no PEM certificate", path.display())).hint(
            "put the certificate there in PEM, followed by its intermediate certificates, \
                   if any",
        )
    };
    Err(failure.into())
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
        .hint("restore the file, or replace it by one that fits the other files of its folder")
        .into()
}

/// Rewritten: text around the certificate is left out.
pub(super) fn pem(der: &CertificateDer<'_>) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let encoded = BASE64_STANDARD.encode(der);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}
