//! Checks whether this machine can run Ferry; each check has a finding and a fix. Changes
//! nothing.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use host::{
    clock,
    environment::{Environment, Layout, RuntimeKind, workspace_root},
    ports,
};
use serde::Serialize;

use crate::ops::lifecycle;

mod clusters;
mod machine;
mod programs;

/// What came out of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Ok,
    /// It may work.
    Warn,
    /// It will not work.
    Fail,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: String,
    pub outcome: Outcome,
    /// What was found.
    pub detail: String,
    /// What to do; absent where all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Check {
    fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            outcome: Outcome::Ok,
            detail: detail.into(),
            fix: None,
        }
    }

    fn warn(name: &str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Warn,
            fix: Some(fix.into()),
            ..Self::ok(name, detail)
        }
    }

    fn fail(name: &str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Fail,
            ..Self::warn(name, detail, fix)
        }
    }
}

/// The worst outcome of all.
pub fn verdict(checks: &[Check]) -> Outcome {
    checks
        .iter()
        .map(|check| check.outcome)
        .max()
        .unwrap_or(Outcome::Ok)
}

/// Looks at everything that `runtime` needs, side by side. `host_ports` are the ones that must be free on this machine.
pub async fn run(runtime: RuntimeKind, host_ports: &[u16]) -> Vec<Check> {
    match runtime {
        RuntimeKind::Embedded => embedded(host_ports).await,
        RuntimeKind::K3d => k3d(host_ports).await,
        // The clusters run elsewhere; `deploy` asks them itself.
        RuntimeKind::Existing => vec![programs::kubectl().await],
    }
}

/// Whether the clocks of an environment that is up are near enough to each other; `None` where none of them can be asked.
pub async fn clocks(environment: &Environment) -> Option<Check> {
    let clocks = lifecycle::clocks(environment).await;
    if clocks.all().is_empty() {
        return None;
    }
    let name = format!("clocks of `{}`", environment.name());
    Some(match clock::apart(environment, &clocks) {
        None => Check::ok(&name, clocks.to_string()),
        Some(far) => Check::fail(&name, far.to_string(), clock::FIX),
    })
}

async fn embedded(host_ports: &[u16]) -> Vec<Check> {
    let root = workspace_root().unwrap_or_else(|_| "/".into());
    let mut checks = vec![
        programs::envoy().await,
        machine::disk(&root, machine::EMBEDDED),
        machine::memory(machine::EMBEDDED),
        machine::state(RuntimeKind::Embedded),
    ];
    checks.extend(host_ports.iter().map(|port| {
        let socket = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), *port);
        port_check(*port, ports::holder_of(socket).as_ref())
    }));
    checks
}

async fn k3d(host_ports: &[u16]) -> Vec<Check> {
    let (docker, engine) = clusters::engine().await;
    let mut checks = vec![docker];
    let (k3d, kubectl) = tokio::join!(programs::k3d(engine.as_ref()), programs::kubectl());
    checks.extend([k3d, kubectl]);
    let info = engine.map(|engine| engine.info);
    if let Some(info) = &info {
        let place = clusters::place(info).await;
        let is_elsewhere = place.outcome == Outcome::Fail;
        checks.push(place);
        checks.extend(clusters::architecture(info));
        checks.extend([
            clusters::cgroups(info),
            clusters::clock(info),
            clusters::address_pools(info).await,
        ]);
        checks.push(clusters::leftovers().await);
        let root = Path::new(&info.docker_root_dir);
        // An engine in a virtual machine keeps its data where this machine has no such folder, or has another.
        if root.exists() && !is_elsewhere {
            checks.push(machine::disk(root, machine::K3D));
        }
    }
    checks.push(machine::memory(machine::K3D));
    checks.push(machine::state(RuntimeKind::K3d));
    checks.extend(machine::inotify());
    let has_engine = info.is_some();
    let holders = host_ports.iter().map(|port| async move {
        let holder = if has_engine {
            ports::holder(*port).await
        } else {
            ports::local_holder(*port)
        };
        port_check(*port, holder.as_ref())
    });
    checks.extend(futures_util::future::join_all(holders).await);
    checks
}

fn port_check(port: u16, holder: Option<&ports::Holder>) -> Check {
    let name = format!("port {port}");
    match holder {
        None => Check::ok(&name, "free"),
        Some(ports::Holder::Environment {
            what,
            name: environment,
            state,
        }) => held_by_ferry(&name, what, environment, state),
        Some(holder) => Check::fail(
            &name,
            format!("taken by {holder}"),
            format!("{}, or change the port in the blueprint", holder.remedy()),
        ),
    }
}

/// A port that Ferry itself has shows that this machine can run it.
fn held_by_ferry(check: &str, what: &str, environment: &str, state: &Path) -> Check {
    let other = ports::elsewhere(state);
    let of = other
        .as_ref()
        .map_or_else(String::new, |root| format!(" of `{}`", root.display()));
    let there = if other.is_some() {
        ", in the checkout that it belongs to"
    } else {
        ""
    };
    if !Layout::new(state).record().exists() {
        return Check::warn(
            check,
            format!("held by what is left of Ferry's `{environment}`{of} ({what})"),
            format!("`cargo xtask sweep`{there}"),
        );
    }
    if other.is_some() {
        return Check::warn(
            check,
            format!("in use by Ferry's `{environment}`{of} ({what})"),
            format!("before `local-up` here: `cargo xtask local-down --name {environment}`{there}"),
        );
    }
    Check::ok(check, format!("in use by Ferry's `{environment}` ({what})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_outcome_is_the_verdict() {
        let checks = [
            Check::ok("a", ""),
            Check::fail("b", "", "x"),
            Check::warn("c", "", "y"),
        ];
        assert_eq!(verdict(&checks), Outcome::Fail);
        assert_eq!(verdict(&checks[..1]), Outcome::Ok);
        assert_eq!(verdict(&[]), Outcome::Ok);
    }

    #[test]
    fn a_check_is_json_that_a_script_can_read() {
        let check = serde_json::to_value(Check::warn("disk", "9 % free", "df -h")).unwrap();
        assert_eq!(
            check,
            serde_json::json!({"name": "disk", "outcome": "warn", "detail": "9 % free", "fix": "df -h"})
        );
        assert!(
            serde_json::to_value(Check::ok("disk", "fine"))
                .unwrap()
                .get("fix")
                .is_none()
        );
    }

    #[test]
    fn taken_port_fails_with_holder_and_fix() {
        let check = port_check(30200, Some(&ports::Holder::Container("web".into())));
        assert_eq!(check.outcome, Outcome::Fail);
        assert_eq!(check.detail, "taken by container `web`");
        assert!(
            check
                .fix
                .unwrap()
                .starts_with("stop it (`docker stop web`)")
        );
        assert_eq!(port_check(30200, None).outcome, Outcome::Ok);
    }

    #[test]
    fn a_port_that_ferry_has_is_no_fault() {
        let root = host::environment::Store::find().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let check = |state: &Path| {
            let holder = ports::Holder::Environment {
                what: "container `k3d-cluster-a-serverlb`".into(),
                name: "local".into(),
                state: state.into(),
            };
            port_check(30100, Some(&holder))
        };
        let elsewhere = folder.path().join("local");
        let left = check(&elsewhere);
        assert_eq!(left.outcome, Outcome::Warn);
        assert!(
            left.detail.starts_with("held by what is left of"),
            "{left:?}"
        );
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::write(Layout::new(&elsewhere).record(), "{}").unwrap();
        let other = check(&elsewhere);
        assert_eq!(other.outcome, Outcome::Warn);
        assert!(other.fix.unwrap().contains("cargo xtask local-down"));
        std::fs::create_dir_all(root.root()).unwrap();
        let own = tempfile::tempdir_in(root.root()).unwrap();
        std::fs::write(Layout::new(own.path()).record(), "{}").unwrap();
        let own = check(own.path());
        assert_eq!(own.outcome, Outcome::Ok);
        assert_eq!(
            own.detail,
            "in use by Ferry's `local` (container `k3d-cluster-a-serverlb`)"
        );
    }

    #[tokio::test]
    async fn every_check_that_is_not_ok_has_a_fix() {
        for runtime in [RuntimeKind::Embedded, RuntimeKind::K3d] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let checks = run(runtime, &[port]).await;
            for check in &checks {
                assert_eq!(
                    check.outcome == Outcome::Ok,
                    check.fix.is_none(),
                    "{check:?}"
                );
            }
            let check = checks
                .iter()
                .find(|check| check.name == format!("port {port}"))
                .unwrap();
            assert_eq!(check.outcome, Outcome::Fail);
        }
    }
}
