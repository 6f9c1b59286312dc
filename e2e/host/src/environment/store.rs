//! Stores: folders that hold environments.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, DirBuilder},
    io::ErrorKind,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use blueprint::failure::Failure;
use jiff::Timestamp;

use super::{
    Layout, Lock, Name, Place, Record, RuntimeKind, SCHEMA_VERSION, Seat, filesystem,
    folder::{self, canonical, private_folder, replace_file},
    schema::{self, Refused},
};
use crate::process::ProcessId;

#[cfg(test)]
mod tests;

/// Names another state root than `<cargo target folder>/ferry`.
pub const STATE_VARIABLE: &str = "FERRY_STATE";

/// The state root: one folder per environment.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// One environment: where its files are, and what its record said when it was read.
#[derive(Clone, Debug)]
pub struct Environment {
    name: Name,
    layout: Layout,
    pub record: Record,
}

/// What a folder under the state root holds.
#[derive(Debug)]
pub enum Found {
    Environment(Box<Environment>),
    /// Its record cannot be read.
    Broken {
        name: Name,
        layout: Layout,
        problem: String,
        damage: Damage,
    },
}

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It is absent, or no whole record.
    Unreadable,
    /// A newer Ferry wrote it.
    Newer,
}

impl Damage {
    /// What to do about an environment of this name.
    pub fn remedy(self, name: &Name) -> String {
        match self {
            Self::Unreadable => "`cargo xtask sweep` ends what runs of it and moves its folder aside, with its keys and what its sinks have stored".into(),
            Self::Newer => format!("use the Ferry that made `{name}`, or choose another `--name`"),
        }
    }
}

/// What is known of an environment before anything of it runs.
#[derive(Clone, Debug)]
pub struct Draft {
    pub runtime: RuntimeKind,
    pub owner: Option<ProcessId>,
    /// Blueprint name → the file it was read from.
    pub blueprints: BTreeMap<String, PathBuf>,
    pub settings: BTreeMap<String, String>,
}

/// The folder of this workspace.
pub fn workspace_root() -> anyhow::Result<PathBuf> {
    let is_root = |folder: &Path| folder.join("xtask/Cargo.toml").is_file();
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR"));
    if let Some(root) = built_from.ancestors().find(|folder| is_root(folder)) {
        return Ok(root.into());
    }
    // The checkout was moved after this program was built, or the program was copied to another machine.
    let here = std::env::current_dir().context("cannot read the current folder")?;
    here.ancestors()
        .find(|folder| is_root(folder))
        .map(Path::to_path_buf)
        .ok_or_else(|| {
            Failure::usage(format!(
                "`{}` is not in a checkout of Ferry",
                here.display()
            ))
            .hint("change to the checkout and run the command again")
            .into()
        })
}

/// Cargo marks its target folder with this file (<https://bford.info/cachedir/>).
const TARGET_FOLDER_MARK: &str = "CACHEDIR.TAG";

fn target_folder() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().unwrap_or_default();
    if let Some(folder) = program
        .ancestors()
        .find(|folder| folder.join(TARGET_FOLDER_MARK).is_file())
    {
        return Ok(folder.into());
    }
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => Ok(std::path::absolute(folder)?),
        None => Ok(workspace_root()?.join("target")),
    }
}

impl Store {
    /// The state root of this machine's user: `FERRY_STATE`, or `ferry` in Cargo's target folder.
    pub fn find() -> anyhow::Result<Self> {
        Ok(match std::env::var_os(STATE_VARIABLE) {
            Some(folder) if !folder.is_empty() => Self::at(std::path::absolute(folder)?),
            _ => Self::at(target_folder()?.join("ferry")),
        })
    }

    /// Where deployments on clusters of others are, whatever checkout makes them and however often it is cleaned: `FERRY_STATE`,
    /// or `ferry` in `XDG_STATE_HOME`, or in `~/.local/state` (XDG base directories, 0.8).
    ///
    /// # Errors
    ///
    /// A [`Failure::usage`] where none of the three is known.
    pub fn deployed() -> anyhow::Result<Self> {
        Self::deployed_in(|name| std::env::var_os(name)).ok_or_else(|| {
            Failure::usage(
                "no folder for the keys of deployments: neither `XDG_STATE_HOME` nor `HOME` is set",
            )
            .hint(format!(
                "set one of them, or `{STATE_VARIABLE}`, to a folder of your own"
            ))
            .into()
        })
    }

    /// As [`Self::deployed`], by these variables. A path that is not absolute is as good as none.
    fn deployed_in(variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        if let Some(folder) = variable(STATE_VARIABLE).filter(|folder| !folder.is_empty()) {
            return Some(Self::at(std::path::absolute(folder).ok()?));
        }
        let folder = |name| Some(PathBuf::from(variable(name)?)).filter(|path| path.is_absolute());
        let home = || Some(folder("HOME")?.join(".local/state"));
        Some(Self::at(
            folder("XDG_STATE_HOME").or_else(home)?.join("ferry"),
        ))
    }

    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn make_root(&self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.root)
            .with_context(|| format!("cannot create the state root `{}`", self.root.display()))
    }

    /// The root without links: what the label of a process begins with.
    pub fn real_root(&self) -> PathBuf {
        canonical(&self.root)
    }

    fn layout(&self, name: &Name) -> Layout {
        Layout::new(self.real_root().join(name.as_str()))
    }

    /// True where there is a folder of this name, whatever is in it.
    pub fn has(&self, name: &Name) -> bool {
        self.layout(name).root().exists()
    }

    /// Makes the folder and the record of a new environment; the folder must not be there.
    pub fn create(&self, lock: &Lock, draft: Draft) -> anyhow::Result<Environment> {
        self.make_root()?;
        let name = lock.name().clone();
        let layout = self.layout(&name);
        match DirBuilder::new().mode(0o700).create(layout.root()) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(
                    Failure::usage(format!("environment `{name}` already exists"))
                        .hint(format!(
                            "remove it with `cargo xtask local-down --name {name}`, or pass \
                             another `--name`"
                        ))
                        .into(),
                );
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot create `{}`", layout.root().display()));
            }
        }
        // Inside, where nothing stays that is not found again, whatever ends this.
        if let Err(error) = filesystem::check_state(layout.root(), draft.runtime) {
            let _ = fs::remove_dir_all(layout.root());
            return Err(error);
        }
        let environment = Environment {
            record: Record {
                schema_version: SCHEMA_VERSION,
                name: name.to_string(),
                runtime: draft.runtime,
                created_at: Timestamp::now(),
                seat: Some(Seat::here().clone()),
                owner: draft.owner,
                blueprints: draft.blueprints,
                settings: draft.settings,
                clusters: vec![],
                images: None,
                existing: None,
                pods: vec![],
            },
            name,
            layout,
        };
        environment.save()?;
        private_folder(&environment.layout.logs())?;
        Ok(environment)
    }

    /// Reads the environment `name`; a usage failure that names the others where there is none.
    pub fn load(&self, name: &Name) -> anyhow::Result<Environment> {
        match self.open(name) {
            Ok(environment) => Ok(environment),
            Err(_) if !self.has(name) => {
                let others: Vec<_> = self
                    .list()?
                    .iter()
                    .map(|found| format!("`{}`", found.name()))
                    .collect();
                let failure = Failure::usage(format!("there is no environment `{name}`"));
                Err(if others.is_empty() {
                    failure.hint("create one with `cargo xtask local-up`")
                } else {
                    failure.hint(format!("pass one of {}", others.join(", ")))
                }
                .into())
            }
            Err((problem, damage)) => {
                let cause = format!("environment `{name}`: {problem}");
                Err(Failure::infrastructure(cause)
                    .hint(damage.remedy(name))
                    .into())
            }
        }
    }

    /// Every environment, ordered by name.
    pub fn list(&self) -> anyhow::Result<Vec<Found>> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot read `{}`", self.root.display()));
            }
        };
        let mut names = vec![];
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read `{}`", self.root.display()))?;
            let name = entry.file_name().to_string_lossy().parse::<Name>();
            if let (Ok(name), true) = (name, entry.path().is_dir()) {
                names.push(name);
            }
        }
        names.sort();
        let found = names.into_iter().map(|name| match self.open(&name) {
            Ok(environment) => Found::Environment(Box::new(environment)),
            Err((problem, damage)) => Found::Broken {
                layout: self.layout(&name),
                name,
                problem,
                damage,
            },
        });
        Ok(found.collect())
    }

    /// Names of the lock files that a killed command left; live ones are among them too.
    pub fn locked_names(&self) -> Vec<Name> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let file = entry.file_name();
                file.to_str()?.strip_suffix(".lock")?.parse().ok()
            })
            .collect()
    }

    /// Finishes what killed commands were deleting.
    pub fn finish_removals(&self) {
        folder::finish_removals(&self.root);
    }

    fn open(&self, name: &Name) -> Result<Environment, (String, Damage)> {
        let layout = self.layout(name);
        let path = layout.record();
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("cannot read `{}`: {error}", path.display()))
            .map_err(|problem| (problem, Damage::Unreadable))?;
        let mut record = schema::read(&text).map_err(|refused| match refused {
            Refused::Damaged(problem) => {
                (format!("`{}`: {problem}", path.display()), Damage::Unreadable)
            }
            Refused::Newer(version) => (
                format!(
                    "`{}` has schema version {version}, this Ferry reads {SCHEMA_VERSION} and older",
                    path.display()
                ),
                Damage::Newer,
            ),
        })?;
        if record.place() != Place::Here {
            record.disown();
        }
        Ok(Environment {
            name: name.clone(),
            layout,
            record,
        })
    }
}

impl Found {
    pub fn name(&self) -> &Name {
        match self {
            Self::Environment(environment) => environment.name(),
            Self::Broken { name, .. } => name,
        }
    }

    pub fn layout(&self) -> &Layout {
        match self {
            Self::Environment(environment) => environment.layout(),
            Self::Broken { layout, .. } => layout,
        }
    }

    /// The environment; else its name, and in one line what is wrong with its record and what to do about it.
    pub fn readable(self) -> Result<Environment, (Name, String)> {
        match self {
            Self::Environment(environment) => Ok(*environment),
            Self::Broken {
                name,
                problem,
                damage,
                ..
            } => {
                let remedy = damage.remedy(&name);
                Err((name, format!("{problem}; {remedy}")))
            }
        }
    }
}

impl Environment {
    pub fn name(&self) -> &Name {
        &self.name
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The store that it is in.
    pub fn store(&self) -> Store {
        let root = self.layout.root();
        Store::at(root.parent().unwrap_or(root))
    }

    /// Fails where its processes run elsewhere, which nothing done here would end or see.
    ///
    /// # Errors
    ///
    /// A [`Failure::usage`] that names the machine on which it runs.
    pub fn is_here(&self) -> anyhow::Result<()> {
        let Some(place) = self.record.elsewhere() else {
            return Ok(());
        };
        Err(Failure::usage(format!(
            "environment `{}` runs elsewhere, {place}",
            self.name
        ))
        .hint(format!(
            "run the command there; if that machine no longer exists, delete `{}`",
            self.layout.root().display()
        ))
        .into())
    }

    /// Writes the record by one rename.
    pub fn save(&self) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(&self.record)?;
        replace_file(&self.layout.record(), &text, 0o600)
    }
}
