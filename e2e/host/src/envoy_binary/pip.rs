//! Runs `pip`: from a Python on the PATH, through `uv`, or from the wheel that a Python
//! bundles.
//!
//! Indexes, mirrors, proxies and credentials are those that `pip` is set up for. What is made for installing packages, and
//! stops a mere download, is left out: guards against installing outside of a virtual environment, and other targets.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::{Release, ToolCache, is_executable, last_line, path_text};
use crate::process::{self, CommandLine, Done};

/// Longest time for all tries together.
pub(super) const DOWNLOAD_LIMIT: Duration = Duration::from_secs(10 * 60);
const LOOK_LIMIT: Duration = Duration::from_secs(20);

/// Guards that would stop a download, set so that a `pip.conf` which has them is overruled.
/// <https://pip.pypa.io/en/stable/topics/configuration/#precedence-override-order>
const OVERRULED: [&str; 2] = ["PIP_REQUIRE_VIRTUALENV", "PIP_REQUIRE_HASHES"];

/// Settings of other commands, and of what is wanted elsewhere. What is fetched here is pinned by its SHA-256.
const LEFT_OUT: [&str; 17] = [
    "PIP_ABI",
    "PIP_CONSTRAINT",
    "PIP_DEST",
    "PIP_DOWNLOAD_DIR",
    "PIP_DRY_RUN",
    "PIP_EDITABLE",
    "PIP_HELP",
    "PIP_IMPLEMENTATION",
    "PIP_PLATFORM",
    "PIP_PREFIX",
    "PIP_PYTHON",
    "PIP_PYTHON_VERSION",
    "PIP_REQUIREMENT",
    "PIP_ROOT",
    "PIP_TARGET",
    "PIP_USER",
    "PIP_VERSION",
];

/// Words of a line that tells more than the last one, which often says only that nothing was found.
const TELLING: [&str; 9] = [
    "401",
    "403",
    "407",
    "credentials",
    "certificate",
    "proxy",
    "resolve",
    "connection",
    "timed out",
];

/// A way to run `pip`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// The module of this Python.
    Module(PathBuf),
    /// Fetched by this `uv`.
    Uv(PathBuf),
    /// What this Python bundles for new virtual environments; for one without `pip`.
    Bundled(PathBuf),
}

impl Way {
    /// As a user would type it.
    fn text(&self) -> String {
        match self {
            Self::Module(python) => format!("{} -m pip", python.display()),
            Self::Uv(uv) => format!("{} tool run pip", uv.display()),
            Self::Bundled(python) => format!("{} -m venv", python.display()),
        }
    }
}

impl ToolCache {
    /// Every way to `pip` that the PATH offers, the likeliest first.
    fn ways(&self) -> Vec<Way> {
        let pythons = self.pythons();
        let modules = pythons.iter().cloned().map(Way::Module);
        let uv = self.on_path("uv").map(Way::Uv);
        let bundled = pythons.iter().cloned().map(Way::Bundled);
        modules.chain(uv).chain(bundled).collect()
    }

    /// The Pythons on the PATH: every `python3`, then every `python`, then those of one version, newest first.
    fn pythons(&self) -> Vec<PathBuf> {
        let mut found: Vec<_> = ["python3", "python"]
            .into_iter()
            .flat_map(|name| self.all_on_path(name))
            .collect();
        let mut versions: Vec<(u32, PathBuf)> = self
            .folders()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
            .filter_map(|path| Some((minor_version(path.file_name()?)?, path)))
            .filter(|(_, path)| is_executable(path))
            .collect();
        versions.sort_by_key(|(minor, _)| std::cmp::Reverse(*minor));
        found.extend(versions.into_iter().map(|(_, path)| path));
        let mut seen = BTreeSet::new();
        found.retain(|path| seen.insert(identity(path)));
        found
    }

    /// The first way that can be taken, in words; else every way and why not. Fetches nothing.
    pub(super) async fn installer(&self) -> Result<String, Vec<String>> {
        let mut tried = vec![];
        for way in self.ways() {
            let line = match &way {
                Way::Module(python) => {
                    CommandLine::new(python.to_string_lossy()).args(["-m", "pip", "--version"])
                }
                Way::Uv(uv) => CommandLine::new(uv.to_string_lossy()).args(["--version"]),
                Way::Bundled(python) => CommandLine::new(python.to_string_lossy()).args([
                    "-m",
                    "ensurepip",
                    "--version",
                ]),
            };
            match process::output(&self.unguarded(line).within(LOOK_LIMIT)).await {
                Ok(done) if done.status.success() => return Ok(way.text()),
                Ok(done) => tried.push(ended(&way, &done)),
                Err(error) => tried.push(format!(
                    "`{}`: {}",
                    way.text(),
                    redacted(&format!("{error:#}"))
                )),
            }
        }
        Err(tried)
    }

    /// Has `pip` bring the one wheel of a release into a folder below `folder`; each way is tried until one does.
    pub(super) async fn download(
        &self,
        release: &Release,
        folder: &Path,
    ) -> anyhow::Result<PathBuf> {
        let until = Instant::now() + DOWNLOAD_LIMIT;
        let (mut tried, mut without_pip) = (vec![], BTreeSet::new());
        for (number, way) in self.ways().into_iter().enumerate() {
            if matches!(&way, Way::Bundled(python) if !without_pip.contains(python)) {
                continue;
            }
            let own = folder.join(format!("try-{number}"));
            fs::create_dir(&own)?;
            let left = until.saturating_duration_since(Instant::now());
            match self.download_by(&way, release, &own, left).await {
                Ok(wheel) => return Ok(wheel),
                Err(error) => {
                    let said = redacted(&format!("{error:#}"));
                    if let (Way::Module(python), true) = (&way, said.contains("No module named")) {
                        without_pip.insert(python.clone());
                    }
                    tried.push(said);
                }
            }
        }
        if tried.is_empty() {
            bail!("neither `python3` nor `uv` is on the PATH");
        }
        bail!("{}", tried.join("; "))
    }

    async fn download_by(
        &self,
        way: &Way,
        release: &Release,
        folder: &Path,
        limit: Duration,
    ) -> anyhow::Result<PathBuf> {
        let line = match way {
            Way::Module(python) => CommandLine::new(python.to_string_lossy()).args(["-m", "pip"]),
            Way::Uv(uv) => CommandLine::new(uv.to_string_lossy()).args(["tool", "run", "pip"]),
            Way::Bundled(python) => {
                let made = CommandLine::new(python.to_string_lossy())
                    .args(["-m", "venv", "made"])
                    .folder(folder)
                    .within(limit);
                self.succeed(way, made).await?;
                let own = folder.join("made/bin/python");
                CommandLine::new(own.to_string_lossy()).args(["-m", "pip"])
            }
        };
        let requirement = format!("{}=={}", release.package, release.version);
        let line = line
            .args(["download", "--no-input", "--no-cache-dir"])
            .args(["--disable-pip-version-check", "--progress-bar", "off"])
            .args(["--no-deps", "--only-binary=:all:", "--dest", "."])
            .args([requirement.as_str()])
            .folder(folder)
            .within(limit);
        self.succeed(way, line).await?;
        let mut wheels = fs::read_dir(folder)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|ending| ending == "whl"));
        match (wheels.next(), wheels.next()) {
            (Some(wheel), None) => Ok(wheel),
            (None, _) => bail!("`{}` succeeded, but downloaded no wheel", way.text()),
            _ => bail!("`{}` downloaded more than one wheel", way.text()),
        }
    }

    async fn succeed(&self, way: &Way, line: CommandLine) -> anyhow::Result<()> {
        let done = process::output(&self.unguarded(line))
            .await
            .with_context(|| format!("`{}`", way.text()))?;
        if done.status.success() {
            return Ok(());
        }
        bail!("{}", ended(way, &done))
    }

    /// With the PATH of this cache, and without what is no matter of a download.
    fn unguarded(&self, line: CommandLine) -> CommandLine {
        let line = line.env("PATH", path_text(&self.path));
        let line = LEFT_OUT.into_iter().fold(line, CommandLine::without);
        OVERRULED
            .into_iter()
            .fold(line, |line, guard| line.env(guard, "0"))
    }
}

/// The minor version of `python3.N`.
fn minor_version(name: &OsStr) -> Option<u32> {
    name.to_str()?.strip_prefix("python3.")?.parse().ok()
}

/// The same for two names of one Python. Its folder counts: a virtual environment's Python is a link to another's, and has
/// packages of its own.
fn identity(python: &Path) -> (PathBuf, PathBuf) {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let folder = python.parent().map(real).unwrap_or_default();
    (folder, real(python))
}

/// How a way ended, on one line.
fn ended(way: &Way, done: &Done) -> String {
    let text = done.tail(40);
    let last = last_line(&text);
    let telling = text.lines().map(str::trim).rfind(|line| {
        let line = line.to_lowercase();
        TELLING.iter().any(|word| line.contains(word))
    });
    let why = match telling {
        Some(telling) if telling != last => format!("{telling}; {last}"),
        _ => last.to_owned(),
    };
    format!("`{}`: {}: {}", way.text(), done.status, redacted(&why))
}

/// Without the credentials that an index's address may hold: what stands before `@`, and what is asked for after `?`.
fn redacted(text: &str) -> String {
    let mut parts = text.split("://");
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part
            .find(|letter: char| letter.is_whitespace() || "'\"`<>()".contains(letter))
            .unwrap_or(part.len());
        let (address, rest) = part.split_at(end);
        let host = address.rsplit_once('@').map(|(_, host)| host);
        let shown = host.unwrap_or(address);
        let shown = shown.split_once('?').map_or(shown, |(path, _)| path);
        clean.push_str("://");
        if host.is_some() {
            clean.push_str("****@");
        }
        clean.push_str(shown);
        clean.push_str(rest);
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_an_index_are_not_shown() {
        for (text, clean) in [
            ("no address", "no address"),
            (
                "Looking in indexes: https://joe:s3cret@pypi.example/simple/",
                "Looking in indexes: https://****@pypi.example/simple/",
            ),
            (
                "for 'https://token@a.example:8443/x', https://b.example/y",
                "for 'https://****@a.example:8443/x', https://b.example/y",
            ),
            (
                "(https://j:p@ss/w@rd@a.example/x?sig=abc)",
                "(https://****@a.example/x)",
            ),
            ("://", "://"),
        ] {
            assert_eq!(redacted(text), clean);
        }
    }

    #[test]
    fn python_names_give_their_version() {
        assert_eq!(minor_version(OsStr::new("python3.13")), Some(13));
        for other in ["python3", "python3.13-config", "python3.x", "python2.7"] {
            assert_eq!(minor_version(OsStr::new(other)), None, "{other}");
        }
    }
}
