//! Writes a bundle as a folder.

use std::{fs, io::ErrorKind, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::Context as _;
use blueprint::failure::Failure;
use host::environment::{private_folder, replace_file};

use super::{Files, RECORDS};

/// Says that a folder is a bundle, and of which environment: the label on its objects.
const MARK: &str = ".ferry-bundle";

/// What is where a bundle is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    Free,
    /// A bundle with this label.
    Bundle(String),
    /// It is written immediately, replacing an existing one.
    File,
}

/// # Errors
///
/// A [`Failure::usage`] where something else is there.
pub(super) fn look(path: &Path) -> anyhow::Result<Place> {
    match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
        Ok(true) => return Ok(Place::Free),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Place::Free),
        Ok(false) => {}
        Err(error) => {
            return Err(Failure::usage(format!("`{}`: {error}", path.display()))
                .hint("pass another path with `--out`")
                .into());
        }
    }
    match fs::read_to_string(path.join(MARK)) {
        Ok(label) => Ok(Place::Bundle(label.trim().into())),
        Err(_) => Err(
            Failure::usage(format!("`{}` exists and is not a bundle", path.display()))
                .hint("pass another folder with `--out`")
                .into(),
        ),
    }
}

/// Writes all of it beside the place, then puts it there: a failure leaves what was.
pub(super) fn write(path: &Path, place: Place, label: &str, files: &Files) -> anyhow::Result<()> {
    let above = path.parent().context("it has a folder above it")?;
    private_folder(above)?;
    let fresh = tempfile::Builder::new()
        .prefix(".bundle-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(above)
        .with_context(|| format!("cannot make a folder in `{}`", above.display()))?;
    let bundle = fresh.path().join("new");
    private_folder(&bundle)?;
    for (name, entry) in files {
        let file = bundle.join(name);
        private_folder(file.parent().unwrap_or(&bundle))?;
        replace_file(&file, entry.text.as_bytes(), entry.mode.bits())?;
    }
    replace_file(&bundle.join(MARK), format!("{label}\n").as_bytes(), 0o644)?;
    // Of another environment they would be wrong.
    if place == Place::Bundle(label.to_owned()) {
        for name in RECORDS {
            if let Ok(text) = fs::read(path.join(name)) {
                replace_file(&bundle.join(name), &text, 0o644)?;
            }
        }
    }
    let put = || -> std::io::Result<()> {
        if path.exists() {
            fs::rename(path, fresh.path().join("old"))?;
        }
        fs::rename(&bundle, path)
    };
    put().with_context(|| format!("cannot write `{}`", path.display()))
}
