//! Repeats, limits, restarts and failing disks of the store.

use std::{
    fs::File,
    io,
    path::Path,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use messages::{Hop, Payload, Role, Timestamp};
use tempfile::TempDir;
use tokio::time::timeout;
use uuid::Uuid;

use super::*;
use crate::{config::WhenFull, metrics::Metrics};

mod disk;
mod old;
mod retention;

/// Longest wait of a test.
const LIMIT: Duration = Duration::from_secs(20);

fn message(seq: u64, cluster: &str) -> Message {
    Message {
        id: Uuid::now_v7(),
        blueprint: "test-ferry".into(),
        seq,
        payload: Payload::of(&seq).unwrap(),
        trail: vec![hop(cluster, "sink-1")],
    }
}

fn hop(cluster: &str, pod: &str) -> Hop {
    Hop {
        pod: pod.into(),
        role: Role::Sink,
        cluster: cluster.into(),
        namespace: "n".into(),
        node: "n".into(),
        at: Timestamp::now(),
        signature: "s".into(),
    }
}

fn settings(dir: &Path) -> Settings {
    Settings {
        dir: dir.join("data"),
        retention: Retention::default(),
        repeats: Duration::from_secs(3600),
        disk: Arc::new(journal::RealDisk),
        patience: LIMIT,
    }
}

/// A store with what it shows.
struct Open {
    store: Store,
    ended: Ended,
    ready: Ready,
    metrics: Metrics,
}

impl Open {
    /// Starts a store without waiting for it.
    fn start(settings: Settings) -> Self {
        let ready = Ready::new();
        let (metrics, of_store) = Metrics::with_store();
        let (store, ended) = Store::start(settings, ready.clone(), of_store).unwrap();
        Self {
            store,
            ended,
            ready,
            metrics,
        }
    }

    async fn of(settings: Settings) -> Self {
        let open = Self::start(settings);
        open.accepting(true).await;
        open
    }

    async fn at(dir: &TempDir) -> Self {
        Self::of(settings(dir.path())).await
    }

    /// Waits until the pod accepts messages, or no longer does.
    async fn accepting(&self, wanted: bool) {
        let mut accepting = self.ready.accepting();
        let changed = timeout(LIMIT, accepting.wait_for(|accepting| *accepting == wanted));
        let changed = changed.await.map(|changed| changed.map(|now| *now));
        assert!(matches!(changed, Ok(Ok(_))), "{:?}", self.ready.missing());
    }

    async fn try_append(&self, message: &Message) -> Result<Stored, Unavailable> {
        let storing = self.store.append(Key::of(message), message.clone()).await;
        storing.unwrap().await
    }

    async fn append(&self, message: &Message) -> Stored {
        self.try_append(message).await.unwrap()
    }

    /// Appends messages with these sequence numbers.
    async fn append_all(&self, seqs: std::ops::RangeInclusive<u64>) {
        for seq in seqs {
            assert_eq!(self.append(&message(seq, "c")).await, Stored::Now);
        }
    }

    fn holds(&self, message: &Message) -> bool {
        self.store.holds(&Key::of(message)).unwrap()
    }

    /// Returns index and sequence number of the records after `after`.
    fn seqs(&self, after: u64) -> Vec<(u64, u64)> {
        let lines = lines(&self.store.reader().unwrap(), after, usize::MAX).unwrap();
        let lines = lines.into_iter().map(|(index, line)| {
            let record: serde_json::Value = serde_json::from_slice(&line).unwrap();
            assert_eq!(record["index"], index);
            (index, record["message"]["seq"].as_u64().unwrap())
        });
        lines.collect()
    }

    /// Returns the value of a metric, with its labels.
    fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.encode(Duration::ZERO, true).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let line = line.unwrap_or_else(|| panic!("`{name}` must be in:\n{text}"));
        line.trim().parse().unwrap()
    }

    /// Ends it in good order.
    async fn close(self) {
        let Self {
            store, mut ended, ..
        } = self;
        drop(store);
        ended.wait().await.unwrap();
    }
}

#[tokio::test]
async fn acknowledged_messages_survive_a_restart() {
    let dir = TempDir::new().unwrap();
    let open = Open::at(&dir).await;
    let first = message(1, "c");
    assert_eq!(open.append(&first).await, Stored::Now);
    assert_eq!(open.append(&message(2, "c")).await, Stored::Now);
    open.close().await;
    let open = Open::at(&dir).await;
    assert!(open.holds(&first));
    assert_eq!(open.append(&first).await, Stored::Before);
    assert_eq!(open.append(&message(3, "c")).await, Stored::Now);
    assert_eq!(open.seqs(0), [(1, 1), (2, 2), (3, 3)]);
    assert_eq!(open.seqs(2), [(3, 3)]);
    assert_eq!(open.seqs(u64::MAX), []);
}

#[tokio::test]
async fn repeat_in_the_same_batch_is_a_repeat() {
    let dir = TempDir::new().unwrap();
    let open = Open::at(&dir).await;
    let message = message(1, "c");
    let key = Key::of(&message);
    let one = open.store.append(key, message.clone()).await.unwrap();
    let two = open.store.append(key, message).await.unwrap();
    assert_eq!(one.await.unwrap(), Stored::Now);
    assert_eq!(two.await.unwrap(), Stored::Before);
    assert_eq!(open.seqs(0).len(), 1);
}

#[test]
fn key_is_the_id_and_the_path() {
    let one = message(1, "a");
    let mut same = one.clone();
    same.trail = vec![hop("a", "its-replacement")];
    assert_eq!(Key::of(&one), Key::of(&same), "pods and times do not count");
    let mut other_path = one.clone();
    other_path.trail = vec![hop("b", "sink-1")];
    assert_ne!(Key::of(&one), Key::of(&other_path));
    let mut shifted = one.clone();
    shifted.trail[0].cluster = "an".into();
    shifted.trail[0].namespace = "".into();
    assert_ne!(Key::of(&one), Key::of(&shifted), "lengths count");
    assert_ne!(Key::of(&one), Key::of(&message(1, "a")));
}

#[tokio::test]
async fn payload_over_several_lines_is_one_line() {
    let dir = TempDir::new().unwrap();
    let open = Open::at(&dir).await;
    let mut message = message(1, "c");
    message.payload = Payload::from_text("{\n\"a\":\r\n\"b\\n\"}".into()).unwrap();
    open.append(&message).await;
    let lines = lines(&open.store.reader().unwrap(), 0, 1).unwrap();
    assert!(!lines[0].1.contains(&b'\n') && !lines[0].1.contains(&b'\r'));
    let record: serde_json::Value = serde_json::from_slice(&lines[0].1).unwrap();
    assert_eq!(record["message"]["payload"]["a"], "b\n");
}

#[tokio::test]
async fn store_that_is_in_use_or_damaged_gives_up() {
    let dir = TempDir::new().unwrap();
    let first = Open::at(&dir).await;
    let mut second = Open::start(settings(dir.path()));
    let error = second.ended.wait().await.unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    assert!(second.store.reader().is_err());
    first.append_all(1..=3).await;
    first.close().await;
    let segment = dir.path().join("data/messages/00000000000000000001.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let mut damaged = Open::start(settings(dir.path()));
    let error = damaged.ended.wait().await.unwrap_err().to_string();
    assert!(
        error.contains("damaged") && error.contains("00001.log"),
        "{error}"
    );
}

#[tokio::test]
async fn stored_files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new().unwrap();
    let open = Open::at(&dir).await;
    open.append_all(1..=1).await;
    open.store
        .read_through("one".into(), 1)
        .await
        .unwrap()
        .unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let data = dir.path().join("data");
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("messages")), 0o700);
    assert_eq!(mode(&data.join("keys")), 0o700);
    assert_eq!(mode(&data.join("readers.json")), 0o600);
}
