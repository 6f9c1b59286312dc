//! The house rules of ARCHITECTURE.md that a program can check.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// About 400 lines is a full room; beyond this a file wants to be two.
const FULL_ROOM: usize = 450;

/// The crates of the harness, from the top down, and the wire types below them.
const FLOORS: [&str; 7] = [
    "harness",
    "cluster",
    "host",
    "identity",
    "render",
    "blueprint",
    "messages",
];

#[test]
fn dependencies_point_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("xtask", &FLOORS[..]),
        ("e2e", &FLOORS),
        ("harness", &FLOORS[1..]),
        ("cluster", &["host", "render", "blueprint", "messages"]),
        ("host", &["identity", "render", "blueprint", "messages"]),
        ("identity", &["blueprint", "messages"]),
        ("render", &["blueprint", "messages"]),
        ("blueprint", &["messages"]),
        (
            "fuzz",
            &[
                "identity",
                "blueprint",
                "harness",
                "host",
                "journal",
                "messages",
            ],
        ),
        ("gateway", &["node", "messages"]),
        ("processor", &["node", "messages"]),
        ("sink", &["node", "messages"]),
        ("node", &["journal", "messages", "settings"]),
        ("wosp", &["messages", "settings"]),
        ("settings", &["messages"]),
        ("journal", &[]),
        ("probe", &[]),
        ("messages", &[]),
    ]);
    let members = members();
    let names: BTreeSet<&str> = members.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        allowed.keys().copied().collect(),
        "a new member of the workspace needs its arrows here"
    );
    for (member, dependencies) in &members {
        let ours: BTreeSet<&str> = dependencies
            .iter()
            .map(String::as_str)
            .filter(|dependency| names.contains(dependency))
            .collect();
        let may: BTreeSet<&str> = allowed[member.as_str()].iter().copied().collect();
        assert!(
            ours.is_subset(&may),
            "`{member}` may depend on {may:?} of ours, but depends on {ours:?}"
        );
    }
}

#[test]
fn pure_crates_do_no_io() {
    let outside = [
        "std::fs",
        "std::net::Tcp",
        "std::process",
        "std::env::var",
        "tokio",
        "kube::",
    ];
    for krate in ["blueprint", "render"] {
        let all = sources(&format!("e2e/{krate}/src"));
        assert!(!all.is_empty());
        for (path, text) in all.iter().filter(|(path, _)| !is_test(path)) {
            for (number, line) in code_lines(text) {
                let hit = outside.iter().find(|word| line.contains(*word));
                let place = path.display();
                assert!(
                    hit.is_none(),
                    "{place}:{number}: `{krate}` does no I/O, but names `{}`",
                    hit.unwrap()
                );
            }
        }
    }
}

#[test]
fn only_one_module_prints() {
    let words = [
        "println!",
        "eprintln!",
        "print!",
        "eprint!",
        "stdout()",
        "stderr()",
    ];
    for (path, text) in product_sources() {
        let place = path.strip_prefix(root()).unwrap().display().to_string();
        // A build script talks to cargo by its standard output; a service logs to its own by `tracing`.
        if place.starts_with("xtask/src/output")
            || place.starts_with("services/")
            || place.starts_with("e2e/src/testing")
            || place.ends_with("build.rs")
        {
            continue;
        }
        for (number, line) in code_lines(&text) {
            let hit = words.iter().find(|word| line.contains(*word));
            assert!(
                hit.is_none(),
                "{place}:{number}: only xtask/src/output.rs prints; record it in the timeline instead of `{}`",
                hit.unwrap()
            );
        }
    }
}

#[test]
fn waiting_has_one_room() {
    for folder in ["e2e", "xtask/src"] {
        for (path, text) in sources(folder) {
            // A log that grows has no event; following it is no wait for a state.
            let allowed = ["src/wait.rs", "src/runtime/logs.rs"];
            if allowed.iter().any(|place| path.ends_with(place)) || is_test(&path) {
                continue;
            }
            for (number, line) in code_lines(&text) {
                assert!(
                    !line.contains("sleep(") || line.contains("CommandLine"),
                    "{}:{number}: a sleep is no wait; use `Wait`",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn a_file_is_no_longer_than_a_room() {
    for (path, text) in product_sources() {
        let lines = text.lines().count();
        assert!(
            lines <= FULL_ROOM,
            "`{}` has {lines} lines; {FULL_ROOM} is full",
            path.display()
        );
    }
}

#[test]
fn nothing_is_left_for_later() {
    let words = [
        "TO".to_owned() + "DO",
        "FIX".to_owned() + "ME",
        "unimplemen".to_owned() + "ted!",
    ];
    for (path, text) in product_sources() {
        for (number, line) in text.lines().enumerate() {
            let hit = words.iter().find(|word| line.contains(word.as_str()));
            assert!(
                hit.is_none(),
                "{}:{}: `{}`",
                path.display(),
                number + 1,
                hit.unwrap()
            );
        }
    }
}

#[test]
fn versions_and_lints_are_written_once() {
    for manifest in manifests_of_members() {
        let text = fs::read_to_string(&manifest).unwrap();
        let place = manifest.display();
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "{place}: must take the lints of the workspace"
        );
        let mut in_dependencies = false;
        for (number, line) in text.lines().enumerate() {
            if line.starts_with('[') {
                in_dependencies = line.contains("dependencies");
            } else if in_dependencies && !line.trim().is_empty() && !line.starts_with('#') {
                assert!(
                    line.contains("workspace = true"),
                    "{place}:{}: `{line}` must take its version from the workspace",
                    number + 1
                );
            }
        }
    }
}

#[test]
fn the_top_level_holds_what_the_design_names() {
    let allowed = BTreeSet::from([
        ".cargo",
        ".ci",
        ".github",
        ".gitattributes",
        ".gitignore",
        ".dockerignore",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "SECURITY.md",
        "docs",
        "e2e",
        "manifests",
        "services",
        "xtask",
    ]);
    // Only what is under version control counts: an editor's folder is nobody's business.
    let listing = Command::new("git")
        .args(["ls-files"])
        .current_dir(root())
        .output()
        .unwrap();
    let listing = String::from_utf8(listing.stdout).unwrap();
    for path in listing.lines() {
        let top = path.split('/').next().unwrap();
        assert!(
            allowed.contains(top),
            "`{top}` has no place at the top level"
        );
    }
}

/// Whatever `core.autocrlf` says: shells and tests read what is checked out.
#[test]
fn line_ends_are_equal_in_every_checkout() {
    let listing = Command::new("git")
        .args(["ls-files", "--eol"])
        .current_dir(root())
        .output()
        .unwrap();
    let listing = String::from_utf8(listing.stdout).unwrap();
    assert!(listing.lines().count() > 100);
    for line in listing.lines() {
        let kept = line.contains(" attr/-text") && line.contains("e2e/fuzz/corpus/");
        let is_lf = line.starts_with("i/lf ") || line.starts_with("i/none ");
        assert!(
            kept || (is_lf && line.contains("eol=lf")),
            "line ends must be those of Unix, by `.gitattributes`: {line}"
        );
    }
}

#[test]
fn every_blueprint_has_its_test() {
    for entry in fs::read_dir(root().join("manifests")).unwrap() {
        let path = entry.unwrap().path();
        if !path.join("blueprint.yaml").is_file() {
            continue;
        }
        let name = path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .replace('-', "_");
        let test = root().join(format!("e2e/tests/it/{name}.rs"));
        assert!(test.is_file(), "`{}` is missing", test.display());
    }
}

/// Every member with the names of its dependencies, but those of its tests alone.
fn members() -> BTreeMap<String, Vec<String>> {
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
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &serde_json::Value| value["name"].as_str().unwrap().to_owned();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            let built = dependencies
                .iter()
                .filter(|dependency| dependency["kind"] != "dev");
            (name(package), built.map(name).collect())
        })
        .collect()
}

fn manifests_of_members() -> Vec<PathBuf> {
    let mut all = vec![
        root().join("xtask/Cargo.toml"),
        root().join("e2e/Cargo.toml"),
    ];
    for folder in ["e2e", "services"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            all.push(entry.unwrap().path().join("Cargo.toml"));
        }
    }
    all.retain(|manifest| manifest.is_file());
    all
}

/// Every source file but those of tests.
fn product_sources() -> Vec<(PathBuf, String)> {
    let mut all = sources("e2e");
    all.extend(sources("xtask/src"));
    all.extend(sources("services"));
    all.retain(|(path, _)| !is_test(path));
    all
}

fn is_test(path: &Path) -> bool {
    path.components()
        .any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")))
}

/// Rust files below `folder`, wherever they are; none where there is no such folder.
pub(crate) fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, all: &mut Vec<(PathBuf, String)>) {
        let Ok(entries) = fs::read_dir(folder) else {
            return;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, all);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                all.push((path, text));
            }
        }
    }
    let mut all = vec![];
    collect(&root().join(folder), &mut all);
    all.sort();
    all
}

/// Lines before the unit tests that are no comments, with their numbers.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| *line != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| (index + 1, line))
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
