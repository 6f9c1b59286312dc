//! The URL of a proxy. Neither `Debug` nor errors show its credentials.

use std::{fmt, net::Ipv6Addr};

use blueprint::failure::Failure;
use percent_encoding::percent_decode_str;

/// A proxy, and where it is named.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    scheme: Scheme,
    host: String,
    port: u16,
    credentials: Option<Credentials>,
    source: Source,
}

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `CONNECT` in plaintext.
    Http,
    /// `CONNECT` within TLS.
    Https,
    /// RFC 1928; names are resolved by the proxy.
    Socks5,
}

/// User and password, decoded.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub password: String,
}

/// Where a proxy is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `proxy-url` of a cluster.
    Kubeconfig,
    Variable(&'static str),
}

impl Scheme {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks5 => "socks5",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Socks5 => 1080,
        }
    }

    fn of(name: &str) -> Option<Self> {
        Some(match &*name.to_ascii_lowercase() {
            "http" => Self::Http,
            "https" => Self::Https,
            "socks5" | "socks5h" => Self::Socks5,
            _ => return None,
        })
    }
}

impl Proxy {
    /// Reads `SCHEME://[USER[:PASSWORD]@]HOST[:PORT]`; a variable may leave the scheme out, which is `http` then.
    ///
    /// # Errors
    ///
    /// A [`Failure::usage`] that names the source of the URL, but not the URL.
    pub fn parse(url: &str, source: Source) -> Result<Self, Failure> {
        let refused = |why: &str| {
            Failure::usage(format!("invalid proxy URL in {source}: {why}")).hint(
                "use the form http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT, with \
                 USER:PASSWORD@ before HOST if the proxy requires them",
            )
        };
        let url = url.trim();
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme, rest)) => {
                let known = Scheme::of(scheme);
                (
                    known.ok_or_else(|| refused("its scheme is none of http, https, socks5"))?,
                    rest,
                )
            }
            None if source == Source::Kubeconfig => return Err(refused("it has no scheme")),
            None => (Scheme::Http, url),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (credentials, address) = match authority.rsplit_once('@') {
            Some((before, address)) => (Some(before), address),
            None => (None, authority),
        };
        let (host, port) = split(address).ok_or_else(|| refused("it has no host"))?;
        let port = match port {
            None | Some("") => scheme.port(),
            Some(port) => match port.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(refused("its port is none")),
            },
        };
        Ok(Self {
            scheme,
            host: host.to_ascii_lowercase(),
            port,
            credentials: credentials.map(Credentials::decoded),
            source,
        })
    }

    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// A name or an address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    pub const fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    pub const fn source(&self) -> Source {
        self.source
    }

    /// `host:port`, an IPv6 address in brackets.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Host, without brackets, and port of an authority; `None` where no host can be that.
fn split(address: &str) -> Option<(&str, Option<&str>)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return None,
            }
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let is_host = |letter: char| letter.is_ascii_alphanumeric() || ".-_:".contains(letter);
    (!host.is_empty() && host.chars().all(is_host)).then_some((host, port))
}

impl Credentials {
    fn decoded(text: &str) -> Self {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        Self {
            user: decoded(user),
            password: decoded(password),
        }
    }
}

/// Without user and password.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.address())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} of {}", self.source)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kubeconfig => f.write_str("`proxy-url` of the kubeconfig"),
            Self::Variable(name) => write!(f, "`{name}`"),
        }
    }
}
