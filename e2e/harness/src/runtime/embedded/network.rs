//! Addresses on this machine: one loopback network per cluster, one address per pod.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    path::Path,
    sync::{Mutex, PoisonError},
};

use anyhow::Context as _;
use blueprint::{
    failure::Failure,
    plan::{ClusterPlan, PeerAddress, Plan, PodPlan, Sockets},
};
use host::ports::{self, Holder};
use messages::WorkloadName;

use crate::runtime::request::PublicAddress;

#[cfg(test)]
mod tests;

/// The loopback networks of all environments of this machine: 127.64.0.0/10, cut into one /24 per cluster.
const FIRST_SECOND_OCTET: u8 = 64;
const SECOND_OCTETS: u8 = 64;

/// Last octet of a cluster's load balancer.
const LOAD_BALANCER_HOST: u8 = 1;

/// Last octet of a cluster's first pod.
const FIRST_POD_HOST: u8 = 10;

/// The load balancer listens here as long as the cluster is up: that is what makes the network its own.
const CLAIM_PORT: u16 = 18999;

/// The command listens here as long as it brings the cluster up, until the load balancer has made its claim.
const RESERVATION_PORT: u16 = 18998;

/// Ports that pods and load balancers get on `[::1]`, which they share with all of this machine: below those that the kernel gives
/// to outgoing connections (32768 to 60999, `net.ipv4.ip_local_port_range`).
const SHARED_PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How many networks are tried. With half of all networks taken, one in 2^64 attempts finds none.
const ATTEMPTS: usize = 64;

/// A network that is this command's until dropped.
#[derive(Debug)]
pub(super) struct Network {
    octets: [u8; 2],
    /// Keeps every other command from taking the network between our choice and the load balancer's claim.
    _reservation: TcpListener,
}

impl Network {
    /// Takes a network that no other environment of this machine has, in any state root.
    pub(super) fn reserve() -> anyhow::Result<Self> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match Self::try_reserve(random_octets()) {
                Ok(network) => return Ok(network),
                Err(error) => last = Some(error),
            }
        }
        let cause = last.map_or_else(String::new, |error| format!(": {error}"));
        Err(Failure::infrastructure(format!(
            "no free loopback network in 127.{FIRST_SECOND_OCTET}.0.0/10{cause}"
        ))
        .hint(
            "run `cargo xtask sweep` to remove what killed runs left behind; check that `lo` \
               has 127.0.0.0/8",
        )
        .into())
    }

    fn try_reserve(octets: [u8; 2]) -> io::Result<Self> {
        let at = |port| SocketAddr::new(address(octets, LOAD_BALANCER_HOST), port);
        let reservation = TcpListener::bind(at(RESERVATION_PORT))?;
        TcpListener::bind(at(CLAIM_PORT))?;
        Ok(Self {
            octets,
            _reservation: reservation,
        })
    }

    /// The network of a cluster, unless another environment has taken it since.
    fn again(standing: &Standing) -> Option<Self> {
        let octets = octets(&standing.reference)?;
        if !standing.is_claimed {
            return Self::try_reserve(octets).ok();
        }
        let at = SocketAddr::new(address(octets, LOAD_BALANCER_HOST), RESERVATION_PORT);
        let reservation = TcpListener::bind(at).ok()?;
        Some(Self {
            octets,
            _reservation: reservation,
        })
    }

    /// Whether an address is one of it.
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        matches!(ip, IpAddr::V4(ip) if ip.octets()[1..3] == self.octets)
    }

    /// Such as `127.81.7.0/24`.
    pub(super) fn reference(&self) -> String {
        format!("{}/24", address(self.octets, 0))
    }

    pub(super) fn load_balancer(&self) -> IpAddr {
        address(self.octets, LOAD_BALANCER_HOST)
    }

    /// The load balancer's socket that makes the network its own; it answers `GET /ready`.
    pub(super) fn claim(&self) -> SocketAddr {
        SocketAddr::new(self.load_balancer(), CLAIM_PORT)
    }
}

fn address([second, third]: [u8; 2], host: u8) -> IpAddr {
    Ipv4Addr::new(127, second, third, host).into()
}

/// The octets of a network, as [`Network::reference`] writes it.
fn octets(reference: &str) -> Option<[u8; 2]> {
    let address: Ipv4Addr = reference.strip_suffix("/24")?.parse().ok()?;
    let [127, second, third, 0] = address.octets() else {
        return None;
    };
    Some([second, third])
}

fn random_octets() -> [u8; 2] {
    // The last bytes of a UUIDv7 are random (RFC 9562, section 5.7).
    let bytes = uuid::Uuid::now_v7().into_bytes();
    [FIRST_SECOND_OCTET + bytes[14] % SECOND_OCTETS, bytes[15]]
}

/// A cluster's network, and where its public ports are.
#[derive(Debug)]
pub(super) struct ClusterNetwork {
    pub(super) network: Network,
    /// Port as the blueprint has it → where the load balancer listens for it.
    pub(super) public: BTreeMap<u16, SocketAddr>,
}

/// Networks for clusters, by name.
pub(super) type Networks = BTreeMap<String, ClusterNetwork>;

/// What a cluster has already.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// As [`Network::reference`] writes it.
    pub(super) reference: String,
    /// Whether its load balancer runs, which is what keeps the network its own.
    pub(super) is_claimed: bool,
    /// Port as the blueprint has it → where it is.
    pub(super) public: BTreeMap<u16, SocketAddr>,
}

/// Takes a network for each cluster, the one that it has where that can still be had, and settles where their public ports
/// are.
pub(super) fn networks(
    plan: &Plan,
    public: PublicAddress,
    standing: &BTreeMap<String, Standing>,
) -> anyhow::Result<Networks> {
    let mut networks = Networks::new();
    for ClusterPlan { name, public_ports } in &plan.clusters {
        let before = standing.get(name);
        let again = before.and_then(Network::again);
        let kept = again.is_some();
        let network = again.map_or_else(Network::reserve, Ok)?;
        let mut sockets = BTreeMap::new();
        for &port in public_ports {
            let has = before
                .filter(|_| kept)
                .and_then(|before| before.public.get(&port));
            let socket = match (public, has) {
                (PublicAddress::Localhost, _) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
                (PublicAddress::OwnNetwork | PublicAddress::OwnNetworkV6, Some(has)) => *has,
                (PublicAddress::OwnNetwork, None) => {
                    free(SocketAddr::new(network.load_balancer(), port))?
                }
                (PublicAddress::OwnNetworkV6, None) => shared()?,
            };
            let other = networks
                .iter()
                .find(|(_, other): &(&String, &ClusterNetwork)| {
                    other.public.values().any(|taken| *taken == socket)
                });
            if let Some((other, _)) = other {
                return Err(Failure::usage(format!(
                    "{name} and {other} both use port {port} of this machine"
                ))
                .hint("change `port` of a pod of one of them in its blueprint")
                .into());
            }
            sockets.insert(port, socket);
        }
        networks.insert(
            name.clone(),
            ClusterNetwork {
                network,
                public: sockets,
            },
        );
    }
    Ok(networks)
}

/// Fails if another process holds a public port, and names it; reports the problems of every
/// cluster together. The environment itself, whose
/// state folder is `own`, may have them.
pub(super) fn check_public_ports(
    plan: &Plan,
    networks: &Networks,
    own: Option<&Path>,
) -> anyhow::Result<()> {
    let mut problems = vec![];
    let mut remedies = vec![];
    for (cluster, network) in networks {
        for (port, socket) in &network.public {
            let Err(error) = TcpListener::bind(socket) else {
                continue;
            };
            let holder = ports::holder_of(*socket);
            if is_own(holder.as_ref(), own) {
                continue;
            }
            let by = holder
                .as_ref()
                .map_or_else(|| error.to_string(), |holder| format!("taken by {holder}"));
            let pod = plan
                .pods
                .iter()
                .find(|pod| pod.name.cluster() == cluster && pod.public_port == *port)
                .map_or_else(String::new, |pod| format!(" of `{}`", pod.name.pod()));
            problems.push(format!(
                "{cluster}: port {}{pod} on {} is {by}",
                socket.port(),
                socket.ip()
            ));
            remedies.extend(holder.map(|holder| holder.remedy()));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    remedies.sort();
    remedies.dedup();
    let remedy = match remedies.as_slice() {
        [] => "run it again".to_owned(),
        some => some.join(", "),
    };
    Err(Failure::infrastructure(problems.join("; "))
        .hint(format!("{remedy}, or change `port` in the blueprint"))
        .into())
}

/// Where a pod that is there listens.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) sockets: Sockets,
    /// In the order of its connections.
    pub(super) egress: Vec<SocketAddr>,
}

/// Gives every pod of the plan a separate address in its cluster's network, or separate ports if
/// all share one; one that
/// has such a place keeps it.
pub(super) fn place_pods(
    plan: &mut Plan,
    networks: &Networks,
    public: PublicAddress,
    standing: &BTreeMap<WorkloadName, Placed>,
) -> anyhow::Result<()> {
    let mut used: BTreeSet<IpAddr> = BTreeSet::new();
    let mut new = vec![];
    for pod in &mut plan.pods {
        let network = network_of(networks, pod.name.cluster())?;
        match standing.get(&pod.name) {
            Some(placed)
                if public == PublicAddress::OwnNetworkV6
                    || network.contains(placed.sockets.http.ip()) =>
            {
                used.insert(placed.sockets.http.ip());
                keep_place(pod, placed)?;
            }
            _ if public == PublicAddress::OwnNetworkV6 => place_on_shared(pod)?,
            _ => new.push(pod),
        }
    }
    for pod in new {
        let cluster = pod.name.cluster();
        let network = network_of(networks, cluster)?;
        let ip = (FIRST_POD_HOST..u8::MAX)
            .map(|host| address(network.octets, host))
            .find(|ip| !used.contains(ip));
        let ip = ip.ok_or_else(|| {
            Failure::usage(format!(
                "{cluster} has more pods than one loopback network has addresses"
            ))
            .hint("distribute the pods over more clusters")
        })?;
        used.insert(ip);
        place(pod, ip)?;
    }
    Ok(())
}

fn network_of<'a>(networks: &'a Networks, cluster: &str) -> anyhow::Result<&'a Network> {
    let own = networks.get(cluster);
    let own = own.with_context(|| format!("{cluster} has no network"))?;
    Ok(&own.network)
}

/// A connection that the pod did not have before gets a port that is free.
fn keep_place(pod: &mut PodPlan, placed: &Placed) -> anyhow::Result<()> {
    pod.sockets = placed.sockets;
    for (index, egress) in pod.egress.iter_mut().enumerate() {
        egress.listen = match placed.egress.get(index) {
            Some(listen) => *listen,
            None => free(SocketAddr::new(
                placed.sockets.egress_host,
                egress.listen.port(),
            ))?,
        };
    }
    Ok(())
}

fn place_on_shared(pod: &mut PodPlan) -> anyhow::Result<()> {
    pod.sockets = Sockets {
        http: shared()?,
        relay: shared()?,
        ingress: shared()?,
        envoy_stats: shared()?,
        wosp: shared()?,
        egress_host: Ipv6Addr::LOCALHOST.into(),
    };
    for egress in &mut pod.egress {
        egress.listen = shared()?;
    }
    Ok(())
}

fn place(pod: &mut PodPlan, ip: IpAddr) -> anyhow::Result<()> {
    let sockets = Sockets::at(ip);
    pod.sockets = Sockets {
        http: free(sockets.http)?,
        relay: free(sockets.relay)?,
        ingress: free(sockets.ingress)?,
        envoy_stats: free(sockets.envoy_stats)?,
        wosp: free(sockets.wosp)?,
        egress_host: ip,
    };
    for egress in &mut pod.egress {
        egress.listen = free(SocketAddr::new(ip, egress.listen.port()))?;
    }
    Ok(())
}

/// A free port of `[::1]`, which this process has not given before: it is bound only once its pod starts.
fn shared() -> anyhow::Result<SocketAddr> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let [high, low] = random_octets();
        let offset = u16::from_be_bytes([high, low]) % (SHARED_PORTS.end - SHARED_PORTS.start);
        let socket = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), SHARED_PORTS.start + offset);
        if given.contains(&socket.port()) {
            continue;
        }
        match TcpListener::bind(socket) {
            Ok(_) => {
                given.insert(socket.port());
                return Ok(socket);
            }
            Err(error) => last = Some(error),
        }
    }
    let cause = last.map_or_else(String::new, |error| format!(": {error}"));
    Err(
        Failure::infrastructure(format!("no free port on [::1]{cause}"))
            .hint("enable IPv6: `ip -6 address show dev lo` must show `::1`")
            .into(),
    )
}

/// Where the public port of a load balancer is reached by IPv6, too: the same port of `[::1]`, if this machine has that and the port
/// is free, or the environment's own, whose state folder is `own`. `None` also for a load balancer with an address of its own.
pub(super) fn by_v6(public: SocketAddr, own: Option<&Path>) -> Option<SocketAddr> {
    let twin = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), public.port());
    let is_free =
        || TcpListener::bind(twin).is_ok() || is_own(ports::holder_of(twin).as_ref(), own);
    (public.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) && is_free()).then_some(twin)
}

/// Whether what has a port is of the environment with the state folder `own`.
fn is_own(holder: Option<&Holder>, own: Option<&Path>) -> bool {
    matches!(holder, Some(Holder::Environment { state, .. }) if Some(state.as_path()) == own)
}

/// The wanted socket of an address that is ours, or another port of it where a process that listens on *every* address
/// (a development server on `0.0.0.0:8000`) has this one.
fn free(wanted: SocketAddr) -> anyhow::Result<SocketAddr> {
    let bound = TcpListener::bind(wanted).or_else(|error| match error.kind() {
        io::ErrorKind::AddrInUse => TcpListener::bind(SocketAddr::new(wanted.ip(), 0)),
        _ => Err(error),
    });
    let bound = bound.with_context(|| format!("cannot listen on {wanted}"))?;
    Ok(bound.local_addr()?)
}

/// Where peers dial the pod: the load balancer of its cluster.
pub(super) fn public_address(pod: &PodPlan, networks: &Networks) -> anyhow::Result<PeerAddress> {
    let socket = networks
        .get(pod.name.cluster())
        .and_then(|network| network.public.get(&pod.public_port))
        .with_context(|| format!("{} has no public port", pod.name))?;
    Ok(PeerAddress {
        host: socket.ip().to_string(),
        port: socket.port(),
    })
}
