//! The preamble of a connection in: PROXY protocol version 2, by which the pod's own Envoy names the
//! peer of the tunnel.
//!
//! Envoy writes it before the first byte of the peer, so a peer cannot write one of its own. The
//! relay port listens on a loopback address: in the pod, only its Envoy reaches it.
//! <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>

use std::io;

use messages::{PEER_TLV, WorkloadName};
use ppp::v2::Header;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes before the part whose length they give.
const FIXED_BYTES: usize = 16;
/// Longest preamble, in bytes: addresses and one name take fewer than 512.
const MAX_BYTES: usize = 1024;

/// The pod at the other end of the tunnel, by the certificate that Envoy has verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) WorkloadName);

/// Why a connection has no usable preamble.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPeer {
    #[error("{0}")]
    Read(#[from] io::Error),
    #[error("the preamble of {0} bytes is over the limit of {MAX_BYTES}")]
    TooLong(usize),
    #[error("the first bytes are no preamble of PROXY protocol version 2: {0}")]
    Malformed(String),
    #[error("the preamble names no peer: it has no value of type {PEER_TLV:#x}")]
    Absent,
    #[error("the preamble's peer is no pod: {0}")]
    NoPod(String),
}

/// Reads the preamble, and no byte after it.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Peer, NoPeer> {
    let mut bytes = vec![0; FIXED_BYTES];
    stream.read_exact(&mut bytes).await?;
    if !bytes.starts_with(ppp::v2::PROTOCOL_PREFIX) {
        return Err(NoPeer::Malformed("it begins otherwise".into()));
    }
    let length = match bytes.get(FIXED_BYTES - 2..) {
        Some(&[high, low]) => FIXED_BYTES + usize::from(u16::from_be_bytes([high, low])),
        _ => FIXED_BYTES,
    };
    if length > MAX_BYTES {
        return Err(NoPeer::TooLong(length));
    }
    bytes.resize(length, 0);
    if let Some(rest) = bytes.get_mut(FIXED_BYTES..) {
        stream.read_exact(rest).await?;
    }
    peer(&bytes)
}

fn peer(bytes: &[u8]) -> Result<Peer, NoPeer> {
    let malformed = |error: ppp::v2::ParseError| NoPeer::Malformed(error.to_string());
    let header = Header::try_from(bytes).map_err(malformed)?;
    let mut name = None;
    for value in header.tlvs() {
        let value = value.map_err(malformed)?;
        if value.kind == PEER_TLV && name.replace(value.value).is_some() {
            return Err(NoPeer::Malformed("it names two peers".into()));
        }
    }
    let name = name.ok_or(NoPeer::Absent)?;
    let name = std::str::from_utf8(&name).map_err(|error| NoPeer::NoPod(error.to_string()))?;
    // Envoy joins several DNS names by commas, which no name has.
    let name = name.parse::<WorkloadName>();
    name.map(Peer)
        .map_err(|error| NoPeer::NoPod(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use ppp::v2::{Builder, Command, Protocol, Version};
    use rstest::rstest;

    use super::*;

    fn preamble(values: &[(u8, &str)]) -> Vec<u8> {
        let at = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut builder =
            Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, (at, at));
        for (kind, value) in values {
            builder = builder.write_tlv(*kind, value.as_bytes()).unwrap();
        }
        builder.build().unwrap()
    }

    const NAME: &str = "gateway.cluster-a.test-ferry.ferry.internal";

    #[tokio::test]
    async fn peer_is_read_and_nothing_after_it() {
        let bytes = [&preamble(&[(0x02, "other"), (PEER_TLV, NAME)])[..], b"GET"].concat();
        let mut rest = &bytes[..];
        assert_eq!(read(&mut rest).await.unwrap(), Peer(NAME.parse().unwrap()));
        assert_eq!(rest, b"GET");
    }

    #[rstest]
    #[case::http(b"GET /v1/carry HTTP/1.1\r\nhost: pod\r\n\r\n".to_vec(), "begins otherwise")]
    #[case::version_1(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 1\r\n".to_vec(), "begins otherwise")]
    #[case::no_peer(preamble(&[]), "names no peer")]
    #[case::without_name(preamble(&[(PEER_TLV, "-")]), "no pod")]
    #[case::two_names(preamble(&[(PEER_TLV, &format!("{NAME},{NAME}"))]), "no pod")]
    #[case::twice(preamble(&[(PEER_TLV, NAME), (PEER_TLV, NAME)]), "two peers")]
    #[case::cut_off(preamble(&[(PEER_TLV, NAME)])[..40].to_vec(), "eof")]
    #[case::too_long(preamble(&[(PEER_TLV, &"x".repeat(2000))]), "over the limit")]
    #[tokio::test]
    async fn other_first_bytes_are_refused(#[case] bytes: Vec<u8>, #[case] cause: &str) {
        let error = read(&mut &bytes[..]).await.unwrap_err().to_string();
        assert!(error.contains(cause), "{error}");
    }
}
