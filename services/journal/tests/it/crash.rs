//! A machine that ends at any moment: what was not synced is on disk in parts.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::{Arc, Mutex},
};

use ::journal::{Disk, Journal, JournalError, Options};
use proptest::prelude::*;
use tempfile::TempDir;

use super::{all, append, body, open, small};

/// A disk that knows what it would lose, and that can refuse.
#[derive(Debug, Default)]
struct Fragile(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// File, offset and earlier content of each sector that was written and not synced.
    unsynced: Vec<(File, u64, Vec<u8>)>,
    /// The operation that fails from now on.
    refused: Option<Refused>,
    syncs: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Allocation,
    Write,
    Sync,
}

impl Fragile {
    fn refuse(&self, refused: Option<Refused>) {
        self.0.lock().unwrap().refused = refused;
    }

    fn check(&self, refused: Refused) -> io::Result<()> {
        match self.0.lock().unwrap().refused == Some(refused) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    /// Takes back the sectors that `lost` chooses.
    fn crash(&self, mut lost: impl FnMut() -> bool) {
        for (file, offset, content) in self.0.lock().unwrap().unsynced.drain(..).rev() {
            if lost() {
                file.write_all_at(&content, offset).unwrap();
            }
        }
    }
}

impl Disk for Fragile {
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check(Refused::Write)?;
        let length = file.metadata()?.len();
        let end = offset + bytes.len() as u64;
        file.set_len(length.max(end))?;
        let mut at = offset;
        while at < end {
            let next = (at / 512 * 512 + 512).min(end);
            let mut before = vec![0; (next - at) as usize];
            file.read_exact_at(&mut before, at)?;
            let unsynced = (file.try_clone()?, at, before);
            self.0.lock().unwrap().unsynced.push(unsynced);
            at = next;
        }
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.check(Refused::Sync)?;
        let mut state = self.0.lock().unwrap();
        state.unsynced.clear();
        state.syncs += 1;
        file.sync_data()
    }

    fn allocate(&self, file: &File, offset: u64, bytes: u64) -> io::Result<()> {
        self.check(Refused::Allocation)?;
        file.set_len(offset + bytes)
    }
}

fn fragile() -> (Arc<Fragile>, Options) {
    let disk = Arc::new(Fragile::default());
    let options = Options {
        disk: disk.clone(),
        ..small()
    };
    (disk, options)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Batches, trims and orderly restarts, then a batch whose sectors get lost.
    #[test]
    fn acknowledged_records_survive_lost_sectors(
        steps in prop::collection::vec((prop::collection::vec(0_usize..900, 1..6), 0_u64..4), 1..20),
        last in prop::collection::vec(0_usize..2500, 1..6),
        seed: u64,
    ) {
        let dir = TempDir::new().unwrap();
        let (disk, options) = fragile();
        let mut journal = open(dir.path(), &options);
        let mut expected: Vec<(u64, Vec<u8>)> = Vec::new();
        for (sizes, what) in steps {
            let first = journal.next();
            let batch: Vec<_> = (first..).zip(sizes).map(|(index, size)| body(index, size)).collect();
            append(&mut journal, &batch);
            expected.extend((first..).zip(batch));
            match what {
                0 => {
                    drop(journal);
                    journal = open(dir.path(), &options);
                }
                1 => {
                    journal.trim(first.saturating_sub(3)).unwrap();
                    expected.retain(|(index, _)| *index > first.saturating_sub(3));
                }
                _ => {}
            }
            // Nothing that is acknowledged is at risk.
            disk.crash(|| true);
            prop_assert_eq!(&all(&journal), &expected);
        }
        let first = journal.next();
        let batch: Vec<_> = (first..).zip(last).map(|(index, size)| body(index, size)).collect();
        disk.refuse(Some(Refused::Sync));
        journal.append(batch.iter().map(Vec::as_slice)).unwrap_err();
        drop(journal);
        disk.refuse(None);
        let mut random = fastrand::Rng::with_seed(seed);
        disk.crash(|| random.bool());
        let mut journal = open(dir.path(), &small());
        let found = all(&journal);
        let complete: Vec<_> = expected.iter().cloned().chain((first..).zip(batch)).collect();
        prop_assert!(found == expected || found == complete, "a batch is there or not");
        let next = journal.next();
        append(&mut journal, &[body(next, 700)]);
        drop(journal);
        let found = all(&open(dir.path(), &small()));
        prop_assert_eq!(found.last(), Some(&(next, body(next, 700))));
    }
}

#[test]
fn each_append_syncs_once_before_it_returns() {
    let dir = TempDir::new().unwrap();
    let (disk, options) = fragile();
    let options = Options {
        segment_bytes: u64::MAX,
        ..options
    };
    let mut journal = open(dir.path(), &options);
    let reader = journal.reader();
    for count in 1..=20 {
        let before = disk.0.lock().unwrap().syncs;
        let first = journal.next();
        let batch: Vec<_> = (first..first + count)
            .map(|index| body(index, 300))
            .collect();
        append(&mut journal, &batch);
        assert_eq!(disk.0.lock().unwrap().syncs, before + 1);
        disk.crash(|| true);
        assert_eq!(
            reader
                .read(first - 1, usize::MAX, usize::MAX)
                .unwrap()
                .len() as u64,
            count
        );
    }
}

#[test]
fn failed_append_leaves_nothing() {
    for refused in [Refused::Allocation, Refused::Write, Refused::Sync] {
        let dir = TempDir::new().unwrap();
        let (disk, options) = fragile();
        let mut journal = open(dir.path(), &options);
        append(&mut journal, &[body(1, 100)]);
        disk.refuse(Some(refused));
        let big = body(2, 1900);
        let error = journal.append([big.as_slice()]).unwrap_err();
        assert!(
            matches!(error, JournalError::Io { .. }),
            "{refused:?}: {error}"
        );
        assert_eq!(all(&journal).len(), 1, "{refused:?}");
        disk.refuse(None);
        let again = journal.append([big.as_slice()]).unwrap_err();
        assert!(
            matches!(again, JournalError::Failed { .. }),
            "{refused:?}: {again}"
        );
        assert!(matches!(journal.trim(1), Err(JournalError::Failed { .. })));
        let options = Options {
            cut_from: Some(journal.next()),
            ..options
        };
        drop(journal);
        let mut journal = open(dir.path(), &options);
        assert_eq!(append(&mut journal, &[body(2, 10)]), 2..3);
        drop(journal);
        let read = all(&open(dir.path(), &small()));
        assert_eq!(read, [(1, body(1, 100)), (2, body(2, 10))], "{refused:?}");
    }
}

#[test]
fn cut_removes_what_a_failed_append_left() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(dir.path(), &small());
    append(&mut journal, &[body(1, 100)]);
    let durable = journal.next();
    // As if its sync had failed, and cutting the file as well.
    append(&mut journal, &[body(2, 100), body(3, 100)]);
    drop(journal);
    let options = Options {
        cut_from: Some(durable),
        ..small()
    };
    let journal = Journal::open(dir.path(), options).unwrap();
    assert_eq!(all(&journal), [(1, body(1, 100))]);
}

#[test]
fn prepare_tells_whether_the_disk_takes_writes() {
    for refused in [Refused::Allocation, Refused::Write, Refused::Sync] {
        let dir = TempDir::new().unwrap();
        let (disk, options) = fragile();
        let mut journal = open(dir.path(), &options);
        disk.refuse(Some(refused));
        let error = journal.prepare().unwrap_err();
        assert!(
            matches!(error, JournalError::Io { .. }),
            "{refused:?}: {error}"
        );
        drop(journal);
        disk.refuse(None);
        let mut journal = open(dir.path(), &options);
        journal.prepare().unwrap();
        append(&mut journal, &[body(1, 10)]);
    }
}
