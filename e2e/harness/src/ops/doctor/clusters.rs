//! Checks the Docker engine and its clusters.

use std::path::Path;

use blueprint::failure::Failure;
use cluster::{
    image::{self, architecture},
    k3d::{self, ENGINE_ELSEWHERE, Owner},
};
use host::{
    clock,
    docker::{self, AddressPool, Engine, Info, Place},
    environment::{Layout, Record},
};
use jiff::Timestamp;
use messages::limits::MAX_CLOCK_SKEW;

use super::Check;

/// k3d needs it: <https://k3d.io/stable/#requirements>.
const MINIMUM_DOCKER: (u32, u32, u32) = (20, 10, 5);
/// Networks that two clusters and a test beside them take.
const NETWORKS_NEEDED: u64 = 3;
/// What the engine has without a setting: 172.17 to 172.31, and 192.168 in sixteen parts.
const BUILT_IN_NETWORKS: u64 = 31;

/// Whether an engine answers, and how it describes itself.
pub(super) async fn engine() -> (Check, Option<Engine>) {
    match docker::engine().await {
        Ok(engine) => (engine_version(&engine.info), Some(engine)),
        Err(error) => {
            let fix = Failure::of(&error)
                .and_then(Failure::next_step)
                .unwrap_or("install Docker: https://docs.docker.com/engine/install/")
                .to_owned();
            (Check::fail("Docker", error.to_string(), fix), None)
        }
    }
}

fn engine_version(info: &Info) -> Check {
    let detail = format!("version {}", info.server_version);
    let found = docker::version_numbers(&info.server_version);
    if found < MINIMUM_DOCKER {
        return Check::fail(
            "Docker",
            detail,
            "k3d needs Docker 20.10.5 or later: https://docs.docker.com/engine/install/",
        );
    }
    Check::ok("Docker", detail)
}

/// Whether pods on the engine are reached from here.
pub(super) async fn place(info: &Info) -> Check {
    place_check(docker::place(info, image::REPOSITORY).await)
}

fn place_check(place: Place) -> Check {
    let name = "Docker's machine";
    match place {
        Place::Here => Check::ok(name, "this one"),
        Place::Elsewhere(why) => Check::fail(name, why, ENGINE_ELSEWHERE),
        Place::Unknown(why) => Check::warn(
            name,
            why,
            "`cargo xtask e2e --runtime k3d` finds it out before it makes anything; `--runtime embedded` needs no Docker",
        ),
    }
}

/// Whether the engine runs the programs that are built here.
pub(super) fn architecture(info: &Info) -> Option<Check> {
    let name = info
        .architecture
        .as_deref()
        .filter(|name| !name.is_empty())?;
    let (engine, own) = (architecture::in_go(name), architecture::of_programs());
    Some(if engine == own {
        Check::ok("architecture", engine)
    } else {
        Check::fail(
            "architecture",
            format!("the engine's machine is {engine}, and the services are built here for {own}"),
            "use an engine on a machine as this one is, or `--runtime embedded`",
        )
    })
}

pub(super) fn cgroups(info: &Info) -> Check {
    match info.cgroup_version.as_deref() {
        Some("2") => Check::ok("cgroups", "version 2"),
        other => Check::warn(
            "cgroups",
            format!(
                "version {}: Kubernetes gives up on what is older than 2",
                other.unwrap_or("unknown")
            ),
            "boot with the kernel parameter `systemd.unified_cgroup_hierarchy=1`",
        ),
    }
}

pub(super) fn clock(info: &Info) -> Check {
    clock_difference(&info.system_time, Timestamp::now())
}

/// Identities live for a minute, so an engine in a virtual machine whose clock stood still makes every handshake fail.
fn clock_difference(engine: &str, now: Timestamp) -> Check {
    let fix = format!("{}; or restart the machine that Docker runs in", clock::FIX);
    let Ok(engine) = engine.parse::<Timestamp>() else {
        return Check::warn(
            "clock",
            format!("the engine's clock cannot be read: `{engine}`"),
            fix,
        );
    };
    let seconds = engine.duration_since(now).as_secs_f64();
    let most = MAX_CLOCK_SKEW.as_secs_f64();
    let side = if seconds < 0.0 { "behind" } else { "ahead of" };
    let detail = format!(
        "the engine's is {:.1} s {side} this machine's",
        seconds.abs()
    );
    if seconds.abs() > most {
        let detail = format!("{detail}; Ferry works up to {most:.0} s");
        Check::fail("clock", detail, fix)
    } else {
        Check::ok("clock", detail)
    }
}

pub(super) async fn address_pools(info: &Info) -> Check {
    match docker::networks().await {
        Ok(networks) => {
            let bridges = networks
                .iter()
                .filter(|network| network.driver == "bridge")
                .count();
            free_networks(
                u64::try_from(bridges).unwrap_or(u64::MAX),
                capacity(info.default_address_pools.as_deref()),
            )
        }
        Err(error) => Check::warn(
            "Docker networks",
            error.to_string(),
            "look at `docker network ls`",
        ),
    }
}

/// How many networks the engine can make.
fn capacity(pools: Option<&[AddressPool]>) -> u64 {
    let Some(pools) = pools.filter(|pools| !pools.is_empty()) else {
        return BUILT_IN_NETWORKS;
    };
    let sizes = pools.iter().filter_map(|pool| {
        // Networks of IPv6 are not what k3d asks for.
        let (base, prefix) = pool
            .base
            .split_once('/')
            .filter(|(base, _)| base.contains('.'))?;
        let _: std::net::Ipv4Addr = base.parse().ok()?;
        let bits = pool.size.checked_sub(prefix.parse().ok()?)?;
        1_u64.checked_shl(u32::from(bits))
    });
    sizes.fold(0, u64::saturating_add)
}

fn free_networks(used: u64, capacity: u64) -> Check {
    let free = capacity.saturating_sub(used);
    let detail = format!("{used} of about {capacity} address pools are used");
    let fix = "`docker network prune` deletes the networks that nobody uses; `default-address-pools` in `/etc/docker/daemon.json` makes room for more";
    if free < NETWORKS_NEEDED - 1 {
        Check::fail("Docker networks", detail, fix)
    } else if free < NETWORKS_NEEDED {
        Check::warn("Docker networks", detail, fix)
    } else {
        Check::ok("Docker networks", detail)
    }
}

pub(super) async fn leftovers() -> Check {
    match k3d::owners().await {
        Ok(owners) => {
            let left = owners.into_iter().filter_map(|(owner, clusters)| {
                Some(format!("{} ({})", clusters.join(", "), abandoned(&owner)?))
            });
            leftover_clusters(&left.collect::<Vec<_>>())
        }
        Err(error) => Check::warn(
            "leftover clusters",
            error.to_string(),
            "look at `k3d cluster list`",
        ),
    }
}

fn leftover_clusters(left: &[String]) -> Check {
    if left.is_empty() {
        return Check::ok("leftover clusters", "none");
    }
    Check::warn(
        "leftover clusters",
        left.join("; "),
        "`cargo xtask sweep`, in the checkout that they belong to; `k3d cluster delete NAME` where that is gone",
    )
}

/// Returns why no command will remove the clusters of `owner`; `None` if one may.
fn abandoned(owner: &Owner) -> Option<String> {
    let path = Layout::new(&owner.state).record();
    let Ok(text) = std::fs::read_to_string(&path) else {
        return Some(format!(
            "the state folder `{}` is gone",
            owner.state.display()
        ));
    };
    record_is_abandoned(&text, &path)
}

fn record_is_abandoned(text: &str, path: &Path) -> Option<String> {
    match serde_json::from_str::<Record>(text) {
        Ok(record) => match record.owner {
            Some(process) if !process.is_running() => Some(format!(
                "the command of environment `{}` was killed",
                record.name
            )),
            _ => None,
        },
        Err(error) => Some(format!("`{}` cannot be read: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::doctor::Outcome;
    use host::process::ProcessId;

    fn info(version: &str, cgroups: &str) -> Info {
        Info {
            server_version: version.into(),
            cgroup_version: Some(cgroups.into()),
            docker_root_dir: "/".into(),
            ..Info::default()
        }
    }

    #[test]
    fn an_engine_is_judged_by_its_version() {
        for (version, outcome) in [
            ("19.03.15", Outcome::Fail),
            ("20.10.4", Outcome::Fail),
            ("20.10.24+dfsg1", Outcome::Ok),
            ("29.0.0-rc.1", Outcome::Ok),
        ] {
            assert_eq!(
                engine_version(&info(version, "2")).outcome,
                outcome,
                "{version}"
            );
        }
    }

    #[test]
    fn an_engine_on_another_machine_fails() {
        assert_eq!(place_check(Place::Here).outcome, Outcome::Ok);
        assert_eq!(
            place_check(Place::Unknown("why".into())).outcome,
            Outcome::Warn
        );
        let check = place_check(Place::Elsewhere("why".into()));
        assert_eq!(check.outcome, Outcome::Fail);
        assert!(check.fix.unwrap().contains("--runtime embedded"));
    }

    #[test]
    fn an_engine_of_another_architecture_fails() {
        let of = |name: &str| {
            architecture(&Info {
                architecture: Some(name.into()),
                ..Info::default()
            })
        };
        assert_eq!(of(std::env::consts::ARCH).unwrap().outcome, Outcome::Ok);
        assert_eq!(of("s390x").unwrap().outcome, Outcome::Fail);
        assert!(of("").is_none());
    }

    #[test]
    fn old_cgroups_are_a_warning() {
        assert_eq!(cgroups(&info("29.0.0", "2")).outcome, Outcome::Ok);
        assert_eq!(cgroups(&info("29.0.0", "1")).outcome, Outcome::Warn);
    }

    #[test]
    fn a_clock_that_stood_still_is_found() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        assert_eq!(
            clock_difference("2026-01-02T03:04:04.1+00:00", now).outcome,
            Outcome::Ok
        );
        for (engine, expected) in [
            ("2026-01-02T03:02:05Z", "120.0 s behind this machine's"),
            ("2026-01-02T03:05:05Z", "60.0 s ahead of this machine's"),
        ] {
            let check = clock_difference(engine, now);
            assert_eq!(check.outcome, Outcome::Fail);
            assert!(check.detail.contains(expected), "{}", check.detail);
        }
        assert_eq!(
            clock_difference("2026-01-02T03:03:21Z", now).outcome,
            Outcome::Ok
        );
        assert_eq!(clock_difference("noon", now).outcome, Outcome::Warn);
    }

    #[test]
    fn address_pools_are_counted() {
        let pool = |base: &str, size| AddressPool {
            base: base.into(),
            size,
        };
        assert_eq!(capacity(None), 31);
        assert_eq!(capacity(Some(&[])), 31);
        assert_eq!(
            capacity(Some(&[pool("172.80.0.0/16", 24), pool("10.0.0.0/24", 26)])),
            260
        );
        assert_eq!(
            capacity(Some(&[
                pool("fd00::/48", 64),
                pool("bad", 24),
                pool("10.0.0.0/24", 20)
            ])),
            0
        );
        assert_eq!(capacity(Some(&[pool("10.0.0.0/0", 64)])), 0);
        assert_eq!(free_networks(3, 31).outcome, Outcome::Ok);
        assert_eq!(free_networks(29, 31).outcome, Outcome::Warn);
        assert_eq!(free_networks(31, 31).outcome, Outcome::Fail);
    }

    #[test]
    fn environment_without_command_is_leftover() {
        let record = |owner: Option<ProcessId>| {
            serde_json::json!({"schema_version": 1, "name": "e2e-1", "runtime": "k3d", "created_at": "2026-01-02T03:04:05Z",
                "owner": owner, "blueprints": {}, "clusters": [], "pods": []})
            .to_string()
        };
        let path = Path::new("environment.json");
        let own = ProcessId::current().unwrap();
        let dead = ProcessId {
            start_time: own.start_time + 1,
            ..own
        };
        assert_eq!(record_is_abandoned(&record(None), path), None);
        assert_eq!(record_is_abandoned(&record(Some(own)), path), None);
        assert!(
            record_is_abandoned(&record(Some(dead)), path)
                .unwrap()
                .contains("was killed")
        );
        assert!(
            record_is_abandoned("{", path)
                .unwrap()
                .contains("cannot be read")
        );
    }

    #[test]
    fn leftovers_are_named_with_sweep_command() {
        assert_eq!(leftover_clusters(&[]).outcome, Outcome::Ok);
        let check = leftover_clusters(&["a, b (the state folder `/x` is gone)".into()]);
        assert_eq!(check.outcome, Outcome::Warn);
        assert!(check.fix.unwrap().contains("cargo xtask sweep"));
    }
}
