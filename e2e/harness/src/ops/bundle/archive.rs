//! Writes a reproducible `.tar.gz`: sorted, without times and owners.

use std::{collections::BTreeSet, io::Write, path::Path};

use anyhow::Context as _;
use flate2::{Compression, GzBuilder};
use host::environment::replace_file;
use tar::{Builder, EntryType, Header};

use super::Files;

/// Writes the archive, with all files below the folder `root`. Only its owner can read it: it holds keys.
pub(super) fn write(path: &Path, root: &str, files: &Files) -> anyhow::Result<()> {
    // Neither a time nor a name: https://www.rfc-editor.org/rfc/rfc1952#section-2.3.1
    let mut archive = Builder::new(GzBuilder::new().write(vec![], Compression::best()));
    append_all(&mut archive, root, files)
        .with_context(|| format!("cannot pack `{}`", path.display()))?;
    replace_file(path, &archive.into_inner()?.finish()?, 0o600)
}

fn append_all(archive: &mut Builder<impl Write>, root: &str, files: &Files) -> std::io::Result<()> {
    let folders: BTreeSet<&str> = files
        .keys()
        .filter_map(|path| path.rsplit_once('/'))
        .map(|(folder, _)| folder)
        .collect();
    let mut folder = entry(EntryType::Directory, 0o700);
    archive.append_data(&mut folder, format!("{root}/"), &[][..])?;
    for name in folders {
        archive.append_data(&mut folder, format!("{root}/{name}/"), &[][..])?;
    }
    for (path, file) in files {
        let bytes = file.text.as_bytes();
        let mut header = entry(EntryType::Regular, file.mode.bits());
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, format!("{root}/{path}"), bytes)?;
    }
    Ok(())
}

/// An empty one of the first owner there is, at the epoch.
fn entry(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}
