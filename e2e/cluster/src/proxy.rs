//! Chooses the proxy to a server as `kubectl` does. Does no I/O; the variables come in as a
//! map.
//!
//! * `proxy-url` of the kubeconfig comes first, and no exception holds for it: it was written for that one cluster.
//! * Else `HTTPS_PROXY` leads to `https` servers and `HTTP_PROXY` to `http` ones, in either case of letters, upper case first;
//!   `NO_PROXY` names the exceptions. `ALL_PROXY` is no variable of `kubectl`.
//! * This machine itself is never reached by a proxy of the environment.
//!
//! Sources: <https://pkg.go.dev/golang.org/x/net/http/httpproxy#Config>,
//! <https://kubernetes.io/docs/tasks/access-application-cluster/configure-access-multiple-clusters/#proxy>.

mod exceptions;
mod server;
mod url;

use std::{collections::BTreeMap, ffi::OsString};

use blueprint::failure::Failure;

use exceptions::Exceptions;

pub use server::Server;
pub use url::{Credentials, Proxy, Scheme, Source};

/// Environment variables, by their names.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Those of this process.
    pub fn of_this_process() -> Self {
        std::env::vars_os().collect()
    }

    /// The first of these that is set to something, with its name.
    fn first(&self, names: [&'static str; 2]) -> Option<(&'static str, &str)> {
        names.into_iter().find_map(|name| {
            let value = self.0.get(name)?;
            (!value.is_empty()).then_some((name, value.as_str()))
        })
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Variables {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(all: I) -> Self {
        let text = |text: OsString| text.to_string_lossy().into_owned();
        Self(
            all.into_iter()
                .map(|(name, value)| (text(name.into()), text(value.into())))
                .collect(),
        )
    }
}

/// Their values may hold passwords.
impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The proxy that leads to `server`; `None` where the way is direct. `proxy_url` is that of the server's entry in the
/// kubeconfig.
///
/// # Errors
///
/// A [`Failure::usage`] where what is to be taken is no URL of a proxy. It says where it stands, and not what it is: that may
/// hold a password.
pub fn choose(
    server: &Server,
    proxy_url: Option<&str>,
    variables: &Variables,
) -> Result<Option<Proxy>, Failure> {
    if let Some(url) = proxy_url.filter(|url| !url.is_empty()) {
        return Proxy::parse(url, Source::Kubeconfig).map(Some);
    }
    let names = match server.is_secure() {
        true => ["HTTPS_PROXY", "https_proxy"],
        false => ["HTTP_PROXY", "http_proxy"],
    };
    let Some((name, value)) = variables.first(names) else {
        return Ok(None);
    };
    if server.is_this_machine() {
        return Ok(None);
    }
    let excepted = variables.first(["NO_PROXY", "no_proxy"]);
    if excepted.is_some_and(|(_, list)| Exceptions::parse(list).hold_for(server)) {
        return Ok(None);
    }
    Proxy::parse(value, Source::Variable(name)).map(Some)
}

#[cfg(test)]
mod tests;
