//! Ports of this machine: which process holds one, and which are free.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    path::PathBuf,
};

use blueprint::failure::Failure;

use crate::{
    docker,
    process::{self, ProcessId},
};

mod holder;

pub use holder::Holder;
pub use holder::elsewhere;

/// Where free ports are looked for: below what Linux takes for outgoing connections (32768 and up) and below the fixed
/// ports of the blueprints and of NodePort Services (30000 and up).
const FREE_PORTS: std::ops::Range<u16> = 20_000..30_000;

/// The failure of `whom`, who needs a port that `holder` has.
pub fn taken(whom: &str, port: u16, holder: &Holder) -> anyhow::Error {
    Failure::infrastructure(format!("{whom}: host port {port} is in use by {holder}"))
        .hint(format!(
            "{}, or change the port in the blueprint",
            holder.remedy()
        ))
        .into()
}

/// Returns the process that holds this port on all addresses, or `None`. A container counts even
/// where the
/// engine listens for it nowhere (without its userland proxy); an engine that does not answer publishes nothing.
pub async fn holder(port: u16) -> Option<Holder> {
    match docker::container_on_port(port).await {
        Ok(Some(container)) => Some(Holder::of_container(&container)),
        _ => local_holder(port),
    }
}

/// As [`holder`], without asking Docker.
pub fn local_holder(port: u16) -> Option<Holder> {
    let everywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
    holder_among(|listener| listener.address.port() == port).or_else(|| connection_on(everywhere))
}

/// Returns the process that holds this address, or `None`.
pub fn holder_of(address: SocketAddr) -> Option<Holder> {
    holder_among(|listener| listener.blocks(address)).or_else(|| connection_on(address))
}

/// A connection that keeps this address from being bound. Many connections have a port of
/// this machine and do not keep it from being bound, such as those that a server has accepted: only
/// the kernel knows which do.
fn connection_on(address: SocketAddr) -> Option<Holder> {
    let mut there = sockets().filter(|socket| {
        socket.state != State::Listening && socket.address.port() == address.port()
    });
    let first = there.next()?;
    if TcpListener::bind(address).is_ok() {
        return None;
    }
    let all: Vec<_> = std::iter::once(first).chain(there).collect();
    let is_at = |socket: &&Socket| socket.blocks(address);
    let connection = all.iter().find(is_at).or_else(|| all.first())?;
    // A closed one has no owner and no inode.
    let process = (connection.inode != 0)
        .then(|| owner(&[connection.inode].into()))
        .flatten();
    Some(Holder::Connection {
        port: address.port(),
        remote: canonical(connection.remote),
        process,
    })
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn holder_among(is_meant: impl Fn(&Socket) -> bool) -> Option<Holder> {
    let look = || -> BTreeSet<u64> {
        listeners()
            .filter(&is_meant)
            .map(|listener| listener.inode)
            .collect()
    };
    let inodes = look();
    if inodes.is_empty() {
        return None;
    }
    let Some(process) = owner(&inodes) else {
        // Nobody has it: it is hidden from this user, or it was closed since the first look.
        return (!look().is_disjoint(&inodes)).then_some(Holder::Hidden);
    };
    // `<state root>/<environment>/clusters/<cluster>`
    let environment = process::started_in(process.pid).and_then(|folder| {
        let state = folder.ancestors().nth(2)?.to_owned();
        Some((state.file_name()?.to_str()?.to_owned(), state))
    });
    Some(match environment {
        Some((name, state)) => Holder::Environment {
            what: format!("`{}`, {process}", process.name()),
            name,
            state,
        },
        None => Holder::Process(process),
    })
}

/// Returns a port without a listener on any address. Another process may take it at any time.
pub fn free() -> anyhow::Result<u16> {
    let taken: BTreeSet<u16> = listeners()
        .map(|listener| listener.address.port())
        .collect();
    let count = FREE_PORTS.end - FREE_PORTS.start;
    let start = u16::try_from(random() % u64::from(count)).unwrap_or_default();
    (0..count)
        .map(|step| FREE_PORTS.start + (start + step) % count)
        .find(|port| !taken.contains(port) && can_bind(*port))
        .ok_or_else(|| {
            let (first, end) = (FREE_PORTS.start, FREE_PORTS.end);
            Failure::infrastructure(format!("all ports from {first} to {end} are in use"))
                .hint("run `ss -ltn` to see the listeners")
                .into()
        })
}

/// The end of a UUIDv7 is random (RFC 9562, section 5.7).
fn random() -> u64 {
    uuid::Uuid::now_v7().as_u64_pair().1 & 0xffff_ffff
}

fn can_bind(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

/// A line of `/proc/net/tcp` or `tcp6` (proc_net_tcp in the kernel's documentation).
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    address: SocketAddr,
    remote: SocketAddr,
    state: State,
    inode: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Listening,
    /// Connected, or on the way there or back.
    Other,
}

impl State {
    /// `TCP_LISTEN` of `include/net/tcp_states.h` is 10.
    fn of(number: &str) -> Self {
        if number == "0A" {
            Self::Listening
        } else {
            Self::Other
        }
    }
}

fn listeners() -> impl Iterator<Item = Socket> {
    sockets().filter(|socket| socket.state == State::Listening)
}

fn sockets() -> impl Iterator<Item = Socket> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|table| table.lines().filter_map(Socket::parse).collect::<Vec<_>>())
}

impl Socket {
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        Some(Self {
            address: socket_address(fields.get(1)?)?,
            remote: socket_address(fields.get(2)?)?,
            state: State::of(fields.get(3)?),
            inode: fields.get(9)?.parse().ok()?,
        })
    }

    /// Whether it keeps another socket from `address`: the same, or every address with that port.
    fn blocks(&self, address: SocketAddr) -> bool {
        let ip = self.address.ip().to_canonical();
        self.address.port() == address.port() && (ip == address.ip() || ip.is_unspecified())
    }
}

fn socket_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    Some(SocketAddr::new(
        ip_address(ip)?,
        u16::from_str_radix(port, 16).ok()?,
    ))
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
fn owner(inodes: &BTreeSet<u64>) -> Option<ProcessId> {
    let links: BTreeSet<_> = inodes
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
    use super::*;
    use crate::wait::{Seen, Wait};

    #[test]
    fn a_listener_is_read_from_the_kernels_table() {
        let line = "   1: 0100007F:75F8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 41873 1 0000 100 0 0 10 0";
        let listener = Socket {
            address: "127.0.0.1:30200".parse().unwrap(),
            remote: "0.0.0.0:0".parse().unwrap(),
            state: State::Listening,
            inode: 41873,
        };
        assert_eq!(Socket::parse(line), Some(listener));
        let connected = line.replace(" 0A ", " 01 ");
        assert_eq!(Socket::parse(&connected).unwrap().state, State::Other);
        for other in ["", "sl local_address rem_address st"] {
            assert_eq!(Socket::parse(other), None);
        }
    }

    #[tokio::test]
    async fn outgoing_connection_on_port_is_named() {
        let there = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let remote = there.local_addr().unwrap();
        // As the kernel would choose a port for it, had it been told to choose among all.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let client = socket.connect(remote).await.unwrap();
        let address = client.local_addr().unwrap();
        let (server, _) = there.accept().await.unwrap();
        for holder in [holder_of(address), local_holder(address.port())] {
            let holder = holder.unwrap();
            let Holder::Connection { process, .. } = &holder else {
                panic!("{holder:?}");
            };
            assert_eq!(process.unwrap().pid, std::process::id());
            let said = holder.to_string();
            assert!(
                said.starts_with(&format!("an outgoing connection to {remote} of `")),
                "{said}"
            );
            let remedy = holder.remedy();
            assert!(
                remedy.contains("ip_local_reserved_ports=")
                    && remedy.ends_with(&format!("{}`)", address.port())),
                "{remedy}"
            );
        }
        // The server's end does not block the server's port.
        drop(there);
        // A process that another test has just forked has the listener too, until it runs its own program.
        Wait::until("a port that only an accepted connection has")
            .poll(|| async {
                Ok(match holder_of(remote) {
                    None => Seen::Ready(()),
                    Some(holder) => Seen::Waiting(holder.to_string()),
                })
            })
            .await
            .unwrap();
        drop((client, server));
    }

    #[tokio::test]
    async fn port_holder_is_named_on_any_address() {
        for bind in ["127.0.0.1:0", "0.0.0.0:0", "127.9.9.9:0"] {
            let listener = TcpListener::bind(bind).unwrap();
            let port = listener.local_addr().unwrap().port();
            let holder = local_holder(port).unwrap();
            assert!(
                matches!(&holder, Holder::Process(process) if process.pid == std::process::id()),
                "{bind} is held by this process, not by {holder}"
            );
            let elsewhere: SocketAddr = format!("127.8.8.8:{port}").parse().unwrap();
            assert_eq!(
                holder_of(elsewhere).is_some(),
                bind.starts_with("0.0.0.0"),
                "{bind} and 127.8.8.8 have a port each"
            );
            let error = taken("cluster `a`", port, &holder);
            assert_eq!(Failure::exit_code(&error), 3);
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("cluster `a`: host port {port} is in use by `")),
                "{error}"
            );
            drop(listener);
            // A process that another test has just forked has the socket too, until it runs its own program.
            Wait::until("a free port")
                .poll(|| async {
                    Ok(match local_holder(port) {
                        None => Seen::Ready(()),
                        Some(holder) => Seen::Waiting(holder.to_string()),
                    })
                })
                .await
                .unwrap();
        }
    }

    #[test]
    fn a_free_port_can_be_bound() {
        let port = free().unwrap();
        assert!(FREE_PORTS.contains(&port));
        assert!(can_bind(port));
    }
}
