//! Checks the machine: disk, memory, kernel limits.

use std::path::Path;

use blueprint::failure::Failure;
use host::environment::{RuntimeKind, Store, check_state};

use super::Check;

const GB: u64 = 1_000_000_000;

/// Sets another limit for the free disk space than a runtime's own, in GB; for tests and for small machines.
pub(super) const DISK_VARIABLE: &str = "FERRY_MINIMUM_DISK_GB";

/// What a runtime needs, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    disk: u64,
    memory: u64,
    /// Free share of the disk, in percent, below which Kubernetes evicts pods.
    eviction: u64,
}

pub(super) const EMBEDDED: Needs = Needs {
    disk: GB / 2,
    memory: GB / 4,
    eviction: 0,
};

/// Two clusters of a server and an agent: each node unpacks the images for itself, a server takes about 0.6 GB of
/// memory and an agent 0.2 GB. k3s evicts pods below 5 % of free disk (`--eviction-hard` of its kubelet).
pub(super) const K3D: Needs = Needs {
    disk: 4 * GB,
    memory: 2 * GB,
    eviction: 5,
};

pub(super) fn disk(folder: &Path, needs: Needs) -> Check {
    let limit = std::env::var(DISK_VARIABLE)
        .ok()
        .and_then(|text| text.parse::<u64>().ok());
    let needs = Needs {
        disk: limit.map_or(needs.disk, |limit| limit.saturating_mul(GB)),
        ..needs
    };
    match rustix::fs::statvfs(folder) {
        Ok(seen) => disk_space(
            folder,
            seen.f_bavail.saturating_mul(seen.f_frsize),
            seen.f_blocks.saturating_mul(seen.f_frsize),
            needs,
        ),
        Err(error) => Check::warn(
            "disk",
            format!("`{}` cannot be looked at: {error}", folder.display()),
            "look at `df -h`",
        ),
    }
}

fn disk_space(folder: &Path, free: u64, total: u64, needs: Needs) -> Check {
    let share = free.saturating_mul(100).checked_div(total).unwrap_or(0);
    let detail = format!(
        "{} free ({share} %) in `{}`",
        gigabytes(free),
        folder.display()
    );
    let fix = format!(
        "free some space (`docker system df` shows what Docker keeps, `docker builder prune` and `docker image prune` delete what is unused): {} are needed",
        gigabytes(needs.disk)
    );
    if free < needs.disk {
        Check::fail("disk", detail, fix)
    } else if share < needs.eviction {
        Check::fail(
            "disk",
            format!(
                "{detail}, and Kubernetes evicts pods below {} %",
                needs.eviction
            ),
            fix,
        )
    } else if free < needs.disk.saturating_mul(2) || share < 2 * needs.eviction {
        Check::warn("disk", detail, fix)
    } else {
        Check::ok("disk", detail)
    }
}

/// Whether the state root lies where it can.
pub(super) fn state(runtime: RuntimeKind) -> Check {
    const NAME: &str = "state folder";
    let looked = Store::find().and_then(|store| {
        check_state(store.root(), runtime)?;
        Ok(store.root().display().to_string())
    });
    match looked {
        Ok(root) => Check::ok(NAME, format!("`{root}`")),
        Err(error) => {
            let fix = Failure::of(&error).and_then(Failure::next_step);
            let fix = fix.unwrap_or(
                "make it a folder that you may write in, or set `FERRY_STATE` to another",
            );
            Check::fail(NAME, format!("{error:#}"), fix)
        }
    }
}

pub(super) fn memory(needs: Needs) -> Check {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    match available_memory(&text) {
        Some(available) => memory_space(available, needs),
        None => Check::warn(
            "memory",
            "`/proc/meminfo` cannot be read",
            "look at `free -h`",
        ),
    }
}

fn memory_space(available: u64, needs: Needs) -> Check {
    let detail = format!("{} available", gigabytes(available));
    let fix = format!(
        "end programs that you do not need: {} are needed",
        gigabytes(needs.memory)
    );
    if available < needs.memory / 2 {
        Check::fail("memory", detail, fix)
    } else if available < needs.memory {
        Check::warn("memory", detail, fix)
    } else {
        Check::ok("memory", detail)
    }
}

/// Bytes that programs can have without swapping (proc_meminfo(5)).
fn available_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Every kubelet, containerd and pod with a watch on a file needs some; where they run out, nodes fail with "too many
/// open files". The limits are the ones that kind and k3d recommend.
pub(super) fn inotify() -> Vec<Check> {
    [
        ("max_user_instances", 256, 512),
        ("max_user_watches", 65_536, 524_288),
    ]
    .into_iter()
    .map(|(name, enough, recommended)| {
        let text = std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}"));
        inotify_limit(
            name,
            text.ok().and_then(|text| text.trim().parse().ok()),
            enough,
            recommended,
        )
    })
    .collect()
}

fn inotify_limit(name: &str, found: Option<u64>, enough: u64, recommended: u64) -> Check {
    let title = format!("inotify {name}");
    let fix = format!("sudo sysctl fs.inotify.{name}={recommended}");
    match found {
        Some(found) if found >= enough => Check::ok(&title, found.to_string()),
        Some(found) => Check::warn(
            &title,
            format!("{found}, {recommended} are recommended"),
            fix,
        ),
        None => Check::warn(&title, "cannot be read", fix),
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{}.{} GB", bytes / GB, bytes % GB / (GB / 10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::doctor::Outcome;

    #[test]
    fn disk_is_judged_by_size_and_by_share() {
        let check =
            |free, total| disk_space(Path::new("/var/lib/docker"), free * GB, total * GB, K3D);
        assert_eq!(check(50, 100).outcome, Outcome::Ok);
        assert_eq!(check(7, 50).outcome, Outcome::Warn);
        assert_eq!(check(9, 100).outcome, Outcome::Warn, "below 10 %");
        assert_eq!(check(3, 10).outcome, Outcome::Fail);
        let evicting = check(40, 1000);
        assert_eq!(evicting.outcome, Outcome::Fail);
        assert!(evicting.detail.contains("evicts"), "{}", evicting.detail);
        assert_eq!(check(0, 0).outcome, Outcome::Fail);
    }

    #[test]
    fn the_embedded_runtime_needs_little_disk() {
        assert_eq!(
            disk_space(Path::new("/"), 2 * GB, 1000 * GB, EMBEDDED).outcome,
            Outcome::Ok
        );
        assert_eq!(
            disk_space(Path::new("/"), GB / 10, 1000 * GB, EMBEDDED).outcome,
            Outcome::Fail
        );
    }

    #[test]
    fn memory_is_what_programs_can_have() {
        let text = "MemTotal: 8000000 kB\nMemFree: 1 kB\nMemAvailable:    3000000 kB\n";
        let available = available_memory(text).unwrap();
        assert_eq!(memory_space(available, K3D).outcome, Outcome::Ok);
        assert_eq!(memory_space(available / 2, K3D).outcome, Outcome::Warn);
        assert_eq!(memory_space(available / 4, K3D).outcome, Outcome::Fail);
        assert_eq!(available_memory("MemAvailable: many\n"), None);
    }

    #[test]
    fn low_inotify_limit_names_fix() {
        let check = inotify_limit("max_user_instances", Some(128), 256, 512);
        assert_eq!(check.outcome, Outcome::Warn);
        assert_eq!(
            check.fix.unwrap(),
            "sudo sysctl fs.inotify.max_user_instances=512"
        );
        assert_eq!(inotify_limit("x", Some(256), 256, 512).outcome, Outcome::Ok);
        assert_eq!(inotify_limit("x", None, 256, 512).outcome, Outcome::Warn);
    }
}
