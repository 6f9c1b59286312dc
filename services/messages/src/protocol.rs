//! The two protocols of a connection.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Header (over gRPC: metadata) of the answer to a new session, with the pod's time as a
/// [`crate::Timestamp`]. Earlier versions omit it.
pub const TIME_HEADER: &str = "ferry-time";

/// Type of the value in the PROXY protocol's preamble by which Envoy tells the app the DNS name of
/// the tunnel's peer. It is of the range for private use, `0xE0` to `0xEF`.
pub const PEER_TLV: u8 = 0xE1;

/// How a connection carries messages. Every pod answers both on its relay port; a connection uses
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 6455, path `/v1/carry`, subprotocol `ferry.v1`, one JSON object a text frame.
    Websocket,
    /// `ferry.v1.Relay/Carry` over HTTP/2.
    Grpc,
}

/// A text that is not a protocol, at most 64 characters of it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown protocol `{0}`: use `websocket` or `grpc`")]
pub struct InvalidProtocol(String);

impl Protocol {
    /// Both protocols.
    pub const ALL: [Self; 2] = [Self::Websocket, Self::Grpc];

    /// Returns the name in a blueprint.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Websocket => "websocket",
            Self::Grpc => "grpc",
        }
    }

    /// Returns the URL scheme in [`crate::env::DOWNSTREAM`].
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Websocket => "ws",
            Self::Grpc => "grpc",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = InvalidProtocol;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.as_str() == text)
            .ok_or_else(|| InvalidProtocol(text.chars().take(64).collect()))
    }
}
