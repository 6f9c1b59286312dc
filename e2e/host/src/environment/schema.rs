//! Reads records of every earlier version as the current one.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Record, SCHEMA_VERSION};

/// Why a record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Written by a newer Ferry, in this version of the schema.
    Newer(u32),
    /// No record, or not a whole one.
    Damaged(String),
}

/// Reads a record of this version or of an older one.
pub(super) fn read(text: &str) -> Result<Record, Refused> {
    /// What every version of the record has.
    #[derive(Deserialize)]
    struct Version {
        schema_version: u32,
    }
    let damaged = |error: serde_json::Error| Refused::Damaged(error.to_string());
    let Version { schema_version } = serde_json::from_str(text).map_err(damaged)?;
    match schema_version {
        SCHEMA_VERSION => serde_json::from_str(text).map_err(damaged),
        1 => {
            let mut record: Map<String, Value> = serde_json::from_str(text).map_err(damaged)?;
            from_1(&mut record);
            serde_json::from_value(Value::Object(record)).map_err(damaged)
        }
        0 => Err(Refused::Damaged("no Ferry wrote schema version 0".into())),
        newer => Err(Refused::Newer(newer)),
    }
}

/// Version 2 says where the numbers of processes mean something, and what each process was made of. Of a record of
/// version 1 neither is known: it is taken for one of this machine, as version 1 took it, and its processes for made of
/// something else than what is wanted now.
fn from_1(record: &mut Map<String, Value>) {
    record.insert("schema_version".into(), SCHEMA_VERSION.into());
    record.insert("seat".into(), Value::Null);
    let owners = ["clusters", "pods"].map(|field| record.remove(field).map(|all| (field, all)));
    for (field, mut owners) in owners.into_iter().flatten() {
        let processes = owners
            .as_array_mut()
            .into_iter()
            .flatten()
            .filter_map(|owner| owner.get_mut("processes")?.as_array_mut())
            .flatten();
        for process in processes.filter_map(Value::as_object_mut) {
            process.insert("made_of".into(), Value::Null);
        }
        record.insert(field.into(), owners);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::RuntimeKind;

    /// As the last Ferry of version 1 wrote it.
    const GOLDEN_1: &str = include_str!("golden/environment.1.json");

    #[test]
    fn a_record_of_version_1_is_read_as_one_of_now() {
        let record = read(GOLDEN_1).unwrap();
        assert_eq!(record.schema_version, SCHEMA_VERSION);
        assert_eq!(
            (record.name.as_str(), record.runtime),
            ("local", RuntimeKind::Embedded)
        );
        assert_eq!(record.seat, None);
        assert_eq!(record.pods.len(), 2);
        assert_eq!(record.processes().count(), 8);
        assert!(record.processes().all(|process| process.made_of.is_none()));
        // What is written now is read again.
        let again = read(&serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!(again.pods.len(), 2);
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let version = |version: u32| {
            GOLDEN_1.replacen(
                "\"schema_version\": 1",
                &format!("\"schema_version\": {version}"),
                1,
            )
        };
        assert_eq!(read(&version(3)).unwrap_err(), Refused::Newer(3));
        for damaged in [
            "",
            "{}",
            "{\"schema_version\": 2}",
            &version(0),
            &GOLDEN_1[..900],
        ] {
            assert!(
                matches!(read(damaged), Err(Refused::Damaged(_))),
                "{damaged}"
            );
        }
    }
}
