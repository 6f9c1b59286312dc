//! Repeats, limits and restarts of the store.

use messages::{Hop, Payload, Role};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;

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

fn open(dir: &TempDir) -> Store {
    open_with(dir, Retention::default())
}

fn open_with(dir: &TempDir, retention: Retention) -> Store {
    Store::open(&dir.path().join("data"), retention).unwrap().0
}

async fn append(store: &Store, message: &Message) -> Stored {
    let storing = store
        .append(Key::of(message), message.clone())
        .await
        .unwrap();
    storing.await.unwrap()
}

fn seqs(store: &Store, after: u64) -> Vec<(u64, u64)> {
    store
        .read(after, usize::MAX)
        .unwrap()
        .into_iter()
        .map(|(index, line)| {
            let record: serde_json::Value = serde_json::from_slice(&line).unwrap();
            assert_eq!(record["index"], index);
            (index, record["message"]["seq"].as_u64().unwrap())
        })
        .collect()
}

/// Waits until the file may be opened again.
async fn closed(dir: &TempDir, store: Store, closed: Closed) -> Store {
    drop(store);
    closed.wait().await;
    open(dir)
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart_and_indexes_go_on() {
    let dir = TempDir::new().unwrap();
    let (store, end) = Store::open(&dir.path().join("data"), Retention::default()).unwrap();
    let first = message(1, "c");
    assert_eq!(append(&store, &first).await, Stored::Now);
    assert_eq!(append(&store, &message(2, "c")).await, Stored::Now);
    let store = closed(&dir, store, end).await;
    assert!(store.holds(&Key::of(&first)));
    assert_eq!(append(&store, &first).await, Stored::Before);
    assert_eq!(append(&store, &message(3, "c")).await, Stored::Now);
    assert_eq!(seqs(&store, 0), [(1, 1), (2, 2), (3, 3)]);
    assert_eq!(seqs(&store, 2), [(3, 3)]);
    assert_eq!(seqs(&store, u64::MAX), []);
}

#[tokio::test]
async fn a_repeat_in_the_same_transaction_is_a_repeat() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let message = message(1, "c");
    let key = Key::of(&message);
    let one = store.append(key, message.clone()).await.unwrap();
    let two = store.append(key, message).await.unwrap();
    assert_eq!(one.await.unwrap(), Stored::Now);
    assert_eq!(two.await.unwrap(), Stored::Before);
    assert_eq!(seqs(&store, 0).len(), 1);
}

#[test]
fn a_key_is_the_id_and_the_path_not_the_pods_and_the_times() {
    let one = message(1, "a");
    let mut same = one.clone();
    same.trail = vec![hop("a", "its-replacement")];
    assert_eq!(Key::of(&one), Key::of(&same));
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
async fn beyond_its_limits_the_oldest_goes_and_indexes_go_on() {
    let dir = TempDir::new().unwrap();
    let store = open_with(
        &dir,
        Retention {
            records: 3,
            bytes: u64::MAX,
        },
    );
    let first = message(1, "c");
    append(&store, &first).await;
    for seq in 2..=5 {
        append(&store, &message(seq, "c")).await;
    }
    assert_eq!(seqs(&store, 0), [(3, 3), (4, 4), (5, 5)]);
    assert!(!store.holds(&Key::of(&first)));
    let dir = TempDir::new().unwrap();
    let store = open_with(
        &dir,
        Retention {
            records: 3,
            bytes: 1,
        },
    );
    append(&store, &message(1, "c")).await;
    append(&store, &message(2, "c")).await;
    assert_eq!(
        seqs(&store, 0),
        [(2, 2)],
        "the newest stays however large it is"
    );
}

#[tokio::test]
async fn a_store_that_is_in_use_or_damaged_is_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let first = open(&dir);
    let path = dir.path().join("data");
    let error = Store::open(&path, Retention::default())
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(error.contains("messages.redb"), "{error}");
    drop(first);
    let other = TempDir::new().unwrap();
    std::fs::write(
        other.path().join(FILE),
        "this is no database, and long enough to be looked at",
    )
    .unwrap();
    let error = Store::open(other.path(), Retention::default())
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(error.contains("damaged"), "{error}");
}

#[test]
fn only_the_pods_user_can_read_what_is_stored() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new().unwrap();
    let _store = open(&dir);
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir.path().join("data")), 0o700);
    assert_eq!(mode(dir.path().join("data").join(FILE)), 0o600);
}
