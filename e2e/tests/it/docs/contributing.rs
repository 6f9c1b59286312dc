//! CONTRIBUTING's way from nothing to a new blueprint and its green test, walked in a copy of the tree.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use harness::ops::scaffold::{Scaffold, Wish};
use host::{
    binaries::{self, Profile},
    timeline::Timeline,
};

use super::{blocks, part, read, root, without_the_outer_build};

/// A copy of the tree, with a target folder of its own in which what others wrote is built already.
struct Copy {
    folder: tempfile::TempDir,
    /// Short, as the paths of sockets below it must be.
    state: tempfile::TempDir,
    services: PathBuf,
}

impl Copy {
    fn new(services: PathBuf) -> Self {
        // Links reach no further than one file system, and the target folder of this build is the one to link to.
        let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(temporary).unwrap();
        let copy = Self {
            folder: tempfile::tempdir_in(temporary).unwrap(),
            state: tempfile::Builder::new().prefix("ferry-").tempdir().unwrap(),
            services,
        };
        for path in files_of_the_tree() {
            let to = copy.path(&path);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(root().join(&path), to).unwrap();
        }
        let built = temporary.parent().unwrap();
        let target = copy.target();
        fs::create_dir_all(&target).unwrap();
        fs::copy(built.join("CACHEDIR.TAG"), target.join("CACHEDIR.TAG")).unwrap();
        let ours = targets_of_the_workspace();
        for folder in ["deps", ".fingerprint", "build"] {
            let place = Path::new("debug").join(folder);
            take_over(&built.join(&place), &target.join(&place), &ours);
        }
        copy
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn target(&self) -> PathBuf {
        self.path("target")
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.folder.path())
            .env("CARGO_TARGET_DIR", self.target())
            .env("CARGO_NET_OFFLINE", "true")
            .env("CARGO_INCREMENTAL", "0")
            .env("FERRY_STATE", self.state.path().join("state"))
            // A new blueprint changes no service.
            .env("FERRY_BIN_DIR", &self.services)
            .env_remove("FERRY_ENVIRONMENT");
        without_the_outer_build(&mut command);
        command
    }

    /// Runs the lines of a shell block as they are printed.
    fn run(&self, block: &str) -> String {
        let done = self.command("sh", &["-euc", block]).output().unwrap();
        let (out, log) = (
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr),
        );
        assert!(
            done.status.success(),
            "{}:\n{block}\n{out}\n{log}",
            done.status
        );
        out.into_owned()
    }
}

impl Drop for Copy {
    /// What a block that failed half-way has left running.
    fn drop(&mut self) {
        let xtask = self.target().join("debug/xtask");
        if xtask.is_file() {
            let xtask = xtask.display().to_string();
            let _ = self.command(&xtask, &["local-down", "--all"]).output();
        }
    }
}

#[tokio::test]
#[ignore = "builds a copy of the workspace: cargo test -p e2e --test it -- --ignored docs::"]
async fn way_to_a_new_blueprint_leads_there() -> anyhow::Result<()> {
    let page = read("CONTRIBUTING.md");
    let way = part(
        &page,
        "## Add a blueprint and its test",
        "### When it fails",
    );
    let built = binaries::binaries(Profile::Dev, &Timeline::default()).await?;
    let copy = Copy::new(built.wosp().parent().unwrap().into());

    let mut steps = blocks(way, "sh").into_iter();
    let new = steps.next().unwrap();
    assert!(new.starts_with("cargo xtask new island-ferry "), "{new}");
    copy.run(new);
    // What the page shows is what was written.
    let manifests = "manifests/island-ferry/blueprint.yaml";
    let test = "e2e/tests/it/island_ferry.rs";
    assert_eq!(blocks(way, "yaml"), [copy.read(manifests)]);
    assert_eq!(blocks(way, "rust"), [copy.read(test)]);
    for path in [manifests, test] {
        assert!(
            way.contains(&format!("`{path}`")),
            "the page must name {path}"
        );
    }

    let rest: Vec<&str> = steps.collect();
    assert!(rest.len() >= 4, "only {} blocks follow", rest.len());
    let mut tests = 0;
    for block in rest {
        let out = copy.run(block);
        tests += block.matches("cargo test ").count();
        for line in out.lines().filter(|line| line.starts_with("test result:")) {
            assert!(line.contains(" 2 passed; 0 failed"), "{block}\n{out}");
            tests -= 1;
        }
    }
    assert_eq!(tests, 0, "each `cargo test` must have run its tests");
    // A second one of that name is refused, on whatever machine.
    let again = copy.command("sh", &["-euc", new]).output()?;
    assert_eq!(again.status.code(), Some(2));
    let left = copy.run("cargo xtask status --json");
    assert_eq!(left, "", "nothing must be left running");
    Ok(())
}

/// The same way without a build: what the command writes is what the page shows.
#[test]
fn page_shows_what_new_writes() -> anyhow::Result<()> {
    let page = read("CONTRIBUTING.md");
    let way = part(
        &page,
        "## Add a blueprint and its test",
        "### When it fails",
    );
    let new = blocks(way, "sh")[0];
    let words: Vec<_> = new.split_whitespace().collect();
    let after = |flag: &str| {
        let place = words.iter().position(|word| *word == flag).unwrap();
        words[place + 1]
    };
    let tree = tempfile::tempdir()?;
    for path in files_of_the_tree() {
        let is_read = path.starts_with("manifests/") || path.starts_with("e2e/tests/it/");
        if is_read {
            let to = tree.path().join(&path);
            fs::create_dir_all(to.parent().unwrap())?;
            fs::copy(root().join(&path), to)?;
        }
    }
    let wish = Wish {
        name: after("new").into(),
        protocol: serde_json::from_value(after("--protocol").into())?,
        clusters: after("--clusters").split(',').map(str::to_owned).collect(),
    };

    Scaffold::of(tree.path(), &wish)?.write()?;

    let written = |path: &str| fs::read_to_string(tree.path().join(path)).unwrap();
    let manifests = "manifests/island-ferry/blueprint.yaml";
    let test = "e2e/tests/it/island_ferry.rs";
    assert_eq!(blocks(way, "yaml"), [written(manifests)]);
    assert_eq!(blocks(way, "rust"), [written(test)]);
    assert!(written("e2e/tests/it/main.rs").contains("\nmod island_ferry;\n"));
    Ok(())
}

/// What is under version control or could be: no build, no state.
fn files_of_the_tree() -> Vec<String> {
    let listing = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(listing.status.success());
    let listing = String::from_utf8(listing.stdout).unwrap();
    let files = listing.lines().map(str::to_owned);
    files.filter(|path| root().join(path).is_file()).collect()
}

/// Names of all that this workspace builds, as files have them. Those are built anew: each has the place of its sources in it.
fn targets_of_the_workspace() -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut names = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let targets = package["targets"].as_array().unwrap().iter();
        for named in targets.chain([package]) {
            names.insert(named["name"].as_str().unwrap().replace('-', "_"));
        }
    }
    names
}

/// Links large files and copies small ones, which Cargo may write anew in place. Times stay: by them Cargo knows what is fresh.
fn take_over(from: &Path, to: &Path, except: &BTreeSet<String>) {
    const LARGE: u64 = 64 * 1024;
    let Ok(entries) = fs::read_dir(from) else {
        return;
    };
    fs::create_dir_all(to).unwrap();
    for entry in entries {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        // `libserde-0123456789abcdef.rlib`, or the folder `serde-0123456789abcdef`
        let stem = name.split_once('.').map_or(&*name, |(stem, _)| stem);
        let stem = stem.rsplit_once('-').map_or(stem, |(stem, _)| stem);
        let stem = stem.replace('-', "_");
        if except.contains(&stem)
            || stem
                .strip_prefix("lib")
                .is_some_and(|stem| except.contains(stem))
        {
            continue;
        }
        let (path, to) = (entry.path(), to.join(&name));
        let Ok(data) = entry.metadata() else {
            // Gone meanwhile: another build is at work here.
            continue;
        };
        if data.is_dir() {
            take_over(&path, &to, &BTreeSet::new());
        } else if data.len() < LARGE || fs::hard_link(&path, &to).is_err() {
            // Gone meanwhile, too, where it cannot be copied.
            let Ok(_) = fs::copy(&path, &to) else {
                continue;
            };
            let file = fs::File::options().append(true).open(&to).unwrap();
            file.set_modified(data.modified().unwrap()).unwrap();
        }
    }
}
