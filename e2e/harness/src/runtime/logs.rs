//! Reads and follows the logs of containers.

use std::{io::ErrorKind, path::PathBuf, time::Duration};

use anyhow::Context as _;
use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use host::process::ProcessId;
use tokio::{
    fs::File,
    io::{AsyncBufReadExt as _, BufReader},
};

/// How often a followed file is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Whether a log is read to its end, or beyond it as long as something writes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    No,
    Yes,
}

/// The lines of a log, without their ends.
pub type LogLines = BoxStream<'static, anyhow::Result<String>>;

/// The lines of a log file. Following ends when `writer` has exited, or immediately if there is
/// none.
pub(super) async fn file_lines(
    path: PathBuf,
    follow: Follow,
    writer: Option<ProcessId>,
) -> anyhow::Result<LogLines> {
    let file = match File::open(&path).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(futures_util::stream::empty().boxed());
        }
        other => other.with_context(|| format!("cannot read `{}`", path.display()))?,
    };
    let writer = writer.filter(|_| follow == Follow::Yes);
    Ok(lines(BufReader::new(file), writer).boxed())
}

fn lines(
    reader: BufReader<File>,
    writer: Option<ProcessId>,
) -> impl Stream<Item = anyhow::Result<String>> {
    let start = (reader, Vec::new());
    futures_util::stream::try_unfold(start, move |(mut reader, mut line)| async move {
        loop {
            // Settled before the read: what a writer wrote before it ended is still read.
            let goes_on = writer.is_some_and(ProcessId::is_running);
            reader.read_until(b'\n', &mut line).await?;
            if line.ends_with(b"\n") {
                line.pop();
            } else if goes_on {
                // A file has no event for "more was written" that needs no further dependency.
                tokio::time::sleep(LOOK).await;
                continue;
            } else if line.is_empty() {
                return Ok(None);
            }
            let text = String::from_utf8_lossy(&line).into_owned();
            line.clear();
            return Ok(Some((text, (reader, line))));
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use futures_util::TryStreamExt as _;

    use super::*;
    use host::process::{Launch, stop};

    #[tokio::test]
    async fn a_followed_log_goes_on_until_its_writer_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let writer = Launch {
            program: "/bin/sleep".into(),
            args: vec!["600".into()],
            env: [].into(),
            folder: folder.path().into(),
            log: path.clone(),
        }
        .start()
        .unwrap();
        let mut log = std::fs::File::options().append(true).open(&path).unwrap();
        log.write_all(b"one\ntw").unwrap();
        let mut lines = file_lines(path, Follow::Yes, Some(writer)).await.unwrap();
        assert_eq!(lines.try_next().await.unwrap().unwrap(), "one");
        log.write_all(b"o\nlast").unwrap();
        assert_eq!(lines.try_next().await.unwrap().unwrap(), "two");
        stop(&[writer], Duration::from_secs(20)).await.unwrap();
        assert_eq!(lines.try_next().await.unwrap().unwrap(), "last");
        assert_eq!(lines.try_next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_log_that_was_never_written_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let lines = file_lines(folder.path().join("none"), Follow::Yes, None)
            .await
            .unwrap();
        assert_eq!(lines.try_collect::<Vec<_>>().await.unwrap(), [""; 0]);
    }
}
