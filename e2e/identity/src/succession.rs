//! Replaces a root. The new state is written completely before any pod uses it, so that an
//! interrupted command can be repeated.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use messages::WorkloadName;
use rustls_pki_types::CertificateDer;

use super::{Authority, ROOT_CERTIFICATE, Root, files};

/// In the identity folder: the root to come and the authorities below it.
const NEXT: &str = "next";
/// In [`NEXT`]: one folder per pod.
const AUTHORITIES: &str = "authorities";
/// In the identity folder: certificates of roots that were replaced, one file each. Their keys are gone.
const RETIRED: &str = "retired";

/// A change of the root that has begun.
#[derive(Debug)]
pub struct Succession {
    /// The environment's identity folder.
    folder: PathBuf,
    root: Root,
}

impl Succession {
    /// The one that a killed command has begun, if any.
    pub fn pending(folder: &Path) -> anyhow::Result<Option<Self>> {
        let next = folder.join(NEXT);
        if !next.exists() {
            return Ok(None);
        }
        Ok(Some(Self {
            folder: folder.into(),
            root: Root::load(&next)?,
        }))
    }

    /// Begins one: `authorities` has one of `root` for every pod.
    pub fn begin(
        folder: &Path,
        root: Root,
        authorities: &BTreeMap<WorkloadName, Authority>,
    ) -> anyhow::Result<Self> {
        files::make_private_folder(folder)?;
        // Made aside and renamed: it is there whole, or not at all.
        let aside = files::aside(folder, ".next-")?;
        root.save(aside.path())?;
        for (name, authority) in authorities {
            authority.save(&authority_folder(aside.path(), name))?;
        }
        let (aside, next) = (aside.keep(), folder.join(NEXT));
        fs::rename(&aside, &next).with_context(|| format!("write `{}`", next.display()))?;
        Ok(Self {
            folder: folder.into(),
            root,
        })
    }

    /// The root to come.
    pub const fn root(&self) -> &Root {
        &self.root
    }

    /// The authority to come of a pod.
    pub fn authority(&self, name: &WorkloadName) -> anyhow::Result<Authority> {
        Authority::load(&authority_folder(&self.folder.join(NEXT), name))
    }

    /// Makes it the environment's root. Of the one before, the certificate stays with the retired ones, and the key is deleted.
    pub fn promote(&self) -> anyhow::Result<()> {
        let before = Root::load(&self.folder)?;
        let (old, new) = (before.report()?, self.root.report()?);
        if old.fingerprint == new.fingerprint {
            return Ok(());
        }
        let retired = self.folder.join(RETIRED);
        files::make_private_folder(&retired)?;
        files::write_private(
            &retired,
            &format!("{}.crt", old.fingerprint),
            before.certificate_pem(),
        )?;
        self.root.save(&self.folder)
    }

    /// Ends it once every pod uses the new root.
    pub fn finish(self) -> anyhow::Result<()> {
        let next = self.folder.join(NEXT);
        fs::remove_dir_all(&next).with_context(|| format!("delete `{}`", next.display()))
    }
}

fn authority_folder(next: &Path, name: &WorkloadName) -> PathBuf {
    next.join(AUTHORITIES).join(name.to_string())
}

/// The certificates of all roots that trails of an environment may go back to: its root, the one to come if a change has
/// begun, and those before. `folder` is its identity folder.
pub fn trusted_roots(folder: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let mut roots = vec![files::read_certificate(folder, ROOT_CERTIFICATE)?];
    let next = folder.join(NEXT);
    if next.exists() {
        roots.push(files::read_certificate(&next, ROOT_CERTIFICATE)?);
    }
    let retired = folder.join(RETIRED);
    if retired.exists() {
        let shown = || format!("read `{}`", retired.display());
        for entry in fs::read_dir(&retired).with_context(shown)? {
            let name = entry.with_context(shown)?.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".crt") {
                roots.push(files::read_certificate(&retired, &name)?);
            }
        }
    }
    // While one follows the other, the new root stands in two places.
    roots.sort_by(|one, other| one.as_ref().cmp(other.as_ref()));
    roots.dedup();
    Ok(roots)
}
