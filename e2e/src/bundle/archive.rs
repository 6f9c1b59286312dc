//! A `.tar.gz` that is the same for the same files: sorted, without times, without owners.
//!
//! The header is POSIX's `ustar`: <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_06>

use std::{collections::BTreeSet, io::Write as _, path::Path};

use anyhow::{Context as _, ensure};
use flate2::{Compression, GzBuilder};

use super::Files;
use crate::environment::replace_file;

const BLOCK: usize = 512;
/// Longest path in a header's `name`.
const NAME: usize = 100;
/// Two blocks of zeros end an archive; padded to its usual record of 20 blocks.
const RECORD: usize = 20 * BLOCK;

/// Writes the archive, with all files below the folder `root`. Only its owner can read it: it holds keys.
pub(super) fn write(path: &Path, root: &str, files: &Files) -> anyhow::Result<()> {
    // Neither a time nor a name: https://www.rfc-editor.org/rfc/rfc1952#section-2.3.1
    let mut gzip = GzBuilder::new().write(vec![], Compression::best());
    gzip.write_all(&tar(root, files)?)?;
    replace_file(path, &gzip.finish()?, 0o600)
}

fn tar(root: &str, files: &Files) -> anyhow::Result<Vec<u8>> {
    let folders: BTreeSet<&str> = files
        .keys()
        .filter_map(|path| path.rsplit_once('/'))
        .map(|(folder, _)| folder)
        .collect();
    let mut tar = vec![];
    tar.extend(header(&format!("{root}/"), 0, 0o700, b'5')?);
    for folder in folders {
        tar.extend(header(&format!("{root}/{folder}/"), 0, 0o700, b'5')?);
    }
    for (path, entry) in files {
        let bytes = entry.text.as_bytes();
        let mode = entry.mode.bits();
        tar.extend(header(&format!("{root}/{path}"), bytes.len(), mode, b'0')?);
        tar.extend_from_slice(bytes);
        tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    }
    tar.resize((tar.len() + 2 * BLOCK).next_multiple_of(RECORD), 0);
    Ok(tar)
}

/// `kind` is 0 for a file, 5 for a folder. Owner is root, by number, and the time is the epoch.
fn header(path: &str, size: usize, mode: u32, kind: u8) -> anyhow::Result<[u8; BLOCK]> {
    let (prefix, name) = split(path).with_context(|| format!("`{path}` is too long for tar"))?;
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &str| {
        block[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    ensure!(size < 1 << 33, "`{path}` is too large for tar");
    put(0, name);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "00000000000");
    // Counted with spaces in its own place.
    put(148, "        ");
    put(257, "ustar\u{0}00");
    put(345, prefix);
    block[156] = kind;
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\u{0} ").as_bytes());
    Ok(block)
}

/// A path in two parts, where it does not fit into one: at a slash, which stands in neither.
fn split(path: &str) -> Option<(&str, &str)> {
    if path.len() <= NAME {
        return Some(("", path));
    }
    let fits = |(prefix, name): &(&str, &str)| {
        !prefix.is_empty() && prefix.len() <= 155 && !name.is_empty() && name.len() <= NAME
    };
    path.match_indices('/')
        .map(|(at, _)| (&path[..at], &path[at + 1..]))
        .find(fits)
}
