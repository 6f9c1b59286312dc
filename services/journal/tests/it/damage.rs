//! Tails that a crash leaves behind, and damage that none does.

use std::{fs, path::Path};

use ::journal::{Journal, JournalError};
use tempfile::TempDir;

use super::{all, append, body, open, segments, small};

/// Copies a folder, so that one journal is damaged in many ways.
fn copy(from: &Path) -> TempDir {
    let to = TempDir::new().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.path().join(path.file_name().unwrap())).unwrap();
    }
    to
}

/// Returns what is read, or why nothing is.
fn read(dir: &Path) -> Result<Vec<(u64, Vec<u8>)>, JournalError> {
    let journal = Journal::open(dir, small())?;
    journal.reader().read(0, usize::MAX, usize::MAX)
}

#[test]
fn tail_torn_at_any_byte_is_cut() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(dir.path(), &small());
    append(&mut journal, &[body(1, 60), body(2, 0)]);
    let before = 64 + journal.bytes() as usize;
    append(&mut journal, &[body(3, 40), body(4, 0), body(5, 700)]);
    let after = 64 + journal.bytes() as usize;
    drop(journal);
    let segment = &segments(dir.path())[0];
    let whole = fs::read(segment).unwrap();
    for cut in before..after {
        for zeros in [0, 3000] {
            let torn = copy(dir.path());
            let mut bytes = whole[..cut].to_vec();
            bytes.resize(cut + zeros, 0);
            fs::write(torn.path().join(segment.file_name().unwrap()), bytes).unwrap();
            let mut journal = open(torn.path(), &small());
            assert_eq!(all(&journal).len(), 2, "cut at {cut}, then {zeros} zeros");
            append(&mut journal, &[body(3, 5)]);
            drop(journal);
            assert_eq!(
                read(torn.path()).unwrap()[2],
                (3, body(3, 5)),
                "cut at {cut}"
            );
        }
    }
}

#[test]
fn flipped_bit_is_never_skipped() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(dir.path(), &small());
    for index in 1..=30 {
        append(&mut journal, &[body(index, 150)]);
    }
    let expected = all(&journal);
    drop(journal);
    let files = segments(dir.path());
    assert!(files.len() > 2);
    let bytes = 64 + 30 * 175;
    for file in &files {
        let whole = fs::read(file).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let damaged = copy(dir.path());
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(damaged.path().join(file.file_name().unwrap()), bytes).unwrap();
            match read(damaged.path()) {
                // In what was allocated ahead or not used in the header.
                Ok(read) => assert_eq!(read, expected, "byte {at} of {}", file.display()),
                Err(JournalError::Damaged { path, offset, .. }) => {
                    assert_eq!(path.file_name(), file.file_name(), "byte {at}");
                    assert!(offset as usize <= at, "byte {at} is not at {offset}");
                }
                Err(JournalError::Version { .. }) => assert!((8..12).contains(&at)),
                Err(error) => panic!("byte {at}: {error}"),
            }
        }
    }
    assert!(
        files
            .iter()
            .map(|file| fs::metadata(file).unwrap().len())
            .sum::<u64>()
            > bytes
    );
}

#[test]
fn missing_parts_are_named() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(dir.path(), &small());
    for index in 1..=60 {
        append(&mut journal, &[body(index, 150)]);
    }
    drop(journal);
    let name = |place: usize| segments(dir.path())[place].file_name().unwrap().to_owned();
    let refused = |what: &str, damage: &dyn Fn(&Path)| {
        let damaged = copy(dir.path());
        damage(damaged.path());
        let error = read(damaged.path()).unwrap_err();
        assert!(
            matches!(error, JournalError::Damaged { .. }),
            "{what}: {error}"
        );
        assert!(error.to_string().contains(what), "{error}");
    };
    refused("the segments before this one", &|dir| {
        fs::remove_file(dir.join(name(0))).unwrap();
    });
    refused("the segment before this one", &|dir| {
        fs::remove_file(dir.join(name(2))).unwrap();
    });
    refused("the oldest index is missing", &|dir| {
        fs::remove_file(dir.join("oldest")).unwrap();
    });
    refused("the end is missing", &|dir| {
        let file = fs::File::options()
            .write(true)
            .open(dir.join(name(1)))
            .unwrap();
        file.set_len(500).unwrap();
    });
    refused("the header is missing", &|dir| {
        fs::write(dir.join(name(1)), b"").unwrap()
    });
}

#[test]
fn segment_that_was_never_begun_is_made_again() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(dir.path(), &small());
    append(&mut journal, &[body(1, 2000)]);
    drop(journal);
    for content in [&b""[..], &[0; 64], b"FERRY"] {
        fs::write(dir.path().join(format!("{:020}.log", 2)), content).unwrap();
        let journal = open(dir.path(), &small());
        assert_eq!((journal.next(), segments(dir.path()).len()), (2, 1));
    }
    let mut journal = open(dir.path(), &small());
    append(&mut journal, &[body(2, 10)]);
    assert_eq!(segments(dir.path()).len(), 2);
}

#[test]
fn file_of_a_later_version_is_refused() {
    let dir = TempDir::new().unwrap();
    drop(open(dir.path(), &small()));
    let segment = &segments(dir.path())[0];
    let mut bytes = fs::read(segment).unwrap();
    bytes[8] = 2;
    fs::write(segment, bytes).unwrap();
    let error = read(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("version 2") && error.contains("start the version"),
        "{error}"
    );
}
