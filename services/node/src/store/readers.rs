//! How far each reader of the output has read, in a file.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

const FILE: &str = "readers.json";
const VERSION: u32 = 1;
/// Most readers: each of them can keep a store from dropping what it has read.
const MOST: usize = 64;

/// Why a reader cannot be remembered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidReader {
    #[error("`through` is {through}, but the last message is {last}; give an index that was read")]
    Ahead { through: u64, last: u64 },
    #[error("there are {MOST} readers already; use the name of one of them")]
    TooMany,
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    version: u32,
    readers: BTreeMap<String, u64>,
}

#[derive(Debug)]
pub(super) struct Readers {
    dir: PathBuf,
    known: BTreeMap<String, u64>,
}

impl Readers {
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let known = match fs::read(dir.join(FILE)) {
            Ok(bytes) => {
                let content: Content = serde_json::from_slice(&bytes)?;
                if content.version != VERSION {
                    let reason = format!("`{FILE}` has version {}", content.version);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
                }
                content.readers
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        let dir = dir.to_owned();
        Ok(Self { dir, known })
    }

    /// Returns the index through which every reader has read; `None` if there is none.
    pub(super) fn all_read(&self) -> Option<u64> {
        self.known.values().min().copied()
    }

    /// Remembers durably that `reader` has read through an index, never less than before. `last` is
    /// the last index there is.
    pub(super) fn remember(
        &mut self,
        reader: String,
        through: u64,
        last: u64,
    ) -> io::Result<Result<u64, InvalidReader>> {
        if through > last {
            return Ok(Err(InvalidReader::Ahead { through, last }));
        }
        let before = self.known.get(&reader).copied();
        if before.is_none() && self.known.len() >= MOST {
            return Ok(Err(InvalidReader::TooMany));
        }
        let through = through.max(before.unwrap_or(0));
        if before != Some(through) {
            let mut readers = self.known.clone();
            readers.insert(reader, through);
            self.write(&readers)?;
            self.known = readers;
        }
        Ok(Ok(through))
    }

    fn write(&self, readers: &BTreeMap<String, u64>) -> io::Result<()> {
        let content = Content {
            version: VERSION,
            readers: readers.clone(),
        };
        let next = self.dir.join(format!("{FILE}.next"));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&next)?;
        file.write_all(&serde_json::to_vec(&content)?)?;
        file.sync_all()?;
        fs::rename(&next, self.dir.join(FILE))?;
        File::open(&self.dir)?.sync_all()
    }
}
