//! Decides which processes must be started, and why.

use std::fmt;

use host::{environment::ProcessRecord, process::Launch};

/// Why a process must be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// There was none before.
    New,
    /// It has exited, with the machine or for another reason.
    Ended,
    OtherProgram,
    OtherConfiguration,
    /// It runs but does not respond.
    Hangs,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "it is new",
            Self::Ended => "it had ended",
            Self::OtherProgram => "its program has changed",
            Self::OtherConfiguration => "it is configured differently",
            Self::Hangs => "it did not answer",
        })
    }
}

/// Why a process must be started, given what is recorded of it; `None` where it runs as it is wanted.
pub(super) fn reason_to_start(
    recorded: Option<&ProcessRecord>,
    wanted: &Launch,
    made_of: &str,
) -> anyhow::Result<Option<Reason>> {
    let Some(recorded) = recorded else {
        return Ok(Some(Reason::New));
    };
    Ok(if !recorded.id.is_running() {
        Some(Reason::Ended)
    } else if recorded.made_of.as_deref() != Some(made_of) {
        Some(Reason::OtherConfiguration)
    } else if !wanted.is_program_of(recorded.id)? {
        Some(Reason::OtherProgram)
    } else {
        None
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use host::process;

    #[tokio::test]
    async fn only_what_differs_is_started() {
        let folder = tempfile::tempdir().unwrap();
        let launch = Launch {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), "sleep 600; true".into()],
            env: BTreeMap::new(),
            folder: folder.path().canonicalize().unwrap(),
            log: folder.path().join("log"),
        };
        let made_of = launch.made_of(b"").unwrap();
        let reason = |recorded: Option<&ProcessRecord>, launch: &Launch| {
            reason_to_start(recorded, launch, &launch.made_of(b"").unwrap()).unwrap()
        };
        assert_eq!(reason(None, &launch), Some(Reason::New));
        let mut recorded = ProcessRecord {
            container: "app".into(),
            id: launch.start().unwrap(),
            log: launch.log.clone(),
            log_start: 0,
            made_of: Some(made_of),
        };
        assert_eq!(reason(Some(&recorded), &launch), None);
        let set = [("FERRY_WINDOW".to_owned(), "1".to_owned())].into();
        let other = Launch {
            env: set,
            ..launch.clone()
        };
        assert_eq!(
            reason(Some(&recorded), &other),
            Some(Reason::OtherConfiguration)
        );
        recorded.made_of = None;
        assert_eq!(
            reason(Some(&recorded), &launch),
            Some(Reason::OtherConfiguration)
        );
        process::kill(&process::processes_under(&launch.folder).unwrap())
            .await
            .unwrap();
        assert_eq!(reason(Some(&recorded), &launch), Some(Reason::Ended));
    }
}
