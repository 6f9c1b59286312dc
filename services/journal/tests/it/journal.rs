//! Indexes, segments, trims, limits and refusals.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use ::journal::{Journal, JournalError, MAX_RECORD_BYTES, Options};
use tempfile::TempDir;

use super::{all, append, body, open, segments, small};

#[test]
fn records_are_numbered_across_segments() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(dir.path(), &small());
    let bodies: Vec<_> = (1..=100).map(|index| body(index, 200)).collect();
    for (first, batch) in (1_u64..).step_by(5).zip(bodies.chunks(5)) {
        assert_eq!(append(&mut journal, batch), first..first + 5);
    }
    assert_eq!(journal.append([]).unwrap(), 101..101);
    assert!(segments(dir.path()).len() > 5, "{:?}", segments(dir.path()));
    let expected: Vec<_> = (1..).zip(bodies).collect();
    assert_eq!(all(&journal), expected);
    let bytes = journal.bytes();
    drop(journal);
    let journal = open(dir.path(), &small());
    assert_eq!(all(&journal), expected);
    let state = (
        journal.oldest(),
        journal.next(),
        journal.records(),
        journal.bytes(),
    );
    assert_eq!(state, (1, 101, 100, bytes));
    assert_eq!(bytes, 100 * (200 + 25));
}

#[test]
fn reader_stops_at_each_of_its_limits() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(dir.path(), &small());
    let bodies: Vec<_> = (1..=50).map(|index| body(index, 200)).collect();
    for one in bodies.chunks(1) {
        append(&mut journal, one);
    }
    let reader = journal.reader();
    let indexes = |after, most, enough| -> Vec<u64> {
        let records = reader.read(after, most, enough).unwrap();
        records.into_iter().map(|(index, _)| index).collect()
    };
    assert_eq!(indexes(47, usize::MAX, usize::MAX), [48, 49, 50]);
    assert_eq!(indexes(10, 2, usize::MAX), [11, 12]);
    assert_eq!(indexes(10, usize::MAX, 401), [11, 12, 13]);
    assert_eq!(indexes(10, 0, usize::MAX), []);
    assert_eq!(indexes(50, usize::MAX, usize::MAX), []);
    assert_eq!(indexes(u64::MAX, usize::MAX, usize::MAX), []);
}

#[test]
fn trim_forgets_records_and_deletes_segments() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(dir.path(), &small());
    for index in 1..=50 {
        append(&mut journal, &[body(index, 200)]);
    }
    let files = segments(dir.path()).len();
    journal.trim(25).unwrap();
    journal.trim(3).unwrap();
    assert_eq!((journal.oldest(), journal.records()), (26, 25));
    assert_eq!(journal.bytes(), 25 * 225);
    assert!(segments(dir.path()).len() < files);
    assert_eq!(journal.reader().read(0, 1, 1).unwrap()[0].0, 26);
    drop(journal);
    let mut journal = open(dir.path(), &small());
    assert_eq!((journal.oldest(), journal.next()), (26, 51));
    assert_eq!(journal.bytes(), 25 * 225);
    journal.trim(u64::MAX).unwrap();
    assert_eq!(
        (journal.oldest(), journal.records(), journal.bytes()),
        (51, 0, 0)
    );
    assert_eq!(segments(dir.path()).len(), 1);
    drop(journal);
    let mut journal = open(dir.path(), &small());
    assert_eq!(all(&journal), []);
    for index in 51..=70 {
        assert_eq!(append(&mut journal, &[body(index, 200)]).start, index);
    }
    assert_eq!(journal.bytes(), 20 * 225);
    assert_eq!(all(&journal).len(), 20);
}

#[test]
fn oldest_within_bytes_is_exact() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(dir.path(), &small());
    for index in 1..=50 {
        append(&mut journal, &[body(index, 200)]);
    }
    for trimmed in [0, 5, 17] {
        journal.trim(trimmed).unwrap();
        for kept in 0..=(50 - trimmed) {
            let expected = 51 - kept;
            assert_eq!(journal.oldest_within(kept * 225).unwrap(), expected);
            if kept < 50 - trimmed {
                assert_eq!(journal.oldest_within(kept * 225 + 224).unwrap(), expected);
            }
        }
        assert_eq!(journal.oldest_within(u64::MAX).unwrap(), trimmed + 1);
    }
}

#[test]
fn readers_follow_a_writer_that_trims() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(dir.path(), &small());
    let reader = journal.reader();
    let reading = std::thread::spawn(move || {
        let mut last = 0;
        while last < 2000 {
            for (index, read) in reader.read(last, 7, usize::MAX).unwrap() {
                assert!(index > last, "{index} after {last}");
                assert_eq!(read, body(index, 150));
                last = index;
            }
        }
    });
    for first in (1..=2000).step_by(4) {
        let batch: Vec<_> = (first..first + 4).map(|index| body(index, 150)).collect();
        append(&mut journal, &batch);
        journal.trim(first.saturating_sub(40)).unwrap();
    }
    reading.join().unwrap();
}

#[test]
fn folder_in_use_is_refused() {
    let dir = TempDir::new().unwrap();
    let first = open(dir.path(), &small());
    let error = Journal::open(dir.path(), small()).unwrap_err();
    assert!(matches!(error, JournalError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("stop that process"), "{error}");
    drop(first);
    open(dir.path(), &small());
}

#[test]
fn files_are_for_their_owner_only() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path().join("made");
    let mut journal = open(&dir, &small());
    append(&mut journal, &[body(1, 10)]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let entries: Vec<_> = fs::read_dir(&dir).unwrap().collect();
    assert_eq!(entries.len(), 3, "lock, oldest and one segment");
    for entry in entries {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn long_record_is_refused_without_a_trace() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(dir.path(), &Options::default());
    let long = vec![0; MAX_RECORD_BYTES + 1];
    let error = journal.append([&b"short"[..], &long]).unwrap_err();
    assert!(matches!(error, JournalError::TooLong { .. }), "{error}");
    assert_eq!(append(&mut journal, &[body(1, 5)]), 1..2);
}

#[test]
fn empty_and_large_records_are_kept() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(dir.path(), &small());
    let bodies = [vec![], vec![0; 3_000_000], vec![], b"\0\0".to_vec()];
    append(&mut journal, &bodies);
    append(&mut journal, &bodies);
    drop(journal);
    let read = all(&open(dir.path(), &small()));
    let read: Vec<_> = read.into_iter().map(|(_, body)| body).collect();
    assert_eq!(read, [bodies.clone(), bodies].concat());
}

#[test]
fn new_journal_begins_where_it_is_told() {
    let dir = TempDir::new().unwrap();
    let options = Options {
        first: 1001,
        ..small()
    };
    let mut journal = open(dir.path(), &options);
    assert_eq!((journal.oldest(), journal.records()), (1001, 0));
    assert_eq!(append(&mut journal, &[body(1001, 10)]), 1001..1002);
    drop(journal);
    assert_eq!(all(&open(dir.path(), &small())), [(1001, body(1001, 10))]);
}
