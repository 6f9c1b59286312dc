//! `NO_PROXY`: the servers that are reached directly.

use std::net::IpAddr;

use super::Server;

/// Parses a list of exceptions. An entry without a meaning has no effect.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exceptions(Vec<Exception>);

#[derive(Debug, PartialEq, Eq)]
enum Exception {
    /// `*`
    All,
    /// `10.0.0.0/8`: the addresses whose first `bits` are those of `network`.
    Network { network: IpAddr, bits: u8 },
    /// `10.0.0.1`, `10.0.0.1:6443`, `fd00::1`, `[fd00::1]:6443`
    Address { ip: IpAddr, port: String },
    /// `example.com` and all below it; `.example.com` or `*.example.com`, all below it.
    Domain {
        /// With its leading dot.
        below: String,
        itself: bool,
        port: String,
    },
}

impl Exceptions {
    pub(super) fn parse(list: &str) -> Self {
        let entries = list.split(',').map(|entry| entry.trim().to_lowercase());
        Self(entries.filter_map(|entry| exception(&entry)).collect())
    }

    pub(super) fn hold_for(&self, server: &Server) -> bool {
        let (ip, port) = (server.ip(), server.port().to_string());
        let is_port = |wanted: &str| wanted.is_empty() || wanted == port;
        self.0.iter().any(|exception| match exception {
            Exception::All => true,
            Exception::Network { network, bits } => {
                ip.is_some_and(|ip| leading(ip, *bits) == leading(*network, *bits))
            }
            Exception::Address { ip: own, port } => ip == Some(*own) && is_port(port),
            Exception::Domain {
                below,
                itself,
                port,
            } => {
                let host = server.host();
                ip.is_none()
                    && (host.ends_with(below) || (*itself && host == &below[1..]))
                    && is_port(port)
            }
        })
    }
}

fn exception(entry: &str) -> Option<Exception> {
    if entry.is_empty() {
        return None;
    }
    if entry == "*" {
        return Some(Exception::All);
    }
    if let Some(network) = network(entry) {
        return Some(network);
    }
    let (host, port) = host_and_port(entry).unwrap_or((entry, ""));
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Some(Exception::Address {
            ip: ip.to_canonical(),
            port: port.into(),
        });
    }
    let host = host
        .strip_prefix('*')
        .filter(|rest| rest.starts_with('.'))
        .unwrap_or(host);
    let itself = !host.starts_with('.');
    (!host.is_empty()).then(|| Exception::Domain {
        below: if itself {
            format!(".{host}")
        } else {
            host.into()
        },
        itself,
        port: port.into(),
    })
}

fn network(entry: &str) -> Option<Exception> {
    let (network, bits) = entry.split_once('/')?;
    let network: IpAddr = network.parse().ok()?;
    if bits.is_empty() || !bits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let bits = bits.parse().ok()?;
    (bits <= width(network)).then_some(Exception::Network { network, bits })
}

const fn width(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The family of an address and its first `bits`.
fn leading(ip: IpAddr, bits: u8) -> (u8, u128) {
    let number = match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    let rest = u32::from(width(ip).saturating_sub(bits));
    (width(ip), number.checked_shr(rest).unwrap_or(0))
}

/// `host:port` or `[host]:port`; `None` where there is no port, or a colon or bracket too many.
fn host_and_port(entry: &str) -> Option<(&str, &str)> {
    let (host, port) = match entry.strip_prefix('[') {
        Some(rest) => rest.split_once("]:")?,
        None => entry.rsplit_once(':')?,
    };
    let is_bracketed = entry.starts_with('[');
    let is_odd = |text: &str| text.contains(['[', ']']);
    let is_whole = is_bracketed || !host.contains(':');
    (is_whole && !port.contains(':') && !is_odd(host) && !is_odd(port)).then_some((host, port))
}
