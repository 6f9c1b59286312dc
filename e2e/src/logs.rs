//! Reading the logs of an environment's containers, once or as they grow.

use std::{
    fs::File,
    io::{ErrorKind, Read as _, Seek as _, SeekFrom},
    path::PathBuf,
};

use anyhow::Context as _;

use crate::environment::{PodRecord, Record};

/// Most bytes that one look takes from one log, so that a huge one does not fill the memory.
const PART: u64 = 1024 * 1024;

/// Whether the logs of a cluster's own processes are wanted too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clusters {
    With,
    Without,
}

/// One log, read from its beginning, line by line.
#[derive(Debug)]
pub struct Log {
    /// `<blueprint>/<pod>/<container>`, or `<cluster>/<container>`.
    pub source: String,
    pub path: PathBuf,
    offset: u64,
    /// A line whose end is not written yet.
    partial: Vec<u8>,
}

impl Log {
    fn new(source: String, path: PathBuf) -> Self {
        Self {
            source,
            path,
            offset: 0,
            partial: vec![],
        }
    }

    /// The lines that were written since the last look, at most about a MiB of them; empty where there are none.
    ///
    /// A log that is gone has no more lines.
    pub fn lines(&mut self) -> anyhow::Result<Vec<String>> {
        let context = || format!("cannot read `{}`", self.path.display());
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
            file => file.with_context(context)?,
        };
        let length = file.metadata().with_context(context)?.len();
        if length < self.offset {
            // Written anew.
            self.offset = 0;
            self.partial.clear();
        }
        let mut bytes = std::mem::take(&mut self.partial);
        file.seek(SeekFrom::Start(self.offset)).with_context(context)?;
        let read = file.take(PART).read_to_end(&mut bytes).with_context(context)?;
        self.offset += u64::try_from(read)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.partial = bytes.split_off(whole);
        Ok(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect())
    }

    /// What stands after the last line end.
    pub fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.partial);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }
}

/// The logs of `pods`, only of `container` where one is named.
pub fn of(record: &Record, pods: &[&PodRecord], container: Option<&str>, clusters: Clusters) -> Vec<Log> {
    let mut all = vec![];
    for pod in pods {
        for process in &pod.processes {
            if container.is_none_or(|wanted| wanted == process.container) {
                let source = format!("{}/{}/{}", pod.name.blueprint(), pod.name.pod(), process.container);
                all.push(Log::new(source, process.log.clone()));
            }
        }
    }
    if clusters == Clusters::With {
        for cluster in &record.clusters {
            for process in &cluster.processes {
                let source = format!("{}/{}", cluster.name, process.container);
                all.push(Log::new(source, process.log.clone()));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_growing_log_gives_each_line_once_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = Log::new("ferry/sink/app".into(), path.clone());
        assert!(log.lines().unwrap().is_empty(), "a log that is not there yet has no lines");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(log.lines().unwrap(), ["one"]);
        file.write_all("o 🔁\nthr".as_bytes()).unwrap();
        assert_eq!(log.lines().unwrap(), ["two 🔁"]);
        assert!(log.lines().unwrap().is_empty());
        assert_eq!(log.rest().as_deref(), Some("thr"));
        assert_eq!(log.rest(), None);
    }

    #[test]
    fn a_log_that_is_written_anew_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = Log::new("x".into(), path.clone());
        std::fs::write(&path, "a long first line\n").unwrap();
        assert_eq!(log.lines().unwrap().len(), 1);
        std::fs::write(&path, "short\n").unwrap();
        assert_eq!(log.lines().unwrap(), ["short"]);
    }
}
