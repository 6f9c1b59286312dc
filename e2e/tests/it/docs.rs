//! The pages are true: their commands, flags, paths and variables exist, and the example runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use host::binaries::is_of_the_outer_cargo;

mod contributing;

const PAGES: [&str; 5] = [
    "README.md",
    "docs/operations.md",
    "docs/reference.md",
    "CONTRIBUTING.md",
    "ARCHITECTURE.md",
];

/// What CONTRIBUTING adds; its files are not there.
const EXAMPLE: &str = "island-ferry";

/// Names that stand for themselves in a test.
const OF_TESTS: [&str; 3] = ["FERRY_TEST", "FERRY_TEST_STRANGER", "FERRY_X"];

#[test]
fn commands_on_pages_exist_with_their_flags() {
    let mut checked = 0;
    for page in PAGES {
        for command in commands(page) {
            let Some(rest) = command.split("cargo xtask ").nth(1) else {
                continue;
            };
            let mut words = rest.split_whitespace();
            let name = words.next().unwrap();
            let help = help(name);
            for flag in words.filter(|word| word.starts_with('-') && *word != "-") {
                let flag = flag.split('=').next().unwrap();
                assert!(
                    has_flag(help, flag),
                    "{page}: `{command}`: no {flag}:\n{help}"
                );
            }
            checked += 1;
        }
    }
    assert!(checked > 15, "only {checked} commands were found");
}

#[test]
fn flags_that_stand_beside_a_command_are_its_own() {
    let mut checked = 0;
    for page in PAGES {
        for line in read(page).lines() {
            let mut ticks = line.split('`').skip(1).step_by(2);
            let Some(command) = ticks.find_map(|tick| tick.strip_prefix("cargo xtask ")) else {
                continue;
            };
            let help = help(command.split(' ').next().unwrap());
            for flag in ticks.filter_map(|tick| tick.split(' ').next()) {
                if flag.starts_with('-') && flag != "-" {
                    assert!(has_flag(help, flag), "{page}: `{line}`: no {flag}:\n{help}");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 8, "only {checked} flags were found");
}

#[test]
fn readme_and_reference_name_every_command() {
    let overview = xtask(&["--help"]);
    let overview = String::from_utf8(overview.stdout).unwrap();
    let names: Vec<&str> = overview
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty())
        .collect();
    assert!(names.contains(&"e2e"), "{overview}");
    for page in ["README.md", "docs/reference.md"] {
        let text = read(page);
        for name in &names {
            assert!(
                text.contains(&format!("xtask {name}")) || text.contains(&format!("`{name}")),
                "{page} must name `cargo xtask {name}`"
            );
        }
    }
}

#[test]
fn every_test_that_cargo_is_asked_for_is_there() {
    let mut checked = 0;
    for page in PAGES {
        for command in commands(page) {
            let words: Vec<&str> = command.split_whitespace().collect();
            if !words.windows(2).any(|pair| pair == ["cargo", "test"]) {
                continue;
            }
            let after = |flag: &str| {
                let place = words.iter().position(|word| *word == flag)?;
                words.get(place + 1).copied()
            };
            if let Some(package) = after("-p") {
                let folder = match package {
                    "e2e" | "xtask" => root().join(package),
                    package => ["e2e", "services"]
                        .map(|folder| root().join(folder).join(package))
                        .into_iter()
                        .find(|folder| folder.is_dir())
                        .unwrap_or_else(|| panic!("{page}: `{command}`: no {package}")),
                };
                assert!(folder.is_dir(), "{page}: `{command}`: no {package}");
                if let Some(test) = after("--test") {
                    let tests = folder.join("tests");
                    assert!(
                        tests.join(format!("{test}.rs")).is_file()
                            || tests.join(test).join("main.rs").is_file(),
                        "{page}: `{command}`: no test binary {test}"
                    );
                }
            }
            checked += 1;
        }
    }
    assert!(checked > 5, "only {checked} commands were found");
}

#[test]
fn commands_that_cost_nothing_run_as_printed() {
    for args in [
        &["render", "--check"][..],
        &["status"],
        &["local-down", "--all"],
    ] {
        let line = args.join(" ");
        assert!(
            PAGES.iter().any(|page| read(page).contains(args[0])),
            "no page has `{line}`"
        );
        let done = xtask(args);
        assert!(
            done.status.success(),
            "`cargo xtask {line}`: {}\n{}",
            done.status,
            String::from_utf8_lossy(&done.stderr)
        );
    }
}

/// The anchors of a page's headings, as GitHub makes them.
fn headings(text: &str) -> impl Iterator<Item = String> {
    let titles = text.lines().filter(|line| line.starts_with('#'));
    titles.map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        kept.map(|letter| if letter == ' ' { '-' } else { letter })
            .collect()
    })
}

#[test]
fn every_path_that_is_named_is_there() {
    let mut checked = 0;
    for page in PAGES {
        let text = read(page);
        let ticks = text
            .lines()
            .flat_map(|line| line.split('`').skip(1).step_by(2));
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        let tops = [
            "xtask/",
            "e2e/",
            "services/",
            "manifests/",
            "docs/",
            ".github/",
            ".ci/",
        ];
        let folder = Path::new(page).parent().unwrap();
        let inner = links.filter(|link| !link.starts_with("http"));
        let links = inner.map(|link| match link.split_once('#') {
            Some(("", place)) => (page.into(), Some(place)),
            Some((path, place)) => (folder.join(path), Some(place)),
            None => (folder.join(link), None),
        });
        for (path, place) in links {
            assert!(
                root().join(&path).exists(),
                "{page}: there is no `{}`",
                path.display()
            );
            let Some(place) = place else {
                continue;
            };
            let target = read(path.to_str().unwrap());
            assert!(
                headings(&target).any(|heading| heading == place),
                "{page}: `{}` has no heading for `#{place}`",
                path.display()
            );
            checked += 1;
        }
        for path in ticks.filter(|path| tops.iter().any(|top| path.starts_with(top))) {
            let example = EXAMPLE.replace('-', "_");
            if path.contains([' ', '<', '{', '*', '…'])
                || path.contains(EXAMPLE)
                || path.contains(&example)
            {
                continue;
            }
            assert!(root().join(path).exists(), "{page}: there is no `{path}`");
            checked += 1;
        }
    }
    assert!(checked > 15, "only {checked} paths were found");
}

#[test]
fn every_module_of_the_harness_is_on_the_map() {
    let page = read("ARCHITECTURE.md");
    let words: BTreeSet<&str> = page
        .split(|letter: char| !(letter.is_alphanumeric() || letter == '_'))
        .collect();
    for krate in fs::read_dir(root().join("e2e")).unwrap() {
        let krate = krate.unwrap();
        let Ok(library) = fs::read_to_string(krate.path().join("src/lib.rs")) else {
            continue;
        };
        let modules = library
            .lines()
            .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
        let name = krate.file_name().into_string().unwrap();
        for word in modules.chain([name.as_str()]) {
            assert!(words.contains(word), "ARCHITECTURE.md must name `{word}`");
        }
    }
    for entry in fs::read_dir(root().join("services")).unwrap() {
        let service = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            words.contains(service.as_str()),
            "ARCHITECTURE.md must name `{service}`"
        );
    }
}

#[test]
fn reference_describes_every_variable() {
    let mut code = BTreeMap::new();
    for folder in ["e2e", "xtask", "services"] {
        for path in sources(&root().join(folder)) {
            for literal in fs::read_to_string(&path).unwrap().split('"') {
                if is_variable(literal) && !OF_TESTS.contains(&literal) {
                    code.insert(literal.to_owned(), path.clone());
                }
            }
        }
    }
    let reference = read("docs/reference.md");
    let table: BTreeSet<&str> = reference
        .lines()
        .filter(|line| line.starts_with("| `FERRY_"))
        .filter_map(|line| line.split('|').nth(1))
        .flat_map(|cell| cell.split('`'))
        .filter(|word| is_variable(word))
        .collect();
    for (name, path) in &code {
        assert!(
            table.contains(name.as_str()),
            "docs/reference.md must describe {name}, which `{}` has",
            path.display()
        );
    }
    for page in PAGES {
        let text = read(page);
        let named = text
            .split(|letter: char| {
                !(letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_')
            })
            .filter(|word| is_variable(word));
        for name in named {
            assert!(code.contains_key(name), "{page}: no code reads {name}");
        }
    }
}

/// The lines of a page's shell blocks that are commands, comments cut off, and every `cargo …` in back-ticks.
fn commands(page: &str) -> Vec<String> {
    let text = read(page);
    let mut all = vec![];
    let mut language = None;
    for line in text.lines() {
        if let Some(fence) = line.strip_prefix("```") {
            language = match language {
                None => Some(fence.to_owned()),
                Some(_) => None,
            };
            continue;
        }
        let line = match language.as_deref() {
            Some("sh") => line,
            Some("console") => match line.strip_prefix("$ ") {
                Some(command) => command,
                None => continue,
            },
            Some(_) => continue,
            None => {
                let ticks = line.split('`').skip(1).step_by(2);
                all.extend(
                    ticks
                        .filter(|tick| tick.starts_with("cargo "))
                        .map(str::to_owned),
                );
                continue;
            }
        };
        let command = line.split(" #").next().unwrap().trim();
        if !command.is_empty() {
            all.push(command.to_owned());
        }
    }
    all
}

/// The blocks of this language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let start = format!("```{language}\n");
    let rests = page.split(&start).skip(1);
    rests
        .map(|rest| rest.split_once("```").unwrap().0)
        .collect()
}

/// From the first `from` to the next `to`.
fn part<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let text = &text[text.find(from).unwrap()..];
    &text[..text.find(to).unwrap()]
}

/// The help of a command, asked for once each.
fn help(command: &str) -> &'static str {
    static ALL: OnceLock<std::sync::Mutex<BTreeMap<String, &'static str>>> = OnceLock::new();
    let mut all = ALL.get_or_init(Default::default).lock().unwrap();
    if let Some(text) = all.get(command) {
        return text;
    }
    let done = xtask(&[command, "--help"]);
    assert!(
        done.status.success(),
        "there is no `cargo xtask {command}`:\n{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let text: &'static str = String::from_utf8(done.stdout).unwrap().leak();
    all.insert(command.to_owned(), text);
    text
}

fn has_flag(help: &str, flag: &str) -> bool {
    help.split([' ', ',', '\n']).any(|word| word == flag)
}

/// Runs the alias itself, on a state root of its own.
fn xtask(args: &[&str]) -> Output {
    let state = tempfile::Builder::new().prefix("ferry-").tempdir().unwrap();
    let mut command = Command::new(env!("CARGO"));
    command
        .arg("xtask")
        .args(args)
        .env("FERRY_STATE", state.path().join("state"))
        .current_dir(root());
    without_the_outer_build(&mut command);
    command.output().unwrap()
}

fn without_the_outer_build(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_of_the_outer_cargo) {
            command.env_remove(name);
        }
    }
}

fn is_variable(word: &str) -> bool {
    word.strip_prefix("FERRY_").is_some_and(|rest| {
        !rest.is_empty()
            && rest.bytes().all(|letter| {
                letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == b'_'
            })
    })
}

/// Rust files below `folder`, but for this one, which names variables too.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs")
            && !path.ends_with("tests/it/docs.rs")
        {
            all.push(path);
        }
    }
    all
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
