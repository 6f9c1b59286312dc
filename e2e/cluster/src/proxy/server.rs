//! The server that a client connects to.

use std::{fmt, net::IpAddr};

/// Scheme, host and port of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    secure: bool,
    host: String,
    port: u16,
}

impl Server {
    /// `host` is a name or an address, an IPv6 address with or without brackets. The port is the scheme's own unless given.
    pub fn new(secure: bool, host: &str, port: Option<u16>) -> Self {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        Self {
            secure,
            host: bare.unwrap_or(host).to_ascii_lowercase(),
            port: port.unwrap_or(if secure { 443 } else { 80 }),
        }
    }

    pub const fn is_secure(&self) -> bool {
        self.secure
    }

    /// Without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The host where it is an address; one of IPv4 that is written as one of IPv6 is one of IPv4.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok().map(|ip: IpAddr| ip.to_canonical())
    }

    /// Whether it is loopback, or the unspecified address, which leads to this machine as well: k3d's own kubeconfig has
    /// `https://0.0.0.0:…`, where a proxy elsewhere would look for the cluster at itself.
    pub fn is_this_machine(&self) -> bool {
        self.host == "localhost"
            || self
                .ip()
                .is_some_and(|ip| ip.is_loopback() || ip.is_unspecified())
    }
}

/// `host:port`, as a proxy is asked for it.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
