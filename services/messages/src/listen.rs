//! Binds the addresses of a pod, on nodes with and without IPv6.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

use socket2::{Domain, Socket, Type};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Binds `address`, for an asynchronous runtime to take. `[::]` means every address of both
/// families, or every IPv4 address on a node without IPv6 (`ipv6.disable=1`).
///
/// # Errors
///
/// Returns the error of the kernel, such as that the port is taken.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    bind_with(address, &|domain| Socket::new(domain, Type::STREAM, None))
}

fn bind_with(
    address: SocketAddr,
    make: &dyn Fn(Domain) -> io::Result<Socket>,
) -> io::Result<TcpListener> {
    if address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        return bind_one(address, make);
    }
    match bind_one(address, make) {
        Err(error) if has_no_family(&error) => bind_one(
            SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()),
            make,
        ),
        bound => bound,
    }
}

fn bind_one(
    address: SocketAddr,
    make: &dyn Fn(Domain) -> io::Result<Socket>,
) -> io::Result<TcpListener> {
    let socket = make(Domain::for_address(address))?;
    if address.is_ipv6() {
        // By default a setting of the kernel decides (`net.ipv6.bindv6only`).
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Whether the kernel knows no IPv6, or gives no interface an address of it. socket(2), ip(7).
fn has_no_family(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(NO_SUCH_FAMILY)
}

/// `EAFNOSUPPORT`, which std has no name for.
const NO_SUCH_FAMILY: i32 = if cfg!(target_os = "macos") { 47 } else { 97 };

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn port(listener: &TcpListener) -> u16 {
        listener.local_addr().unwrap().port()
    }

    #[test]
    fn wildcard_address_covers_both_families() {
        let listener = bind("[::]:0".parse().unwrap()).unwrap();
        let port = port(&listener);
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
        }
    }

    #[test]
    fn without_ipv6_it_is_every_address_of_ipv4() {
        let no_ipv6 = |domain| match domain {
            Domain::IPV6 => Err(io::Error::from_raw_os_error(NO_SUCH_FAMILY)),
            domain => Socket::new(domain, Type::STREAM, None),
        };
        let listener = bind_with("[::]:0".parse().unwrap(), &no_ipv6).unwrap();
        assert!(listener.local_addr().unwrap().is_ipv4());
        TcpStream::connect((Ipv4Addr::LOCALHOST, port(&listener))).unwrap();
        // One address that was meant is not replaced by all.
        let error = bind_with("[::1]:0".parse().unwrap(), &no_ipv6).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(NO_SUCH_FAMILY));
    }

    #[test]
    fn taken_port_is_refused() {
        let first = bind("[::]:0".parse().unwrap()).unwrap();
        for address in ["[::]", "0.0.0.0"] {
            let address = format!("{address}:{}", port(&first)).parse().unwrap();
            let error = bind(address).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{address}");
        }
    }
}
