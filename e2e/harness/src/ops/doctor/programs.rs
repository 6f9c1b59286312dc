//! Checks the required programs.

use std::time::Duration;

use blueprint::failure::Failure;
use cluster::k3d::{self, MINIMUM_VERSION, TESTED_VERSION};
use host::{
    docker::Engine,
    envoy_binary::{ENVOY_VARIABLE, Outlook, ToolCache},
    process::{self, CommandLine},
};

use super::Check;

pub(super) async fn k3d(engine: Option<&Engine>) -> Check {
    match k3d::version().await {
        Ok(found) => k3d_version(found, engine),
        Err(error) => Check::fail(
            "k3d",
            error.to_string(),
            Failure::of(&error)
                .and_then(Failure::next_step)
                .unwrap_or("install k3d"),
        ),
    }
}

fn k3d_version(found: (u32, u32, u32), engine: Option<&Engine>) -> Check {
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
    let too_old = engine.and_then(|engine| k3d::too_old_for(found, engine));
    if found < MINIMUM_VERSION {
        Check::fail("k3d", detail, install)
    } else if let Some(why) = too_old {
        // Whoever sets it has the negotiation left out, and takes what comes of it.
        let is_set = std::env::var_os("DOCKER_API_VERSION").is_some_and(|set| !set.is_empty());
        if is_set {
            Check::warn("k3d", why, install)
        } else {
            Check::fail("k3d", why, install)
        }
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

/// Where the embedded runtime will have its Envoy from.
pub(super) async fn envoy() -> Check {
    envoy_from(ToolCache::from_environment().outlook().await)
}

fn envoy_from(outlook: Outlook) -> Check {
    match outlook {
        Outlook::There { path, how } => Check::ok("Envoy", format!("`{}`, {how}", path.display())),
        Outlook::Installable(way) => Check::ok(
            "Envoy",
            format!("is fetched by `{way}` when it is needed first"),
        ),
        Outlook::None(why) => Check::fail(
            "Envoy",
            why,
            format!(
                "put `envoy` on the PATH, name one with `{ENVOY_VARIABLE}`, or install Python 3 with `pip`"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::doctor::Outcome;
    use host::docker::{ApiVersion, Info};

    #[test]
    fn k3d_is_judged_by_its_version() {
        let outcome = |found| k3d_version(found, None).outcome;
        assert_eq!(outcome((4, 4, 8)), Outcome::Fail);
        assert_eq!(outcome((5, 0, 0)), Outcome::Ok);
        assert_eq!(outcome(TESTED_VERSION), Outcome::Ok);
        assert_eq!(outcome((6, 0, 0)), Outcome::Warn);
        let engine = Engine {
            info: Info {
                server_version: "29.1.0".into(),
                ..Info::default()
            },
            oldest_api: ApiVersion(1, 44),
        };
        let check = k3d_version((5, 6, 0), Some(&engine));
        assert_ne!(check.outcome, Outcome::Ok);
        assert!(check.fix.unwrap().contains("install k3d 5.9.0"));
        assert_eq!(k3d_version((5, 6, 1), Some(&engine)).outcome, Outcome::Ok);
    }

    #[test]
    fn an_envoy_that_cannot_be_had_fails() {
        let there = Outlook::There {
            path: "/bin/envoy".into(),
            how: "on the PATH".into(),
        };
        assert_eq!(envoy_from(there).detail, "`/bin/envoy`, on the PATH");
        let fetched = envoy_from(Outlook::Installable("/bin/python3 -m pip".into()));
        assert_eq!(fetched.outcome, Outcome::Ok);
        assert_eq!(
            envoy_from(Outlook::None("why".into())).outcome,
            Outcome::Fail
        );
    }

    #[test]
    fn the_version_of_kubectl_is_read() {
        let text = r#"{"clientVersion": {"gitVersion": "v1.34.4"}, "kustomizeVersion": "v5"}"#;
        assert_eq!(kubectl_version(text).as_deref(), Some("v1.34.4"));
        assert_eq!(kubectl_version("error"), None);
    }
}
