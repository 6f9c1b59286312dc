//! Takes over what the version before the journal wrote: `messages.redb`.
//!
//! This is the only use of `redb`. It goes with this file, once no such store can be left.

use std::{fs, path::PathBuf};

use journal::{Journal, Options};
use messages::Timestamp;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::Deserialize;

use super::{Key, Settings, StoreError, record};

/// Folder of the messages.
pub(super) const MESSAGES: &str = "messages";
/// Folder of the keys.
pub(super) const KEYS: &str = "keys";
/// The file that is taken over.
pub(super) const OLD: &str = "messages.redb";
/// Index → key of the message (32 bytes), then the record as one line of JSON.
const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const NEXT_INDEX: &str = "next_index";
/// Most records and bytes of one append.
const BATCH: usize = 1024;
const BATCH_BYTES: usize = 16 * 1024 * 1024;

#[derive(Deserialize)]
struct Line {
    stored_at: Timestamp,
}

/// Copies the records of an old store, if there is one, and deletes it then. The old file is there
/// until all is copied, so an interrupted copy starts over.
pub(super) fn take_over(settings: &Settings) -> Result<(), StoreError> {
    let path = settings.dir.join(OLD);
    if !path.exists() {
        return Ok(());
    }
    tracing::info!("copying `{}` into journals", path.display());
    let copied = copy(settings, &path).map_err(|cause| StoreError::Migration {
        path: path.clone(),
        cause: cause.to_string(),
    })?;
    tracing::info!(messages = copied, "copied `{}`", path.display());
    Ok(())
}

fn copy(settings: &Settings, path: &PathBuf) -> Result<u64, Box<dyn std::error::Error>> {
    for folder in [MESSAGES, KEYS] {
        let folder = settings.dir.join(folder);
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
    }
    let database = Database::open(path)?;
    let transaction = database.begin_read()?;
    let records = transaction.open_table(RECORDS)?;
    let next = transaction.open_table(META)?.get(NEXT_INDEX)?;
    let next = next.map_or(1, |next| next.value());
    let first = records.first()?.map_or(next, |(first, _)| first.value());
    let options = Options {
        first,
        disk: settings.disk.clone(),
        ..Options::default()
    };
    let mut journal = Journal::open(&settings.dir.join(MESSAGES), options)?;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let mut append = |batch: &mut Vec<Vec<u8>>| {
        let appended = journal.append(batch.iter().map(Vec::as_slice));
        batch.clear();
        appended.map(drop)
    };
    let mut expected = first;
    for record in records.iter()? {
        let (index, value) = record?;
        if index.value() != expected {
            return Err(format!("record {expected} is missing").into());
        }
        expected += 1;
        let value = value.value();
        let (hash, line) = value.split_at_checked(32).ok_or("a record is too short")?;
        let key = Key::from_hash(hash).ok_or("a key is too short")?;
        let stored_at = serde_json::from_slice::<Line>(line)?.stored_at;
        bytes += line.len();
        batch.push(record::body_of_line(&key, record::millis(stored_at), line));
        if batch.len() >= BATCH || bytes >= BATCH_BYTES {
            append(&mut batch)?;
            bytes = 0;
        }
    }
    append(&mut batch)?;
    drop((records, transaction, database));
    fs::remove_file(path)?;
    fs::File::open(&settings.dir)?.sync_all()?;
    Ok(expected - first)
}
