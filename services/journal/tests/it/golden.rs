//! Files of version 1, as bytes. They are read by every later version.

use std::{fs, path::PathBuf};

use ::journal::Options;
use tempfile::TempDir;

use super::{all, append, open};

/// Returns the bytes of a checked-in dump.
fn golden(name: &str) -> (PathBuf, String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = path.join("tests/golden").join(name);
    let text = fs::read_to_string(&path).unwrap_or_default();
    (path, text)
}

fn bodies() -> [Vec<u8>; 3] {
    [b"first".to_vec(), vec![], "größer\0".into()]
}

fn options() -> Options {
    Options {
        preallocate: 0,
        ..Options::default()
    }
}

#[test]
fn files_are_those_of_version_1() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(dir.path(), &options());
    append(&mut journal, &bodies()[..1]);
    append(&mut journal, &bodies()[1..]);
    journal.trim(1).unwrap();
    for name in ["00000000000000000001.log", "oldest"] {
        let mut dump = String::new();
        let bytes = fs::read(dir.path().join(name)).unwrap();
        for line in bytes.chunks(16) {
            dump.extend(line.iter().map(|byte| format!("{byte:02x}")));
            dump.push('\n');
        }
        // What is between the slots of `oldest`.
        if name == "oldest" {
            dump = dump.replace(&format!("{}\n", "0".repeat(32)), "");
        }
        let (path, expected) = golden(&format!("{name}.hex"));
        if std::env::var_os("FERRY_UPDATE_GOLDEN").is_some() {
            fs::write(&path, &dump).unwrap();
        } else {
            assert_eq!(dump, expected, "{}", path.display());
        }
    }
}

#[test]
fn version_1_is_read() {
    let (_, text) = golden("00000000000000000001.log.hex");
    let digits: String = text.split_whitespace().collect();
    let bytes: Vec<u8> = (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect();
    let dir = TempDir::new().unwrap();
    drop(open(dir.path(), &options()));
    fs::write(dir.path().join("00000000000000000001.log"), bytes).unwrap();
    let journal = open(dir.path(), &options());
    let expected: Vec<_> = (1..).zip(bodies()).collect();
    assert_eq!(all(&journal), expected);
}
