//! A disk that is full, and one that recovers.

use super::*;

/// A disk that can refuse writes or syncs, and that can panic.
#[derive(Debug, Default)]
struct Faulty(AtomicU8);

const WRITES: u8 = 1;
const SYNCS: u8 = 2;
const PANICS: u8 = 3;

impl Faulty {
    fn set(&self, fault: u8) {
        self.0.store(fault, Ordering::SeqCst);
    }

    fn check(&self, fault: u8) -> io::Result<()> {
        let now = self.0.load(Ordering::SeqCst);
        assert!(now != PANICS, "asked for by the test");
        match now == fault {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl journal::Disk for Faulty {
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        use std::os::unix::fs::FileExt as _;
        self.check(WRITES)?;
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.check(SYNCS)?;
        file.sync_data()
    }
}

fn faulty(dir: &TempDir) -> (Arc<Faulty>, Settings) {
    let disk = Arc::new(Faulty::default());
    let settings = Settings {
        disk: disk.clone(),
        ..settings(dir.path())
    };
    (disk, settings)
}

#[tokio::test]
async fn freed_disk_heals_without_a_restart() {
    for fault in [WRITES, SYNCS] {
        let dir = TempDir::new().unwrap();
        let (disk, settings) = faulty(&dir);
        let open = Open::of(settings).await;
        open.append_all(1..=2).await;
        disk.set(fault);
        let waiting = message(3, "c");
        let Err(Unavailable(reason)) = open.try_append(&waiting).await else {
            panic!("nothing counts that is not on disk");
        };
        assert!(reason.contains("no storage space"), "{reason}");
        open.accepting(false).await;
        assert!(open.ready.missing()[0].contains("no storage space"));
        assert!(open.store.holds(&Key::of(&waiting)).is_err());
        assert!(open.try_append(&waiting).await.is_err());
        disk.set(0);
        open.accepting(true).await;
        assert!(!open.holds(&waiting));
        assert_eq!(open.append(&waiting).await, Stored::Now);
        assert_eq!(open.append(&waiting).await, Stored::Before);
        assert_eq!(open.seqs(0), [(1, 1), (2, 2), (3, 3)]);
        assert!(open.metric("ferry_store_failures_total") >= 1.0);
        assert!(open.metric("ferry_store_free_bytes") > 0.0);
        open.close().await;
    }
}

#[tokio::test]
async fn disk_that_stays_full_ends_the_store() {
    let dir = TempDir::new().unwrap();
    let (disk, settings) = faulty(&dir);
    let settings = Settings {
        patience: Duration::from_millis(300),
        ..settings
    };
    let mut open = Open::of(settings).await;
    disk.set(WRITES);
    assert!(open.try_append(&message(1, "c")).await.is_err());
    let error = timeout(LIMIT, open.ended.wait())
        .await
        .unwrap()
        .unwrap_err();
    assert!(error.to_string().contains("no storage space"), "{error}");
    assert!(
        open.metric("ferry_store_failures_total") > 1.0,
        "it tried again"
    );
}

#[tokio::test]
async fn panicked_store_ends_with_an_error() {
    let dir = TempDir::new().unwrap();
    let (disk, settings) = faulty(&dir);
    let mut open = Open::of(settings).await;
    disk.set(PANICS);
    assert!(open.try_append(&message(1, "c")).await.is_err());
    let error = open.ended.wait().await.unwrap_err();
    assert!(matches!(error, StoreError::Panicked), "{error}");
}

#[tokio::test]
async fn messages_wait_while_the_store_opens() {
    let dir = TempDir::new().unwrap();
    let (disk, settings) = faulty(&dir);
    disk.set(WRITES);
    let open = Open::start(settings);
    assert!(!*open.ready.accepting().borrow());
    assert!(open.store.reader().is_err());
    disk.set(0);
    open.accepting(true).await;
    open.append_all(1..=1).await;
}
