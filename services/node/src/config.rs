//! The settings of a pod, read and checked once, before a port is bound. Every problem is reported.

use std::{
    collections::BTreeSet, ffi::OsString, fmt, net::SocketAddr, path::PathBuf, time::Duration,
};

use messages::{Protocol, Role, WorkloadName, env, limits};
use ring::digest;
use settings::{InvalidSettings, Reader};

use crate::{connections::Connections, relay::backoff::CEILING};

/// Longest duration that a setting may have.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a pod is, where it listens, and where it sends to.
#[derive(Clone, Debug)]
pub struct Config {
    pub name: WorkloadName,
    pub role: Role,
    /// The Kubernetes pod's own name, as its hops carry it.
    pub pod_name: String,
    pub node: String,
    pub http_listen: SocketAddr,
    pub relay_listen: SocketAddr,
    /// Connections out, in the order of the blueprint; empty on a sink.
    pub downstream: Vec<Downstream>,
    /// The connections that trails must follow.
    pub connections: Connections,
    pub identity_dir: PathBuf,
    /// Folder of a sink's store. `Some` on every sink.
    pub data_dir: Option<PathBuf>,
    /// `Some` on a boundary pod, which serves `/trigger` or `/output`.
    pub token: Option<Token>,
    /// Number of messages that a gateway sends by itself once it is ready.
    pub auto_trigger: u32,
    /// Number of messages in flight per connection.
    pub window: usize,
    pub session_lifetime: Duration,
    pub drain_limit: Duration,
    /// What a sink keeps.
    pub retention: Retention,
    /// Least time for which a sink recognises a repeat, whatever it still keeps.
    pub repeats: Duration,
}

/// What a sink keeps, and what it does at the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Most messages.
    pub messages: u64,
    /// Most bytes of records.
    pub bytes: u64,
    /// Longest time; `None` if age makes nothing go.
    pub age: Option<Duration>,
    pub when_full: WhenFull,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            messages: limits::MAX_STORED_MESSAGES,
            bytes: limits::MAX_STORED_BYTES,
            age: None,
            when_full: WhenFull::DropOldest,
        }
    }
}

/// What a sink does once it keeps as much as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest messages go.
    DropOldest,
    /// Messages wait at their senders until every reader has read the oldest ones.
    Refuse,
}

impl WhenFull {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::DropOldest, Self::Refuse];

    /// Returns the word in the environment and in blueprints.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DropOldest => "drop-oldest",
            Self::Refuse => "refuse",
        }
    }
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
    /// Fewest bytes: a shorter token can be guessed.
    const MIN_BYTES: usize = 16;

    /// Returns the token of a file's content, without the white space around it.
    pub fn from_text(text: &str) -> Option<Self> {
        let token = text.trim();
        let printable = token.bytes().all(|byte| byte.is_ascii_graphic());
        (token.len() >= Self::MIN_BYTES && printable).then(|| Self(hash(token.as_bytes())))
    }

    /// Compares hashes in constant time, so that timing shows neither how much of a guess is right
    /// nor the length of the token.
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

impl Config {
    /// Reads this process's environment; `role` is what this program was built for.
    ///
    /// # Errors
    ///
    /// Returns every problem of the variables, see [`Config::read`].
    pub fn from_env(role: Role) -> Result<Self, InvalidSettings> {
        Self::read(role, |name| std::env::var_os(name))
    }

    /// Reads variables through `lookup`. Reads one file, the token's.
    ///
    /// # Errors
    ///
    /// Returns every problem of the variables, each with its fix.
    pub fn read(
        role: Role,
        lookup: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, InvalidSettings> {
        let mut reader = Reader::new(lookup);
        let config = config(&mut reader, role);
        reader.finish(config)
    }

    /// Returns the Kubernetes namespace of the pod.
    pub fn namespace(&self) -> String {
        self.name.namespace()
    }
}

/// Returns `None` only together with a problem; every variable is read in any case.
fn config(reader: &mut Reader<'_>, role: Role) -> Option<Config> {
    let name = reader.workload_name();
    check_namespace(reader, name.as_ref());
    check_role(reader, role);
    let pod_name = field(reader, env::POD_NAME, "the Kubernetes pod's own name");
    let node = field(reader, env::NODE, "the Kubernetes node's name");
    let http_listen = reader.address(env::HTTP_LISTEN);
    let relay_listen = relay_listen(reader);
    let downstream = downstream(reader, role);
    let connections = connections(reader);
    let identity_dir = reader.folder(env::IDENTITY_DIR, "the folder that `wosp` writes to");
    let data_dir = match role {
        Role::Sink => reader.folder(env::DATA_DIR, "a folder that only this sink writes to"),
        Role::Gateway | Role::Processor => None,
    };
    let token = token(reader);
    let auto_trigger = auto_trigger(reader, role);
    let default_window = u32::try_from(limits::DEFAULT_WINDOW).unwrap_or(u32::MAX);
    let window = reader.number(env::WINDOW, default_window, 1..=65_536);
    let session_lifetime = reader.duration(
        env::SESSION_LIFETIME,
        Duration::from_secs(600),
        Duration::from_secs(1)..=DAY,
    );
    let drain_limit = reader.duration(
        env::DRAIN_LIMIT,
        Duration::from_secs(10),
        Duration::from_millis(1)..=DAY,
    );
    let retention = retention(reader);
    let repeats = repeats(reader, session_lifetime);
    Some(Config {
        name: name?,
        role,
        pod_name: pod_name?,
        node: node?,
        http_listen: http_listen?,
        relay_listen: relay_listen?,
        downstream: downstream?,
        connections: connections?,
        identity_dir: identity_dir?,
        data_dir,
        token,
        auto_trigger: auto_trigger?,
        window: usize::try_from(window?).ok()?,
        session_lifetime: session_lifetime?,
        drain_limit: drain_limit?,
        retention: retention?,
        repeats: repeats?,
    })
}

/// The preamble of a connection is believed, so only this machine may reach the port: its Envoy.
fn relay_listen(reader: &mut Reader<'_>) -> Option<SocketAddr> {
    let address = reader.address(env::RELAY_LISTEN)?;
    if !address.ip().is_loopback() {
        let cause = format_args!("{address} is no loopback address");
        reader.problem(
            env::RELAY_LISTEN,
            cause,
            "set it to one, such as 127.0.0.1:8001",
        );
        return None;
    }
    Some(address)
}

fn retention(reader: &mut Reader<'_>) -> Option<Retention> {
    let default = Retention::default();
    let whole = 1..=u64::MAX;
    let messages = reader.number(env::RETENTION_MESSAGES, default.messages, whole.clone());
    let bytes = reader.number(env::RETENTION_BYTES, default.bytes, whole);
    // Absent means without a limit, so no default can be named.
    let age = match reader.optional(env::RETENTION_AGE) {
        None => Some(None),
        Some(_) => reader
            .duration(
                env::RETENTION_AGE,
                DAY,
                Duration::from_secs(1)..=10_000 * DAY,
            )
            .map(Some),
    };
    let when_full = match reader.optional(env::RETENTION_WHEN_FULL) {
        None => Some(default.when_full),
        Some(text) => {
            let found = WhenFull::ALL.into_iter().find(|one| one.as_str() == text);
            if found.is_none() {
                let cause = format_args!("`{text}` is not known");
                let fix = "set it to `drop-oldest` or `refuse`";
                reader.problem(env::RETENTION_WHEN_FULL, cause, fix);
            }
            found
        }
    };
    Some(Retention {
        messages: messages?,
        bytes: bytes?,
        age: age?,
        when_full: when_full?,
    })
}

/// A sender resends after a session and a delay, so a repeat can come that late.
fn repeats(reader: &mut Reader<'_>, session_lifetime: Option<Duration>) -> Option<Duration> {
    let hour = Duration::from_secs(60 * 60);
    let default = session_lifetime.map_or(hour, |life| hour.max(life + CEILING));
    let repeats = reader.duration(env::REPEATS, default, Duration::from_secs(1)..=30 * DAY)?;
    let least = session_lifetime? + CEILING;
    if repeats < least {
        let cause = format_args!("{repeats:?} is less than a session and a delay, {least:?}");
        reader.problem(env::REPEATS, cause, "set a longer time, such as `1h`");
    }
    Some(repeats)
}

/// Returns a text that goes onto every hop.
fn field(reader: &mut Reader<'_>, variable: &str, meaning: &str) -> Option<String> {
    let text = reader.required(variable, meaning)?;
    if text.len() > limits::MAX_FIELD_BYTES {
        let (actual, limit) = (text.len(), limits::MAX_FIELD_BYTES);
        let cause = format!("{actual} bytes are over the limit of {limit}");
        reader.problem(variable, cause, format_args!("set it to {meaning}"));
        return None;
    }
    Some(text)
}

/// Trails are verified against the namespace that follows from the name, so a pod in another
/// namespace must not start.
fn check_namespace(reader: &mut Reader<'_>, name: Option<&WorkloadName>) {
    let Some(given) = reader.required(env::NAMESPACE, "`<blueprint>-<pod>-ns`") else {
        return;
    };
    if let Some(expected) = name.map(WorkloadName::namespace)
        && expected != given
    {
        let cause = format!("`{given}` is not this pod's namespace");
        let fix = format_args!("set it to `{expected}`");
        reader.problem(env::NAMESPACE, cause, fix);
    }
}

fn check_role(reader: &mut Reader<'_>, expected: Role) {
    let Some(given) = reader.required(env::ROLE, expected.as_str()) else {
        return;
    };
    match given.parse::<Role>() {
        Ok(role) if role == expected => {}
        Ok(role) => reader.problem(
            env::ROLE,
            format_args!("this program is a {expected}, not a {role}"),
            format_args!("start the program `{role}`, or set it to `{expected}`"),
        ),
        Err(error) => reader.problem(env::ROLE, error, format_args!("set it to `{expected}`")),
    }
}

fn downstream(reader: &mut Reader<'_>, role: Role) -> Option<Vec<Downstream>> {
    let text = match (role, reader.optional(env::DOWNSTREAM)) {
        (Role::Sink, None) => return Some(Vec::new()),
        (Role::Sink, Some(_)) => {
            reader.problem(env::DOWNSTREAM, "a sink has no connection out", "remove it");
            return None;
        }
        (_, None) => {
            let cause = format_args!("a {role} needs a connection out");
            let fix = "list the connections as `<pod>=<ws|grpc>://<IP>:<PORT>`, comma separated";
            reader.problem(env::DOWNSTREAM, cause, fix);
            return None;
        }
        (_, Some(text)) => text,
    };
    let mut all = Some(Vec::new());
    let mut seen = BTreeSet::new();
    for entry in text.split(',').map(str::trim) {
        let (cause, fix) = match parse_downstream(entry) {
            Some(one) if seen.insert(one.pod.clone()) => {
                if let Some(all) = &mut all {
                    all.push(one);
                }
                continue;
            }
            Some(one) => (format!("duplicate pod `{}`", one.pod), "name each pod once"),
            None => (
                format!("invalid connection `{entry}`"),
                "write `<pod>=<ws|grpc>://<IP>:<PORT>`",
            ),
        };
        reader.problem(env::DOWNSTREAM, cause, fix);
        all = None;
    }
    all
}

fn connections(reader: &mut Reader<'_>) -> Option<Connections> {
    let text = reader.required(env::CONNECTIONS, "the connections to and from the pod")?;
    let fix = "write `<name>><name>`, comma separated, with the DNS names of certificates";
    reader.check(env::CONNECTIONS, text.parse(), fix)
}

fn token(reader: &mut Reader<'_>) -> Option<Token> {
    let path = reader.optional(env::TOKEN_FILE)?;
    let text =
        std::fs::read_to_string(&path).map_err(|error| format!("cannot read `{path}`: {error}"));
    let fix = "mount the token there, or remove the variable";
    let text = reader.check(env::TOKEN_FILE, text, fix)?;
    let token = Token::from_text(&text).ok_or_else(|| {
        let least = Token::MIN_BYTES;
        format!("`{path}` does not hold one token of {least} or more printable characters")
    });
    let fix = "write a random token, such as 32 bytes in base64url";
    reader.check(env::TOKEN_FILE, token, fix)
}

fn auto_trigger(reader: &mut Reader<'_>, role: Role) -> Option<u32> {
    let count = reader.number(env::AUTO_TRIGGER, 0, 0..=1_000_000)?;
    if count > 0 && role != Role::Gateway {
        let cause = format_args!("a {role} does not make messages");
        reader.problem(env::AUTO_TRIGGER, cause, "remove it");
    }
    Some(count)
}

/// Parses `<pod>=<ws|grpc>://<IP>:<PORT>`.
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

#[cfg(test)]
mod tests;
