use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder},
    io::ErrorKind,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Deserialize;

use super::{Layout, Lock, Name, Record, RuntimeKind, SCHEMA_VERSION, filesystem};
use crate::{
    failure::Failure,
    process::{self, ProcessId},
};

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
    /// Its record is absent, unreadable or of another version: left by a killed command or by another Ferry.
    Broken {
        name: Name,
        layout: Layout,
        problem: String,
    },
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
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    if let Some(root) = built_from.filter(|root| is_root(root)) {
        return Ok(root.into());
    }
    // The checkout was moved after this program was built, or the program was copied to another machine.
    let here = std::env::current_dir().context("cannot read the current folder")?;
    here.ancestors()
        .find(|folder| is_root(folder))
        .map(Path::to_path_buf)
        .ok_or_else(|| {
            Failure::usage(format!(
                "`{}` is not inside a checkout of Ferry",
                here.display()
            ))
            .hint("change to the checkout, and run it again")
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

/// Every path that becomes an environment's is absolute and free of links: a process is recognized by its working
/// folder as the kernel shows it.
fn canonical(folder: &Path) -> PathBuf {
    folder.canonicalize().unwrap_or_else(|_| folder.into())
}

/// A folder that only its owner can enter.
pub(crate) fn private_folder(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot create `{}`", path.display()))
}

/// Writes a file of mode `mode` by one rename: a reader sees the old content or the new, never a part.
pub(crate) fn replace_file(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    use std::{io::Write as _, os::unix::fs::PermissionsExt as _};
    let write = || -> anyhow::Result<()> {
        let folder = path.parent().context("it has no folder")?;
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .permissions(fs::Permissions::from_mode(mode))
            .tempfile_in(folder)?;
        file.write_all(content)?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write `{}`", path.display()))
}

impl Store {
    /// The state root of this machine's user: `FERRY_STATE`, or `ferry` in Cargo's target folder.
    pub fn find() -> anyhow::Result<Self> {
        Ok(match std::env::var_os(STATE_VARIABLE) {
            Some(folder) if !folder.is_empty() => Self::at(std::path::absolute(folder)?),
            _ => Self::at(target_folder()?.join("ferry")),
        })
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

    fn layout(&self, name: &Name) -> Layout {
        Layout::new(canonical(&self.root).join(name.as_str()))
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
                    Failure::usage(format!("there is an environment `{name}` already"))
                        .hint(format!(
                            "take it down with `cargo xtask local-down --name {name}`, or choose another `--name`"
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
                let others: Vec<_> = self.list()?.iter().map(|found| format!("`{}`", found.name())).collect();
                let failure = Failure::usage(format!("there is no environment `{name}`"));
                Err(if others.is_empty() {
                    failure.hint("start one with `cargo xtask local-up`")
                } else {
                    failure.hint(format!("choose one of {}", others.join(", ")))
                }
                .into())
            }
            Err(problem) => Err(Failure::infrastructure(format!("environment `{name}`: {problem}"))
                .hint("`cargo xtask sweep` removes it and what runs of it; an environment of another version is best taken down by the Ferry that made it")
                .into()),
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
            Err(problem) => Found::Broken {
                layout: self.layout(&name),
                name,
                problem,
            },
        });
        Ok(found.collect())
    }

    /// Names of the lock files that a killed command left; live ones are among them too.
    pub(crate) fn locked_names(&self) -> Vec<Name> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let file = entry.file_name();
                file.to_str()?.strip_suffix(".lock")?.parse().ok()
            })
            .collect()
    }

    fn open(&self, name: &Name) -> Result<Environment, String> {
        /// What every version of the record has.
        #[derive(Deserialize)]
        struct Version {
            schema_version: u32,
        }
        let layout = self.layout(name);
        let path = layout.record();
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
        let not_a_record = |error: serde_json::Error| format!("`{}`: {error}", path.display());
        let Version { schema_version } = serde_json::from_str(&text).map_err(not_a_record)?;
        if schema_version != SCHEMA_VERSION {
            return Err(format!(
                "`{}` has schema version {schema_version}, this Ferry reads {SCHEMA_VERSION}",
                path.display()
            ));
        }
        let record = serde_json::from_str(&text).map_err(not_a_record)?;
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
}

impl Environment {
    pub fn name(&self) -> &Name {
        &self.name
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Writes the record by one rename.
    pub fn save(&self) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(&self.record)?;
        replace_file(&self.layout.record(), &text, 0o600)
    }
}

impl Layout {
    /// Deletes the folder; refused while a process that was started for it runs, since it could not be found again.
    pub fn remove(&self) -> anyhow::Result<()> {
        if let Some(running) = process::processes_under(self.root())?.first() {
            return Err(Failure::infrastructure(format!(
                "`{}` is kept: {running} ({}) still runs in it",
                self.root().display(),
                running.name()
            ))
            .hint("`cargo xtask sweep` ends it and removes the folder")
            .into());
        }
        match fs::remove_dir_all(self.root()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot delete `{}`", self.root().display()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> Draft {
        Draft {
            runtime: RuntimeKind::Embedded,
            owner: ProcessId::current(),
            blueprints: BTreeMap::new(),
            settings: BTreeMap::new(),
        }
    }

    fn store() -> (tempfile::TempDir, Store, Name) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().join("state"));
        (folder, store, "local".parse().unwrap())
    }

    #[test]
    fn an_environment_is_found_again() {
        let (_folder, store, name) = store();
        let lock = store.try_lock(&name).unwrap().unwrap();
        let mut made = store.create(&lock, draft()).unwrap();
        made.record.owner = None;
        made.save().unwrap();
        let found = store.load(&name).unwrap();
        assert_eq!(found.record.owner, None);
        assert_eq!(found.layout().root(), made.layout().root());
        assert_eq!(store.list().unwrap().len(), 1);
        found.layout().remove().unwrap();
        assert!(!store.has(&name));
    }

    #[test]
    fn a_name_is_given_once() {
        let (_folder, store, name) = store();
        let lock = store.try_lock(&name).unwrap().unwrap();
        store.create(&lock, draft()).unwrap();
        let error = store.create(&lock, draft()).unwrap_err();
        assert_eq!(error.to_string(), "there is an environment `local` already");
        assert_eq!(Failure::exit_code(&error), 2);
    }

    #[test]
    fn an_absent_environment_is_a_usage_failure_that_names_the_others() {
        let (_folder, store, name) = store();
        let hint =
            |error: &anyhow::Error| Failure::of(error).unwrap().next_step().unwrap().to_owned();
        assert!(hint(&store.load(&name).unwrap_err()).contains("local-up"));
        let lock = store.try_lock(&name).unwrap().unwrap();
        store.create(&lock, draft()).unwrap();
        let error = store.load(&"other".parse().unwrap()).unwrap_err();
        assert_eq!(hint(&error), "choose one of `local`");
        assert_eq!(Failure::exit_code(&error), 2);
    }

    #[test]
    fn another_schema_version_is_refused_by_name() {
        let (_folder, store, name) = store();
        let lock = store.try_lock(&name).unwrap().unwrap();
        let made = store.create(&lock, draft()).unwrap();
        fs::write(made.layout().record(), r#"{"schema_version": 99}"#).unwrap();
        let error = store.load(&name).unwrap_err().to_string();
        assert!(
            error.contains("has schema version 99, this Ferry reads 1"),
            "{error}"
        );
    }

    #[test]
    fn no_damage_to_a_record_panics_and_what_is_refused_names_the_file() {
        let (_folder, store, name) = store();
        let lock = store.try_lock(&name).unwrap().unwrap();
        let path = store.create(&lock, draft()).unwrap().layout().record();
        let good = fs::read(&path).unwrap();
        proptest::proptest!(|(at: proptest::sample::Index, bytes: [u8; 2], length in 0_usize..9)| {
            let at = at.index(good.len());
            let mut damaged = good.clone();
            damaged.splice(at..(at + length).min(good.len()), bytes);
            fs::write(&path, damaged).unwrap();
            if let Err(error) = store.load(&name) {
                let said = format!("{error:#}");
                proptest::prop_assert!(said.contains("environment.json"), "{said}");
            }
        });
    }

    #[test]
    fn a_folder_without_a_record_is_listed_as_broken() {
        let (_folder, store, _) = store();
        fs::create_dir_all(store.root().join("half")).unwrap();
        fs::write(store.root().join("local.lock"), b"").unwrap();
        let found = store.list().unwrap();
        assert!(matches!(&found[..], [Found::Broken { name, .. }] if name.as_str() == "half"));
    }
}
