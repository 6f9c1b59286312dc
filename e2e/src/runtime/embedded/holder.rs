//! Who has a port: from `/proc/net/tcp` and the descriptors of processes.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use crate::process::{self, ProcessId};

/// `TCP_LISTEN` of `include/net/tcp_states.h`, as `/proc/net/tcp` writes it.
const LISTENING: &str = "0A";

/// Who listens on a port.
#[derive(Debug)]
pub(super) enum Holder {
    Process(ProcessId),
    /// The load balancer of another environment.
    Environment {
        process: ProcessId,
        name: String,
    },
    /// A process that this user cannot look into.
    Hidden,
}

impl Holder {
    /// Who keeps `address` from being bound; `None` where nobody does any more.
    pub(super) fn of(address: SocketAddr) -> Option<Self> {
        let inodes: Vec<_> = ["/proc/net/tcp", "/proc/net/tcp6"]
            .into_iter()
            .filter_map(|table| std::fs::read_to_string(table).ok())
            .flat_map(|table| {
                table
                    .lines()
                    .filter_map(Listener::parse)
                    .filter(|listener| listener.blocks(address))
                    .map(|listener| listener.inode)
                    .collect::<Vec<_>>()
            })
            .collect();
        if inodes.is_empty() {
            return None;
        }
        let Some(process) = owner(&inodes) else {
            return Some(Self::Hidden);
        };
        // `<state root>/<environment>/clusters/<cluster>`
        let environment = process::started_in(process.pid)
            .and_then(|folder| Some(folder.ancestors().nth(2)?.file_name()?.to_str()?.to_owned()));
        Some(match environment {
            Some(name) => Self::Environment { process, name },
            None => Self::Process(process),
        })
    }

    /// What to do about it.
    pub(super) fn remedy(&self) -> String {
        match self {
            Self::Process(process) => format!("end it (`kill {}`)", process.pid),
            Self::Environment { name, .. } => {
                format!("take it down (`cargo xtask local-down --name {name}`)")
            }
            Self::Hidden => "find it with `sudo ss -ltnp` and end it".into(),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(process) => write!(f, "`{}` ({process})", process.name()),
            Self::Environment { process, name } => {
                write!(f, "environment `{name}` (`{}`, {process})", process.name())
            }
            Self::Hidden => f.write_str("a process of another user"),
        }
    }
}

/// A line of `/proc/net/tcp` or `tcp6` (proc_net_tcp in the kernel's documentation).
#[derive(Debug, PartialEq, Eq)]
struct Listener {
    address: SocketAddr,
    inode: u64,
}

impl Listener {
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let (ip, port) = fields.get(1)?.split_once(':')?;
        if *fields.get(3)? != LISTENING {
            return None;
        }
        Some(Self {
            address: SocketAddr::new(ip_address(ip)?, u16::from_str_radix(port, 16).ok()?),
            inode: fields.get(9)?.parse().ok()?,
        })
    }

    /// Whether it keeps another socket from `address`: the same, or every address with that port.
    fn blocks(&self, address: SocketAddr) -> bool {
        let ip = self.address.ip().to_canonical();
        self.address.port() == address.port() && (ip == address.ip() || ip.is_unspecified())
    }
}

/// An address as the kernel prints it: 32-bit words in the byte order of the machine, in hex.
fn ip_address(hex: &str) -> Option<IpAddr> {
    let words = hex.as_bytes().chunks(8).map(|word| {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        Some(word.to_ne_bytes())
    });
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Some(Ipv4Addr::from(bytes).into());
    }
    let bytes = <[u8; 16]>::try_from(bytes.as_slice()).ok()?;
    Some(Ipv6Addr::from(bytes).into())
}

/// The process that has one of these sockets open.
fn owner(inodes: &[u64]) -> Option<ProcessId> {
    let links: Vec<_> = inodes
        .iter()
        .map(|inode| PathBuf::from(format!("socket:[{inode}]")))
        .collect();
    std::fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| {
            let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"));
            descriptors.into_iter().flatten().flatten().any(|entry| {
                std::fs::read_link(entry.path()).is_ok_and(|link| links.contains(&link))
            })
        })
        .and_then(ProcessId::of)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_is_read_from_the_kernels_table() {
        let line = "   1: 0100007F:75F8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 41873 1 0000 100 0 0 10 0";
        assert_eq!(
            Listener::parse(line),
            Some(Listener {
                address: "127.0.0.1:30200".parse().unwrap(),
                inode: 41873
            })
        );
        for other in [
            line.replace(" 0A ", " 01 "),
            String::new(),
            "sl local_address rem_address st".into(),
        ] {
            assert_eq!(Listener::parse(&other), None);
        }
    }

    #[test]
    fn the_holder_of_a_port_is_named() {
        for bind in ["127.0.0.1:0", "0.0.0.0:0"] {
            let listener = TcpListener::bind(bind).unwrap();
            let port = listener.local_addr().unwrap().port();
            let wanted = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
            let holder = Holder::of(wanted).unwrap();
            assert!(
                matches!(holder, Holder::Process(process) if process.pid == std::process::id()),
                "{bind} is held by this process, not by {holder}"
            );
            drop(listener);
            assert!(Holder::of(wanted).is_none());
        }
    }
}
