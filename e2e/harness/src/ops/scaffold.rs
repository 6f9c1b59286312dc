//! Writes a new blueprint with its test, the line that declares the test, and its rendered
//! manifests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use blueprint::{
    self, Blueprint, PUBLIC_PORTS,
    failure::Failure,
    plan::{Plan, Ports, Sockets},
};
use host::manifests;
use messages::{Protocol, is_dns_label};

mod text;

#[cfg(test)]
mod tests;

/// Where tests of blueprints are, from the root of the tree.
const TESTS: &str = "e2e/tests/it";

/// The public port of the first pod; the next pod's is 100 higher. Where one of them is taken, all move up by 10.
const FIRST_PORT: u16 = 30100;
const PORTS_BETWEEN_PODS: u16 = 100;
const PORTS_BETWEEN_BLUEPRINTS: usize = 10;

/// Words that invalid name of a of a module, of those that are DNS labels.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Options of `new`: a chain with one pod in each cluster.
#[derive(Clone, Debug)]
pub struct Wish {
    pub name: String,
    /// Of every connection.
    pub protocol: Protocol,
    /// In travel order: the first gets the gateway, the last the sink, each between them a processor.
    pub clusters: Vec<String>,
}

/// What is to be written. Nothing is before [`Self::write`].
#[derive(Debug)]
pub struct Scaffold {
    pub blueprint: Blueprint,
    /// New folder of the blueprint.
    folder: PathBuf,
    /// Path below the folder → text.
    files: BTreeMap<String, String>,
    /// New file of the test.
    test: (PathBuf, String),
    /// The list of tests, with the new one in it.
    list: (PathBuf, String),
}

/// One pod of the chain.
#[derive(Clone, Debug)]
struct Stop {
    cluster: String,
    pod: String,
    port: u16,
}

impl Scaffold {
    /// Decides what to write into the tree at `root`.
    ///
    /// # Errors
    ///
    /// A [`Failure::usage`]: a bad name, fewer than two clusters, or something of that name is there already.
    pub fn of(root: &Path, wish: &Wish) -> anyhow::Result<Self> {
        check(wish)?;
        let manifests = root.join("manifests");
        let others = manifests::all(&manifests)?;
        let folder = manifests.join(&wish.name);
        let module = module(&wish.name);
        let test = root.join(TESTS).join(format!("{module}.rs"));
        for path in [&folder, &test, &test.with_extension("")] {
            if path.exists() {
                return Err(
                    Failure::usage(format!("`{}` already exists", path.display()))
                        .hint("pass another name")
                        .into(),
                );
            }
        }
        let stops = chain(&wish.clusters, &others)?;
        let text = text::blueprint(wish, &stops);
        let path = folder.join(blueprint::FILE_NAME);
        let blueprint = Blueprint::parse(&text, &path).map_err(|problems| {
            // The file does not exist, so its line numbers would be useless.
            let problems: Vec<_> = problems.iter().map(|problem| &*problem.text).collect();
            Failure::usage(format!(
                "`{}` would not be a valid blueprint: {}",
                wish.name,
                problems.join("; ")
            ))
            .hint("pass other names, or fewer clusters")
        })?;
        let mut all = others;
        all.push(blueprint.clone());
        Plan::of(&all, Ports::Spread, &|_| Sockets::in_pod())
            .context("it conflicts with the existing blueprints")?;

        let prefix = format!("{}/", wish.name);
        let mut files: BTreeMap<String, String> =
            render::checked_in(std::slice::from_ref(&blueprint))?
                .into_iter()
                .map(|(path, text)| (path.trim_start_matches(&prefix).to_owned(), text))
                .collect();
        files.insert(blueprint::FILE_NAME.into(), text);
        let list = root.join(TESTS).join("main.rs");
        let listed = fs::read_to_string(&list)
            .with_context(|| format!("cannot read `{}`", list.display()))?;
        Ok(Self {
            blueprint,
            folder,
            files,
            test: (test, text::test(wish, &stops)),
            list: (list, text::listed(&listed, &module)),
        })
    }

    /// Writes all of it, or nothing.
    pub fn write(&self) -> anyhow::Result<()> {
        let mut made = vec![];
        let written = self.write_each(&mut made);
        if written.is_err() {
            for path in made.iter().rev() {
                // What cannot be removed is no worse than the cause, which is said.
                let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
            }
        }
        written
    }

    fn write_each(&self, made: &mut Vec<PathBuf>) -> anyhow::Result<()> {
        make_folder(&self.folder, made)?;
        for (path, text) in &self.files {
            let path = self.folder.join(path);
            let folders = path.ancestors().skip(1);
            let missing: Vec<_> = folders.take_while(|folder| !folder.exists()).collect();
            for folder in missing.into_iter().rev() {
                make_folder(folder, made)?;
            }
            make_file(&path, text, made)?;
        }
        make_file(&self.test.0, &self.test.1, made)?;
        // Last: with it the test is part of the tree.
        let (list, text) = &self.list;
        fs::write(list, text).with_context(|| format!("cannot write `{}`", list.display()))
    }

    /// The file of the blueprint, of its test, and the list of tests that names it.
    pub fn paths(&self) -> [&Path; 3] {
        [self.blueprint.path(), &self.test.0, &self.list.0]
    }

    /// The folder of the blueprint, and how many manifests are in it.
    pub fn manifests(&self) -> (&Path, usize) {
        (&self.folder, self.files.len() - 1)
    }

    /// The name of the test's module, by which `cargo test` finds it.
    pub fn module(&self) -> String {
        module(&self.blueprint.name)
    }
}

fn make_folder(path: &Path, made: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    fs::create_dir(path).with_context(|| format!("cannot make the folder `{}`", path.display()))?;
    made.push(path.into());
    Ok(())
}

fn make_file(path: &Path, text: &str, made: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let cannot = || format!("cannot write `{}`", path.display());
    let mut file = File::create_new(path).with_context(cannot)?;
    made.push(path.into());
    file.write_all(text.as_bytes()).with_context(cannot)
}

fn check(wish: &Wish) -> anyhow::Result<()> {
    label("blueprint", &wish.name)?;
    let module = module(&wish.name);
    if module.starts_with(|first: char| first.is_ascii_digit())
        || KEYWORDS.contains(&module.as_str())
    {
        return Err(Failure::usage(format!(
            "invalid blueprint name `{}`: its test would be the Rust module `{module}`, which is \
             not a valid name",
            wish.name
        ))
        .hint("pass another name, such as `island-ferry`")
        .into());
    }
    let mut seen = BTreeSet::new();
    for cluster in &wish.clusters {
        label("cluster", cluster)?;
        if !seen.insert(cluster) {
            return Err(
                Failure::usage(format!("cluster `{cluster}` is named twice"))
                    .hint("name each cluster once, in travel order")
                    .into(),
            );
        }
    }
    if seen.len() < 2 {
        return Err(
            Failure::usage(format!("a ferry needs two clusters, not {}", seen.len()))
                .hint("pass them as `--clusters cluster-a,cluster-b`")
                .into(),
        );
    }
    Ok(())
}

fn label(of: &str, name: &str) -> anyhow::Result<()> {
    if is_dns_label(name) {
        return Ok(());
    }
    let shown: String = name.chars().take(70).collect();
    Err(Failure::usage(format!("invalid name of a {of}: {shown:?}"))
        .hint(
            "use at most 63 lower-case letters, digits and hyphens, with a letter or digit \
               first and last",
        )
        .into())
}

fn module(name: &str) -> String {
    name.replace('-', "_")
}

/// The pods with ports that no other blueprint has, in whatever cluster: then all can be up on one machine.
fn chain(clusters: &[String], others: &[Blueprint]) -> anyhow::Result<Vec<Stop>> {
    let pods = others.iter().flat_map(|blueprint| &blueprint.pods);
    let taken: BTreeSet<u16> = pods.map(|pod| pod.port).collect();
    let ports = (FIRST_PORT..=*PUBLIC_PORTS.end())
        .step_by(PORTS_BETWEEN_BLUEPRINTS)
        .find_map(|first| {
            let ports: Option<Vec<u16>> = (0..u16::try_from(clusters.len()).ok()?)
                .map(|place| first.checked_add(place.checked_mul(PORTS_BETWEEN_PODS)?))
                .collect();
            ports.filter(|ports| ports.iter().all(|port| !taken.contains(port)))
        })
        .ok_or_else(|| {
            Failure::usage(format!(
                "not enough ports for pods in {} clusters",
                clusters.len()
            ))
            .hint("pass fewer clusters")
        })?;
    let last = clusters.len() - 1;
    let pod = |place: usize| match place {
        0 => "gateway".to_owned(),
        place if place == last => "sink".to_owned(),
        1 if last == 2 => "processor".to_owned(),
        place => format!("processor-{place}"),
    };
    let stops = clusters.iter().zip(ports).enumerate();
    Ok(stops
        .map(|(place, (cluster, port))| Stop {
            cluster: cluster.clone(),
            pod: pod(place),
            port,
        })
        .collect())
}
