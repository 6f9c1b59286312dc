//! The scope of process ids: one boot and one PID namespace of a machine.

use std::{fs, sync::OnceLock};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The machine, its boot and the PID namespace that an environment was made in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// Name of the machine or container, for people.
    pub host: String,
    /// A hash of `/etc/machine-id`, which is not to be shown to others (machine-id(5)); empty where there is none.
    #[serde(default)]
    pub machine: String,
    /// `/proc/sys/kernel/random/boot_id`: one value for each boot, the same in all containers of a machine.
    pub boot: String,
    /// What `/proc/self/ns/pid` leads to (pid_namespaces(7)).
    pub pid_namespace: String,
}

/// How a seat relates to the one of this very command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its processes can be looked at.
    Here,
    /// This machine, before its last start: its processes have ended, whatever has their numbers now.
    Rebooted,
    /// Its processes cannot be seen from here; the text completes "runs elsewhere, ".
    Elsewhere(String),
}

impl Seat {
    /// The seat of this command.
    pub fn here() -> &'static Self {
        static HERE: OnceLock<Seat> = OnceLock::new();
        HERE.get_or_init(Self::read)
    }

    fn read() -> Self {
        let text = |path: &str| {
            let content = fs::read_to_string(path).unwrap_or_default();
            content.trim().to_owned()
        };
        let machine = match text("/etc/machine-id") {
            id if id.is_empty() => id,
            id => {
                let hash = format!("{:x}", Sha256::digest(format!("ferry {id}")));
                hash[..16].to_owned()
            }
        };
        Self {
            host: text("/proc/sys/kernel/hostname"),
            machine,
            boot: text("/proc/sys/kernel/random/boot_id"),
            pid_namespace: fs::read_link("/proc/self/ns/pid")
                .map(|target| target.display().to_string())
                .unwrap_or_default(),
        }
    }

    /// Where this seat is, for who sits on `here`.
    ///
    /// One boot has one value in the whole world, so within one boot the PID namespace alone decides: a machine may get
    /// another name while it runs. Of another boot, only what is surely this machine is judged: machines are cloned
    /// together with their identifier, so name and identifier must both agree.
    pub fn seen_from(&self, here: &Self) -> Place {
        if self.boot == here.boot {
            if self.pid_namespace == here.pid_namespace {
                return Place::Here;
            }
            return Place::Elsewhere(if self.host == here.host {
                "in another PID namespace of this machine, such as a container's".into()
            } else {
                format!(
                    "in the container or PID namespace `{}` of this machine",
                    self.host
                )
            });
        }
        let this_machine =
            !self.machine.is_empty() && self.machine == here.machine && self.host == here.host;
        if this_machine {
            Place::Rebooted
        } else {
            Place::Elsewhere(format!("on host `{}`", self.host))
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn seat(host: &str, machine: &str, boot: &str, pid_namespace: &str) -> Seat {
        Seat {
            host: host.into(),
            machine: machine.into(),
            boot: boot.into(),
            pid_namespace: pid_namespace.into(),
        }
    }

    #[rstest]
    #[case::the_same(seat("a", "1", "x", "4"), Place::Here)]
    #[case::renamed_while_it_runs(seat("b", "1", "x", "4"), Place::Here)]
    #[case::started_again(seat("a", "1", "y", "4"), Place::Rebooted)]
    #[case::started_again_in_a_container(seat("a", "1", "y", "9"), Place::Rebooted)]
    fn what_can_be_judged_is(#[case] other: Seat, #[case] place: Place) {
        assert_eq!(other.seen_from(&seat("a", "1", "x", "4")), place);
    }

    #[rstest]
    #[case::a_container(seat("c0ffee", "", "x", "9"), "`c0ffee` of this machine")]
    #[case::a_namespace(seat("a", "1", "x", "9"), "another PID namespace")]
    #[case::another_machine(seat("b", "2", "y", "4"), "on host `b`")]
    #[case::a_clone(seat("b", "1", "y", "4"), "on host `b`")]
    #[case::a_namesake(seat("a", "2", "y", "4"), "on host `a`")]
    #[case::nothing_to_go_by(seat("a", "", "y", "4"), "on host `a`")]
    fn what_cannot_be_seen_is_elsewhere(#[case] other: Seat, #[case] says: &str) {
        match other.seen_from(&seat("a", "1", "x", "4")) {
            Place::Elsewhere(text) => assert!(text.contains(says), "{text}"),
            place => panic!("{other:?} is {place:?}"),
        }
    }

    #[test]
    fn container_without_id_is_not_its_clone() {
        let (before, now) = (seat("a", "", "y", "4"), seat("a", "", "x", "4"));
        assert!(matches!(before.seen_from(&now), Place::Elsewhere(_)));
    }

    #[test]
    fn this_command_sits_here() {
        let here = Seat::here();
        assert_eq!(here.seen_from(here), Place::Here);
        assert!(!here.boot.is_empty() && here.pid_namespace.starts_with("pid:["));
    }
}
