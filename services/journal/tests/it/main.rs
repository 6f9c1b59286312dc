//! Tests of the journal through its public functions: appends, trims, crashes and damage.
#![allow(clippy::unwrap_used)]

mod crash;
mod damage;
mod golden;
mod journal;
mod kill;

use std::path::{Path, PathBuf};

use ::journal::{Journal, Options};

/// Options with small segments, so that a test has several.
fn small() -> Options {
    Options {
        segment_bytes: 2000,
        preallocate: 1000,
        ..Options::default()
    }
}

fn open(dir: &Path, options: &Options) -> Journal {
    Journal::open(dir, options.clone()).unwrap()
}

fn append(journal: &mut Journal, bodies: &[Vec<u8>]) -> std::ops::Range<u64> {
    journal.append(bodies.iter().map(Vec::as_slice)).unwrap()
}

/// Returns everything that is kept.
fn all(journal: &Journal) -> Vec<(u64, Vec<u8>)> {
    journal.reader().read(0, usize::MAX, usize::MAX).unwrap()
}

/// Returns the segments of a folder, oldest first.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut all: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    all.sort();
    all
}

/// Returns a body that says its index, `bytes` long.
fn body(index: u64, bytes: usize) -> Vec<u8> {
    let text = format!("record {index};");
    text.bytes().cycle().take(bytes).collect()
}
