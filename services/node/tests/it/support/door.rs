//! What a pod's Envoy does for its app: names the peer before the peer's first byte.

use std::net::SocketAddr;

use messages::{PEER_TLV, WorkloadName};
use ppp::v2::{Builder, Command, Protocol, Version};
use tokio::{
    io::{AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

/// Returns an address that leads to `relay` as the tunnel of `peer` does. Ends with the test's
/// runtime.
pub(crate) fn door(relay: SocketAddr, peer: &WorkloadName) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let preamble = Builder::with_addresses(
        Version::Two | Command::Proxy,
        Protocol::Stream,
        (address, relay),
    )
    .write_tlv(PEER_TLV, peer.to_string().as_bytes())
    .and_then(Builder::build)
    .unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let preamble = preamble.clone();
            tokio::spawn(async move {
                near.set_nodelay(true)?;
                let mut far = TcpStream::connect(relay).await?;
                far.set_nodelay(true)?;
                far.write_all(&preamble).await?;
                copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    address
}
