//! A store that the version before the journal wrote.

use redb::{Database, TableDefinition};

use super::*;

/// Writes messages as that version did; the first has the index `first`.
fn write(dir: &Path, first: u64, all: &[Message]) {
    const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
    const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    std::fs::create_dir_all(dir).unwrap();
    let database = Database::create(dir.join("messages.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut records = transaction.open_table(RECORDS).unwrap();
        let mut meta = transaction.open_table(META).unwrap();
        for (index, message) in (first..).zip(all) {
            let line = serde_json::json!({
                "index": index, "stored_at": Timestamp::now(), "message": message,
            });
            // The key of 32 bytes, of which the first half is the key now.
            let mut value = Key::of(message).0.to_vec();
            value.extend_from_slice(&[7; 16]);
            value.extend_from_slice(line.to_string().as_bytes());
            records.insert(index, value.as_slice()).unwrap();
        }
        meta.insert("next_index", first + all.len() as u64).unwrap();
    }
    transaction.commit().unwrap();
}

#[tokio::test]
async fn old_store_is_taken_over_once() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let old: Vec<_> = (1..=3000).map(|seq| message(seq, "c")).collect();
    write(&data, 501, &old);
    // What an interrupted copy left.
    let half = journal::Journal::open(&data.join("messages"), journal::Options::default());
    half.unwrap().append([&b"half"[..]]).unwrap();
    let open = Open::at(&dir).await;
    assert!(!data.join("messages.redb").exists());
    let expected: Vec<_> = (501..).zip(1..=3000).collect();
    assert_eq!(open.seqs(0), expected);
    for message in [&old[0], &old[2999]] {
        assert_eq!(open.append(message).await, Stored::Before);
    }
    open.append_all(3001..=3001).await;
    open.close().await;
    let open = Open::at(&dir).await;
    assert_eq!(open.seqs(3499), [(3500, 3000), (3501, 3001)]);
    assert!(open.holds(&old[1500]));
}

#[tokio::test]
async fn empty_old_store_keeps_its_next_index() {
    let dir = TempDir::new().unwrap();
    write(&dir.path().join("data"), 42, &[]);
    let open = Open::at(&dir).await;
    open.append_all(1..=1).await;
    assert_eq!(open.seqs(0), [(42, 1)]);
}

#[tokio::test]
async fn damaged_old_store_is_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(
        data.join("messages.redb"),
        "no database, and long enough to look",
    )
    .unwrap();
    let mut open = Open::start(settings(dir.path()));
    let error = open.ended.wait().await.unwrap_err().to_string();
    assert!(
        error.contains("messages.redb") && error.contains("damaged"),
        "{error}"
    );
    assert!(data.join("messages.redb").exists());
}
