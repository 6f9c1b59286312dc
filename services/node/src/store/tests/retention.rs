//! What a store drops, what it refuses, and for how long it knows repeats.

use super::{
    keys::{KeyLog, Keys},
    *,
};

fn keeping(dir: &TempDir, retention: Retention) -> Settings {
    Settings {
        retention,
        ..settings(dir.path())
    }
}

fn indexes(open: &Open) -> Vec<u64> {
    open.seqs(0).into_iter().map(|(index, _)| index).collect()
}

#[tokio::test]
async fn oldest_messages_go_beyond_the_number() {
    let dir = TempDir::new().unwrap();
    let retention = Retention {
        messages: 3,
        ..Retention::default()
    };
    let open = Open::of(keeping(&dir, retention)).await;
    let first = message(1, "c");
    open.append(&first).await;
    open.append_all(2..=5).await;
    assert_eq!(open.seqs(0), [(3, 3), (4, 4), (5, 5)]);
    assert_eq!(open.metric("ferry_store_records"), 3.0);
    assert_eq!(
        open.metric(r#"ferry_store_evictions_total{cause="messages"}"#),
        2.0
    );
    assert_eq!(
        open.append(&first).await,
        Stored::Before,
        "its time is not over"
    );
    open.close().await;
    let open = Open::of(keeping(&dir, retention)).await;
    assert_eq!(
        open.append(&first).await,
        Stored::Before,
        "also after a restart"
    );
    open.append_all(6..=6).await;
    assert_eq!(open.seqs(0), [(4, 4), (5, 5), (6, 6)]);
}

#[tokio::test]
async fn bytes_stay_just_under_their_limit() {
    let dir = TempDir::new().unwrap();
    let open = Open::at(&dir).await;
    open.append_all(1..=1).await;
    let record = open.store.reader().unwrap().bytes();
    drop(open);
    let dir = TempDir::new().unwrap();
    let retention = Retention {
        bytes: 10 * record + record / 2,
        ..Retention::default()
    };
    let open = Open::of(keeping(&dir, retention)).await;
    for seq in 1..=60 {
        open.append_all(seq..=seq).await;
        let kept = open.seqs(0).len() as u64;
        // Numbers of two digits make records longer.
        let least = if seq < 10 { seq } else { 9 };
        assert!((least..=10).contains(&kept), "{kept} after {seq}");
        assert!(open.store.reader().unwrap().bytes() <= retention.bytes);
    }
    assert!(open.metric(r#"ferry_store_evictions_total{cause="bytes"}"#) >= 50.0);
}

#[tokio::test]
async fn newest_message_stays_however_large() {
    let dir = TempDir::new().unwrap();
    let retention = Retention {
        bytes: 1,
        ..Retention::default()
    };
    let open = Open::of(keeping(&dir, retention)).await;
    open.append_all(1..=2).await;
    assert_eq!(open.seqs(0), [(2, 2)]);
}

#[tokio::test]
async fn messages_over_their_age_go() {
    let dir = TempDir::new().unwrap();
    let open = Open::at(&dir).await;
    open.append_all(1..=5).await;
    open.close().await;
    let retention = Retention {
        age: Some(Duration::from_millis(1)),
        ..Retention::default()
    };
    let open = Open::of(keeping(&dir, retention)).await;
    open.append_all(6..=6).await;
    let kept = indexes(&open);
    assert!(kept == [6], "{kept:?}");
    assert_eq!(
        open.metric(r#"ferry_store_evictions_total{cause="age"}"#),
        5.0
    );
}

#[tokio::test]
async fn full_store_refuses_until_all_readers_read() {
    let dir = TempDir::new().unwrap();
    let retention = Retention {
        messages: 3,
        when_full: WhenFull::Refuse,
        ..Retention::default()
    };
    let open = Open::of(keeping(&dir, retention)).await;
    open.append_all(1..=3).await;
    let next = message(4, "c");
    let Err(Unavailable(reason)) = open.try_append(&next).await else {
        panic!("it must be refused");
    };
    assert!(
        reason.contains("full") && reason.contains("/output/read"),
        "{reason}"
    );
    open.accepting(false).await;
    assert!(open.ready.missing()[0].contains("the store is full"));
    let read = |reader: &str, through| open.store.read_through(reader.into(), through);
    assert_eq!(read("slow", 0).await.unwrap(), Ok(0));
    assert_eq!(read("fast", 3).await.unwrap(), Ok(3));
    assert_eq!(read("fast", 1).await.unwrap(), Ok(3), "it never goes back");
    assert!(
        open.try_append(&next).await.is_err(),
        "one reader has read nothing"
    );
    assert_eq!(indexes(&open), [1, 2, 3]);
    assert_eq!(read("slow", 2).await.unwrap(), Ok(2));
    open.accepting(true).await;
    assert_eq!(open.append(&next).await, Stored::Now);
    open.close().await;
    let open = Open::of(keeping(&dir, retention)).await;
    assert!(
        !indexes(&open).contains(&1),
        "what all have read makes room"
    );
    assert!(indexes(&open).ends_with(&[3, 4]));
    let ahead = open.store.read_through("fast".into(), 9).await.unwrap();
    assert_eq!(
        ahead,
        Err(InvalidReader::Ahead {
            through: 9,
            last: 4
        })
    );
    assert_eq!(
        open.metric(r#"ferry_store_evictions_total{cause="messages"}"#),
        0.0
    );
}

#[test]
fn keys_go_with_their_time_and_messages() {
    let mut keys = Keys::with_sets_of(10, Duration::from_millis(1000));
    let key = |number: u64| Key::from_hash(&[number.to_le_bytes(), [0; 8]].concat()).unwrap();
    for index in 1..=35 {
        keys.insert(key(index), index, index * 10);
    }
    assert_eq!(
        keys.forget(36, 1100),
        None,
        "the time of the first set is not over"
    );
    assert_eq!(keys.forget(5, 5000), None, "its messages are kept");
    assert!(keys.contains(&key(1)));
    assert_eq!(keys.forget(36, 1101), Some(10));
    assert!(!keys.contains(&key(10)) && keys.contains(&key(11)));
    assert_eq!(keys.forget(u64::MAX, u64::MAX), Some(35));
    assert!(!keys.contains(&key(35)));
}

#[test]
fn keys_on_disk_go_as_well() {
    let dir = TempDir::new().unwrap();
    let key = |number: u64| Key::from_hash(&[number.to_le_bytes(), [0; 8]].concat()).unwrap();
    let open =
        |keys: &mut Keys| KeyLog::open(dir.path(), journal::Options::default(), keys).unwrap();
    let mut log = open(&mut Keys::new(Duration::ZERO));
    for index in 1..=20_000 {
        log.add(key(index), index, index).unwrap();
    }
    assert_eq!(log.chunks(), 2, "the rest is with the messages");
    log.flush_through(17_000).unwrap();
    assert_eq!(log.chunks(), 3);
    log.flush_through(17_000).unwrap();
    drop(log);
    let mut keys = Keys::new(Duration::ZERO);
    let mut log = open(&mut keys);
    assert_eq!((log.last(), log.chunks()), (20_000, 3));
    assert!(keys.contains(&key(1)) && keys.contains(&key(20_000)));
    log.trim(16_384).unwrap();
    drop(log);
    let mut keys = Keys::new(Duration::ZERO);
    assert_eq!(open(&mut keys).chunks(), 1);
    assert!(!keys.contains(&key(16_384)) && keys.contains(&key(16_385)));
}
