//! The holder of a port, and a hint to free it.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::{docker, environment::Store, process::ProcessId};

/// Ports that the kernel gives to no outgoing connection, and what it gives them from.
/// <https://docs.kernel.org/networking/ip-sysctl.html>
const RESERVED: &str = "net.ipv4.ip_local_reserved_ports";

/// Who has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The container that publishes it, and is none of Ferry's.
    Container(String),
    /// A process or a container of an environment of Ferry on this machine, such as its load balancer.
    Environment {
        /// Such as ``container `k3d-cluster-a-serverlb` ``.
        what: String,
        name: String,
        /// Its state folder, in this checkout or in another.
        state: PathBuf,
    },
    Process(ProcessId),
    /// A process that this user cannot look into.
    Hidden,
    /// Nobody listens: a connection to elsewhere has it as its own port.
    Connection {
        port: u16,
        remote: SocketAddr,
        /// `None` where it has ended and the port is kept for another minute, or where this user cannot look into it.
        process: Option<ProcessId>,
    },
}

impl Holder {
    pub fn of_container(container: &docker::Container) -> Self {
        match docker::Owner::of(container) {
            Some(owner) => Self::Environment {
                what: format!("container `{}`", container.name),
                name: owner.environment,
                state: owner.state,
            },
            None => Self::Container(container.name.clone()),
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Container(name) => format!("stop it (`docker stop {name}`)"),
            Self::Environment { name, state, .. } => match elsewhere(state) {
                None => format!("take it down (`cargo xtask local-down --name {name}`)"),
                Some(root) => format!(
                    "take it down (`cargo xtask local-down --name {name}`, in the checkout of `{}`)",
                    root.display()
                ),
            },
            Self::Process(process) => format!("end it (`kill {}`)", process.pid),
            Self::Hidden => "find it with `sudo ss -ltnp` and end it".into(),
            Self::Connection { port, .. } => {
                let name = RESERVED.replace('.', "/");
                let reserved = std::fs::read_to_string(format!("/proc/sys/{name}"));
                let reserved = also_reserved(&reserved.unwrap_or_default(), *port);
                format!(
                    "wait until it has ended, and keep the port from such connections (`sudo sysctl -w {RESERVED}={reserved}`)"
                )
            }
        }
    }
}

/// The state root of an environment's folder, where it is not the one of this checkout.
pub fn elsewhere(state: &Path) -> Option<PathBuf> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.into());
    let root = real(state.parent()?);
    let own = Store::find().ok().map(|store| real(store.root()));
    (own.as_ref() != Some(&root)).then_some(root)
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(name) => write!(f, "container `{name}`"),
            Self::Environment { what, name, .. } => write!(f, "environment `{name}` ({what})"),
            Self::Process(process) => write!(f, "`{}` ({process})", process.name()),
            Self::Hidden => f.write_str("a process of another user"),
            Self::Connection {
                remote, process, ..
            } => {
                write!(f, "an outgoing connection to {remote}")?;
                match process {
                    Some(process) => write!(f, " of `{}` ({process})", process.name()),
                    None => Ok(()),
                }
            }
        }
    }
}

/// The kernel's list of reserved ports, which is replaced as a whole, with one more.
fn also_reserved(list: &str, port: u16) -> String {
    match list.trim() {
        "" => port.to_string(),
        list => format!("{list},{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_container_belongs_to_environment() {
        let seen = |labels: &[(&str, &str)]| {
            let labels = labels
                .iter()
                .map(|(key, value)| ((*key).into(), (*value).into()));
            Holder::of_container(&docker::Container {
                name: "k3d-cluster-a-serverlb".into(),
                state: "running".into(),
                exit_code: 0,
                started_at: None,
                labels: labels.collect(),
                image: String::new(),
                volumes: vec![],
                published: vec![],
            })
        };
        let holder = seen(&[
            ("ferry.environment", "local"),
            ("ferry.state", "/w/x/local"),
        ]);
        assert_eq!(
            holder.to_string(),
            "environment `local` (container `k3d-cluster-a-serverlb`)"
        );
        assert_eq!(
            holder.remedy(),
            "take it down (`cargo xtask local-down --name local`, in the checkout of `/w/x`)"
        );
        let other = seen(&[("k3d.cluster", "cluster-a")]);
        assert!(other.remedy().contains("docker stop"));
    }

    #[test]
    fn a_reserved_port_is_added_to_those_there_are() {
        assert_eq!(also_reserved("\n", 30100), "30100");
        assert_eq!(
            also_reserved("8080,9000-9100\n", 30100),
            "8080,9000-9100,30100"
        );
    }
}
