use super::*;

#[test]
fn a_network_belongs_to_one_command_at_a_time() {
    let network = Network::reserve().unwrap();
    let error = Network::try_reserve(network.octets).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let octets = network.octets;
    drop(network);
    Network::try_reserve(octets).unwrap();
}

#[test]
fn a_claimed_network_is_not_reserved_again() {
    let network = Network::reserve().unwrap();
    let octets = network.octets;
    let _claim = TcpListener::bind(network.claim()).unwrap();
    drop(network);
    let error = Network::try_reserve(octets).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn only_a_port_of_localhost_has_a_twin_by_ipv6() {
    let Ok(taken) = TcpListener::bind("[::1]:0") else {
        return;
    };
    let port = taken.local_addr().unwrap().port();
    let at = |host: &str| SocketAddr::new(host.parse().unwrap(), port);
    assert_eq!(by_v6(at("127.0.0.1"), None), None, "it is taken");
    drop(taken);
    assert_eq!(by_v6(at("127.0.0.1"), None), Some(at("::1")));
    assert_eq!(by_v6(at("127.81.0.1"), None), None);
}

#[test]
fn cluster_keeps_network_unless_taken() {
    let mut standing = Standing {
        reference: Network::reserve().unwrap().reference(),
        is_claimed: false,
        public: BTreeMap::new(),
    };
    let again = Network::again(&standing).unwrap();
    assert_eq!(again.reference(), standing.reference);
    assert!(!again.contains("127.0.0.1".parse().unwrap()));
    assert!(again.contains(again.load_balancer()));
    let claim = TcpListener::bind(again.claim()).unwrap();
    drop(again);
    // The claim is its own load balancer's, or somebody else's.
    assert!(Network::again(&standing).is_none());
    standing.is_claimed = true;
    assert!(Network::again(&standing).is_some());
    drop(claim);
    for reference in [
        "",
        "127.64.1.0",
        "10.64.1.0/24",
        "127.64.1.7/24",
        "127.64.1.0/16",
    ] {
        standing.reference = reference.into();
        assert!(Network::again(&standing).is_none(), "{reference}");
    }
}

#[test]
fn port_taken_on_all_addresses_is_replaced() {
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = everywhere.local_addr().unwrap().port();
    let network = Network::reserve().unwrap();
    let socket = free(SocketAddr::new(network.load_balancer(), port)).unwrap();
    assert_eq!(socket.ip(), network.load_balancer());
    assert_ne!(socket.port(), port);
}
