//! All configuration of a pod, read and checked once, before a port is bound. Every problem is reported, not just the first.

use std::{
    collections::BTreeSet, ffi::OsString, fmt, net::SocketAddr, path::PathBuf, time::Duration,
};

use messages::{Protocol, Role, WorkloadName, env, limits};
use ring::digest;

/// What a pod is, where it listens, and whom it sends to.
#[derive(Clone, Debug)]
pub struct Config {
    pub name: WorkloadName,
    pub role: Role,
    /// The Kubernetes pod's own name, as its hops carry it.
    pub pod_name: String,
    pub node: String,
    pub http_listen: SocketAddr,
    pub relay_listen: SocketAddr,
    /// In the order of the blueprint; empty on a sink.
    pub downstream: Vec<Downstream>,
    pub identity_dir: PathBuf,
    /// Where a sink stores. `Some` on every sink.
    pub data_dir: Option<PathBuf>,
    /// `Some` on a boundary pod: `/trigger` or `/output` is served.
    pub token: Option<Token>,
    /// Messages a gateway sends by itself once it is ready.
    pub auto_trigger: u32,
    /// Messages in flight per connection.
    pub window: usize,
    pub session_lifetime: Duration,
    pub drain_limit: Duration,
}

/// One connection out: a port of the pod's own Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downstream {
    /// The pod at the other end, as the blueprint names it.
    pub pod: String,
    pub protocol: Protocol,
    pub address: SocketAddr,
}

/// A bearer token, kept as its hash only. Never shown.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// Fewest bytes: a shorter secret can be guessed.
    const MIN_BYTES: usize = 16;

    /// Takes the content of a token file; white space around it does not count.
    pub fn from_text(text: &str) -> Option<Self> {
        let token = text.trim();
        let printable = token.bytes().all(|byte| byte.is_ascii_graphic());
        (token.len() >= Self::MIN_BYTES && printable).then(|| Self(hash(token.as_bytes())))
    }

    /// Compares in a time that depends on what is given only, not on how much of it is right: hash with hash, so that not
    /// even the token's length shows.
    pub fn matches(&self, given: &[u8]) -> bool {
        use subtle::ConstantTimeEq as _;
        self.0.ct_eq(&hash(given)).into()
    }
}

fn hash(token: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, token).as_ref());
    hash
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Every problem of a configuration, one line each with its fix.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}", .0.join("\n"))]
pub struct InvalidConfig(pub Vec<String>);

impl Config {
    /// Reads this process's environment; `role` is what this program was built for.
    pub fn from_env(role: Role) -> Result<Self, InvalidConfig> {
        Self::read(role, |name| std::env::var_os(name))
    }

    /// Reads variables through `lookup`. Reads one file, the token's.
    pub fn read(
        expected_role: Role,
        lookup: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, InvalidConfig> {
        let mut reader = Reader {
            lookup,
            problems: Vec::new(),
        };
        let config = reader.config(expected_role);
        match config {
            Some(config) if reader.problems.is_empty() => Ok(config),
            _ => Err(InvalidConfig(reader.problems)),
        }
    }

    /// The Kubernetes namespace of the pod.
    pub fn namespace(&self) -> String {
        self.name.namespace()
    }
}

struct Reader<F> {
    lookup: F,
    problems: Vec<String>,
}

impl<F: Fn(&str) -> Option<OsString>> Reader<F> {
    /// `None` only together with a problem; every variable is looked at in any case.
    fn config(&mut self, expected_role: Role) -> Option<Config> {
        let blueprint = self.required(env::BLUEPRINT, "the blueprint's name");
        let cluster = self.required(env::CLUSTER, "the cluster's name in the blueprint");
        let workload = self.required(env::WORKLOAD, "the pod's name in the blueprint");
        let name =
            blueprint
                .zip(cluster)
                .zip(workload)
                .and_then(|((blueprint, cluster), workload)| {
                    let name = WorkloadName::new(&blueprint, &cluster, &workload);
                    self.check(
                        env::WORKLOAD,
                        name,
                        "use DNS labels in the three of blueprint, cluster and workload",
                    )
                });
        self.namespace(name.as_ref());
        self.role(expected_role);
        let pod_name = self.field(env::POD_NAME, "the Kubernetes pod's own name");
        let node = self.field(env::NODE, "the Kubernetes node's name");
        let http_listen = self.address(env::HTTP_LISTEN);
        let relay_listen = self.address(env::RELAY_LISTEN);
        let downstream = self.downstream(expected_role);
        let identity_dir = self.required(env::IDENTITY_DIR, "the folder that `wosp` writes to");
        let data_dir = match expected_role {
            Role::Sink => self.required(env::DATA_DIR, "a folder of the sink's own"),
            Role::Gateway | Role::Processor => None,
        };
        let token = self.token();
        let auto_trigger = self.auto_trigger(expected_role);
        let window = self.window();
        let session_lifetime = self.duration(
            env::SESSION_LIFETIME,
            Duration::from_secs(600),
            Duration::from_secs(1),
        );
        let drain_limit = self.duration(
            env::DRAIN_LIMIT,
            Duration::from_secs(10),
            Duration::from_millis(1),
        );
        Some(Config {
            name: name?,
            role: expected_role,
            pod_name: pod_name?,
            node: node?,
            http_listen: http_listen?,
            relay_listen: relay_listen?,
            downstream: downstream?,
            identity_dir: identity_dir?.into(),
            data_dir: data_dir.map(PathBuf::from),
            token,
            auto_trigger: auto_trigger?,
            window: window?,
            session_lifetime: session_lifetime?,
            drain_limit: drain_limit?,
        })
    }

    fn problem(&mut self, variable: &str, cause: impl fmt::Display, fix: impl fmt::Display) {
        self.problems.push(format!("{variable}: {cause}; {fix}"));
    }

    fn check<T, E: fmt::Display>(
        &mut self,
        variable: &str,
        parsed: Result<T, E>,
        fix: &str,
    ) -> Option<T> {
        parsed
            .map_err(|error| self.problem(variable, error, fix))
            .ok()
    }

    /// The variable's text; absent and empty are the same.
    fn optional(&mut self, variable: &str) -> Option<String> {
        let text = (self.lookup)(variable)?.into_string();
        let text = text.map_err(|_| "it is not UTF-8");
        self.check(variable, text, "set it to plain text")
            .filter(|text| !text.is_empty())
    }

    fn required(&mut self, variable: &str, meaning: &str) -> Option<String> {
        if (self.lookup)(variable).is_none_or(|text| text.is_empty()) {
            self.problem(
                variable,
                "it is not set",
                format_args!("set it to {meaning}"),
            );
            return None;
        }
        self.optional(variable)
    }

    /// A text that goes onto every hop.
    fn field(&mut self, variable: &str, meaning: &str) -> Option<String> {
        let text = self.required(variable, meaning)?;
        if text.len() > limits::MAX_FIELD_BYTES {
            let cause = format!(
                "{} bytes are over the limit of {}",
                text.len(),
                limits::MAX_FIELD_BYTES
            );
            self.problem(variable, cause, format_args!("set it to {meaning}"));
            return None;
        }
        Some(text)
    }

    /// Trails are verified against the namespace that follows from the name, so another one must not start.
    fn namespace(&mut self, name: Option<&WorkloadName>) {
        let Some(given) = self.required(env::NAMESPACE, "`<blueprint>-<pod>-ns`") else {
            return;
        };
        if let Some(expected) = name.map(WorkloadName::namespace)
            && expected != given
        {
            let cause = format!("`{given}` is not this pod's namespace");
            self.problem(
                env::NAMESPACE,
                cause,
                format_args!("set it to `{expected}`"),
            );
        }
    }

    fn role(&mut self, expected: Role) {
        let Some(given) = self.required(env::ROLE, expected.as_str()) else {
            return;
        };
        match given.parse::<Role>() {
            Ok(role) if role == expected => {}
            Ok(role) => self.problem(
                env::ROLE,
                format_args!("this program is a {expected}, not a {role}"),
                format_args!("start the program `{role}`, or set it to `{expected}`"),
            ),
            Err(error) => self.problem(env::ROLE, error, format_args!("set it to `{expected}`")),
        }
    }

    fn address(&mut self, variable: &str) -> Option<SocketAddr> {
        let text = self.required(variable, "IP:PORT, such as `127.0.0.1:8000`")?;
        let parsed = text
            .parse::<SocketAddr>()
            .map_err(|_| format!("`{text}` is no IP:PORT"));
        self.check(variable, parsed, "use such as `127.0.0.1:8000`")
    }

    fn downstream(&mut self, role: Role) -> Option<Vec<Downstream>> {
        let text = self.optional(env::DOWNSTREAM);
        match (role, text) {
            (Role::Sink, None) => Some(Vec::new()),
            (Role::Sink, Some(_)) => {
                self.problem(env::DOWNSTREAM, "a sink sends to nobody", "remove it");
                None
            }
            (_, None) => {
                let fix =
                    "list the connections as `<pod>=<ws|grpc>://<IP>:<PORT>`, comma separated";
                self.problem(
                    env::DOWNSTREAM,
                    format_args!("a {role} needs a connection out"),
                    fix,
                );
                None
            }
            (_, Some(text)) => {
                let mut all = Vec::new();
                let mut seen = BTreeSet::new();
                let before = self.problems.len();
                for entry in text.split(',').map(str::trim) {
                    match parse_downstream(entry) {
                        Some(one) if seen.insert(one.pod.clone()) => all.push(one),
                        Some(one) => self.problem(
                            env::DOWNSTREAM,
                            format_args!("`{}` stands there twice", one.pod),
                            "name each pod once",
                        ),
                        None => self.problem(
                            env::DOWNSTREAM,
                            format_args!("`{entry}` is no connection"),
                            "write `<pod>=<ws|grpc>://<IP>:<PORT>`",
                        ),
                    }
                }
                (self.problems.len() == before).then_some(all)
            }
        }
    }

    fn token(&mut self) -> Option<Token> {
        let path = self.optional(env::TOKEN_FILE)?;
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("cannot read `{path}`: {error}"));
        let text = self.check(
            env::TOKEN_FILE,
            text,
            "mount the token there, or remove the variable",
        )?;
        let token = Token::from_text(&text).ok_or_else(|| {
            let least = Token::MIN_BYTES;
            format!("`{path}` does not hold one token of {least} or more printable characters")
        });
        self.check(
            env::TOKEN_FILE,
            token,
            "write a random token, such as 32 bytes in base64url",
        )
    }

    fn auto_trigger(&mut self, role: Role) -> Option<u32> {
        let count = self.number(env::AUTO_TRIGGER, 0, 0, 1_000_000)?;
        if count > 0 && role != Role::Gateway {
            self.problem(
                env::AUTO_TRIGGER,
                format_args!("a {role} triggers nothing"),
                "remove it",
            );
        }
        Some(count)
    }

    fn window(&mut self) -> Option<usize> {
        let default = u32::try_from(limits::DEFAULT_WINDOW).unwrap_or(u32::MAX);
        let window = self.number(env::WINDOW, default, 1, 65_536)?;
        usize::try_from(window).ok()
    }

    fn number(&mut self, variable: &str, default: u32, least: u32, most: u32) -> Option<u32> {
        let Some(text) = self.optional(variable) else {
            return Some(default);
        };
        let parsed = text
            .parse::<u32>()
            .ok()
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| format!("`{text}` is no number from {least} to {most}"));
        self.check(
            variable,
            parsed,
            &format!("set such a number, or remove it for {default}"),
        )
    }

    fn duration(&mut self, variable: &str, default: Duration, least: Duration) -> Option<Duration> {
        let Some(text) = self.optional(variable) else {
            return Some(default);
        };
        let parsed = parse_duration(&text)
            .filter(|given| (least..=Duration::from_secs(86_400)).contains(given))
            .ok_or_else(|| format!("`{text}` is no duration from {least:?} to 24h"));
        self.check(
            variable,
            parsed,
            &format!("set such as `500ms`, `5s` or `10m`, or remove it for {default:?}"),
        )
    }
}

/// `<pod>=<ws|grpc>://<IP>:<PORT>`
fn parse_downstream(entry: &str) -> Option<Downstream> {
    let (pod, url) = entry.split_once('=')?;
    let (scheme, address) = url.split_once("://")?;
    let protocol = Protocol::ALL
        .into_iter()
        .find(|protocol| protocol.scheme() == scheme)?;
    messages::is_dns_label(pod).then_some(())?;
    Some(Downstream {
        pod: pod.to_owned(),
        protocol,
        address: address.parse().ok()?,
    })
}

/// A whole number and `ms`, `s`, `m` or `h`.
fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|char: char| !char.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
