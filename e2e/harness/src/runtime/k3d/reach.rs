//! Explains why pods cannot reach another cluster's published port: a firewall of this machine,
//! or an engine without its userland proxy.

use std::path::Path;

use blueprint::{failure::Failure, plan::PeerAddress};
use cluster::k3d::network;
use host::{docker, envoy_binary::ToolCache, http::Request};

use crate::runtime::clusters::deploy::Unreached;

/// The engine itself.
const ENGINE: &str = "dockerd";
/// The program that listens on a published port for the engine, and takes what comes from other networks of it.
/// <https://docs.docker.com/engine/network/packet-filtering-firewalls/>
const USERLAND_PROXY: &str = "docker-proxy";

/// How a connection failed, in the words of `/probe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    Dropped,
    Refused,
    NoWay,
}

impl Obstacle {
    fn of(seen: &str) -> Option<Self> {
        [
            ("cannot connect: no answer", Self::Dropped),
            ("cannot connect: refused", Self::Refused),
            ("cannot connect: no way", Self::NoWay),
        ]
        .into_iter()
        .find_map(|(words, obstacle)| seen.contains(words).then_some(obstacle))
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Dropped => "its packets are dropped",
            Self::Refused => "it is refused",
            Self::NoWay => "there is no way",
        }
    }
}

/// What a machine manages its firewall with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Firewall {
    Ufw,
    Firewalld,
    Iptables,
}

impl Firewall {
    /// Found on the PATH, or where programs for the administrator are.
    fn here() -> Self {
        let tools = ToolCache::from_environment();
        let is_there = |name: &str| {
            tools.on_path(name).is_some()
                || ["/usr/sbin", "/sbin"]
                    .iter()
                    .any(|folder| Path::new(folder).join(name).is_file())
        };
        if is_there("ufw") {
            Self::Ufw
        } else if is_there("firewall-cmd") {
            Self::Firewalld
        } else {
            Self::Iptables
        }
    }

    /// The command that lets in what comes from these addresses.
    fn opening(self, subnet: &str) -> String {
        match self {
            Self::Ufw => format!("sudo ufw allow from {subnet}"),
            Self::Firewalld => format!(
                "sudo firewall-cmd --permanent --zone=trusted --add-source={subnet} && sudo firewall-cmd --reload"
            ),
            Self::Iptables if subnet.contains(':') => {
                format!("sudo ip6tables -I INPUT -s {subnet} -j ACCEPT")
            }
            Self::Iptables => format!("sudo iptables -I INPUT -s {subnet} -j ACCEPT"),
        }
    }
}

/// The failure that names what is in the way, for clusters on this machine. `None` where the port does not answer here either:
/// then nothing listens, and nothing is in the way.
///
/// `clusters` are k3d's names of all that may dial. Each has a separate network, and which of the
/// free addresses it gets is chance:
/// after another start the one that dialled may have those of its neighbour.
pub(super) async fn explain(unreached: &Unreached, clusters: &[String]) -> Option<Failure> {
    let obstacle = Obstacle::of(&unreached.seen)?;
    let here = PeerAddress {
        host: "127.0.0.1".into(),
        port: unreached.address.port,
    };
    let answer = Request::get(&here, "/health").send().await.ok()?;
    if answer.status != 200 {
        return None;
    }
    let networks = docker::networks().await.unwrap_or_default();
    let own: Vec<_> = clusters.iter().map(|cluster| network(cluster)).collect();
    let subnets: Vec<_> = networks
        .iter()
        .filter(|each| own.contains(&each.name))
        .flat_map(docker::Network::subnets)
        .map(str::to_owned)
        .collect();
    Some(if has_no_userland_proxy(here.port, &commands()) {
        no_userland_proxy(unreached, obstacle, &here)
    } else {
        firewall(unreached, obstacle, &here, Firewall::here(), &subnets)
    })
}

fn blocked(unreached: &Unreached, obstacle: Obstacle, here: &PeerAddress) -> String {
    format!(
        "{}: pods do not reach {} at {} ({}), and this machine does at {here}",
        unreached.from,
        unreached.pod,
        unreached.address,
        obstacle.text()
    )
}

fn firewall(
    unreached: &Unreached,
    obstacle: Obstacle,
    here: &PeerAddress,
    firewall: Firewall,
    subnets: &[String],
) -> Failure {
    let commands: Vec<_> = subnets
        .iter()
        .map(|subnet| format!("`{}`", firewall.opening(subnet)))
        .collect();
    let open = match commands.as_slice() {
        [] => "let the addresses of the clusters' Docker networks in".to_owned(),
        some => format!("let the clusters' Docker networks in: {}", some.join(", ")),
    };
    Failure::infrastructure(format!(
        "{}: a firewall of this machine blocks them",
        blocked(unreached, obstacle, here)
    ))
    .hint(format!("{open}; then run the command again"))
}

fn no_userland_proxy(unreached: &Unreached, obstacle: Obstacle, here: &PeerAddress) -> Failure {
    Failure::infrastructure(format!(
        "{}: the Docker engine runs without its userland proxy, so its networks cannot reach \
         each other's published ports",
        blocked(unreached, obstacle, here)
    ))
    .hint(
        "remove `\"userland-proxy\": false` from `/etc/docker/daemon.json` and restart Docker \
           (`sudo systemctl restart docker`), or pass `--runtime embedded`",
    )
}

/// Whether an engine of this machine publishes the port, and no proxy of it listens there. That of another port, which may be
/// another engine's, says nothing; and of an engine in a virtual machine nothing is seen here.
fn has_no_userland_proxy(port: u16, commands: &[Vec<String>]) -> bool {
    let runs = |command: &[String], program: &str| {
        let path = command.first().map(Path::new);
        path.and_then(Path::file_name) == Some(program.as_ref())
    };
    let listens = |command: &[String]| {
        let port = port.to_string();
        let mut pairs = command.windows(2);
        runs(command, USERLAND_PROXY)
            && pairs.any(|pair| pair[0] == "-host-port" && pair[1] == port)
    };
    commands.iter().any(|command| runs(command, ENGINE))
        && !commands.iter().any(|command| listens(command))
}

/// The command lines of all processes, of whichever user.
fn commands() -> Vec<Vec<String>> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let read = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let words = |line: Vec<u8>| {
        let words = line.split(|byte| *byte == 0);
        words
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect()
    };
    read.map(words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreached(seen: &str) -> Unreached {
        Unreached {
            from: "cluster-a".into(),
            pod: messages::WorkloadName::new("international-ferry", "cluster-b", "sink").unwrap(),
            address: PeerAddress {
                host: "host.k3d.internal".into(),
                port: 1,
            },
            seen: seen.into(),
        }
    }

    const DROPPED: &str = "dial x failed in cluster-a: http://x/health did not answer 200 within 25 s; last seen: cannot connect: no answer within 3s";

    #[test]
    fn what_the_dialling_pod_saw_is_told_apart() {
        for (seen, obstacle) in [
            (DROPPED, Some(Obstacle::Dropped)),
            (
                "last seen: cannot connect: refused: Connection refused (os error 111)",
                Some(Obstacle::Refused),
            ),
            (
                "last seen: cannot connect: no way: No route to host (os error 113)",
                Some(Obstacle::NoWay),
            ),
            ("last seen: answered 503 Service Unavailable", None),
            ("last seen: cannot resolve `host.k3d.internal`: x", None),
        ] {
            assert_eq!(Obstacle::of(seen), obstacle, "{seen}");
        }
    }

    #[test]
    fn the_command_that_opens_a_firewall_is_named() {
        let here = PeerAddress {
            host: "127.0.0.1".into(),
            port: 30200,
        };
        for (tool, subnet, command) in [
            (
                Firewall::Ufw,
                "172.18.0.0/16",
                "`sudo ufw allow from 172.18.0.0/16`",
            ),
            (
                Firewall::Firewalld,
                "172.18.0.0/16",
                "--zone=trusted --add-source=172.18.0.0/16",
            ),
            (
                Firewall::Iptables,
                "172.18.0.0/16",
                "`sudo iptables -I INPUT -s 172.18.0.0/16 -j ACCEPT`",
            ),
            (
                Firewall::Iptables,
                "fd00::/64",
                "`sudo ip6tables -I INPUT -s fd00::/64 -j ACCEPT`",
            ),
        ] {
            let failure = firewall(
                &unreached(DROPPED),
                Obstacle::Dropped,
                &here,
                tool,
                &[subnet.into()],
            );
            assert!(
                failure.next_step().unwrap().contains(command),
                "{failure:?}"
            );
            assert!(failure.to_string().contains("its packets are dropped"));
        }
        let none = firewall(&unreached(""), Obstacle::NoWay, &here, Firewall::Ufw, &[]);
        assert!(none.next_step().unwrap().starts_with("let the addresses"));
    }

    #[tokio::test]
    async fn where_nothing_listens_nothing_is_in_the_way() {
        let mut unreached = unreached("cannot connect: refused: x");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        unreached.address.port = listener.local_addr().unwrap().port();
        drop(listener);
        assert!(explain(&unreached, &["cluster-a".into()]).await.is_none());
    }

    #[test]
    fn the_proxy_of_a_port_is_told_from_others() {
        let commands = |lines: &[&str]| -> Vec<Vec<String>> {
            let words = |line: &&str| line.split(' ').map(str::to_owned).collect();
            lines.iter().map(words).collect()
        };
        let engine = "/usr/bin/dockerd -H fd://";
        let proxy = "/usr/bin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 30200 -container-ip 172.18.0.4 -container-port 30201";
        assert!(!has_no_userland_proxy(30200, &commands(&[engine, proxy])));
        assert!(has_no_userland_proxy(30201, &commands(&[engine, proxy])));
        assert!(has_no_userland_proxy(30200, &commands(&["sh", engine])));
        for unseen in [&["sh"][..], &[""], &[]] {
            assert!(!has_no_userland_proxy(30200, &commands(unseen)));
        }
    }

    #[test]
    fn own_command_line_is_read() {
        let own: Vec<_> = std::env::args().collect();
        let all = commands();
        assert!(
            all.iter().any(|command| command.starts_with(&own)),
            "{own:?}"
        );
    }
}
