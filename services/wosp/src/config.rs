//! All settings, read and checked once at start, every error reported.

use std::{ffi::OsString, fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use jiff::SignedDuration;
use messages::{WorkloadName, env, is_dns_label};

use crate::logging::{Filter, Format};

/// Shortest and longest life of an identity: certificates know whole seconds only, and a long-lived identity would
/// undo what the rotation is for.
const LIFETIME: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(24 * 60 * 60));
/// Shortest time between two identities.
const SHORTEST_ROTATION: Duration = Duration::from_millis(100);

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whose identity is minted.
    pub name: WorkloadName,
    /// Where the pod authority is read from.
    pub authority_dir: PathBuf,
    /// Where identities are published.
    pub identity_dir: PathBuf,
    /// Where `/ready` and `/metrics` answer.
    pub listen: SocketAddr,
    /// How long an identity is valid.
    pub lifetime: Duration,
    /// How often a new one is minted; less than half of `lifetime`, so that one failed rotation does no harm.
    pub rotation: Duration,
    pub log_filter: Filter,
    pub log_format: Format,
}

/// All that is wrong with the settings, each with its variable and its fix.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}

impl Config {
    /// Reads the process's environment variables; their names and meaning are in [`messages::env`].
    pub fn from_env() -> Result<Self, ConfigErrors> {
        Self::read(|name| std::env::var_os(name))
    }

    /// Reads settings through `get`. An empty value counts as absent.
    pub fn read(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigErrors> {
        let mut reader = Reader {
            get,
            errors: vec![],
        };
        let blueprint = reader.label(env::BLUEPRINT);
        let cluster = reader.label(env::CLUSTER);
        let pod = reader.label(env::WORKLOAD);
        let authority_dir = reader.needed::<PathBuf>(env::AUTHORITY_DIR, "a folder");
        let identity_dir = reader.needed::<PathBuf>(env::IDENTITY_DIR, "a folder");
        let listen =
            reader.needed::<SocketAddr>(env::WOSP_LISTEN, "`IP:PORT`, such as `127.0.0.1:9903`");
        let lifetime = reader.duration(env::IDENTITY_LIFETIME, Duration::from_secs(60));
        let rotation = reader.duration(env::ROTATION_INTERVAL, Duration::from_secs(10));
        let log_filter = reader
            .optional(env::LOG, "a filter such as `info` or `wosp=debug`")
            .unwrap_or_default();
        let log_format = reader
            .optional(env::LOG_FORMAT, "`human` or `json`")
            .unwrap_or_default();
        if let Some(lifetime) = lifetime {
            let (shortest, longest) = LIFETIME;
            if lifetime < shortest || lifetime > longest {
                reader.error(format!(
                    "{} is {lifetime:?}: set it between {shortest:?} and {longest:?}",
                    env::IDENTITY_LIFETIME
                ));
            }
            if let Some(rotation) = rotation
                && (rotation < SHORTEST_ROTATION || rotation * 2 >= lifetime)
            {
                reader.error(format!(
                    "{} is {rotation:?}: set it to at least {SHORTEST_ROTATION:?} and less than half of {} ({lifetime:?})",
                    env::ROTATION_INTERVAL,
                    env::IDENTITY_LIFETIME
                ));
            }
        }
        let name = match (&blueprint, &cluster, &pod) {
            (Some(blueprint), Some(cluster), Some(pod)) => {
                WorkloadName::new(blueprint, cluster, pod)
                    .map_err(|error| reader.error(error.to_string()))
                    .ok()
            }
            _ => None,
        };
        match (
            name,
            authority_dir,
            identity_dir,
            listen,
            lifetime,
            rotation,
        ) {
            (
                Some(name),
                Some(authority_dir),
                Some(identity_dir),
                Some(listen),
                Some(lifetime),
                Some(rotation),
            ) if reader.errors.is_empty() => Ok(Self {
                name,
                authority_dir,
                identity_dir,
                listen,
                lifetime,
                rotation,
                log_filter,
                log_format,
            }),
            _ => Err(ConfigErrors(reader.errors)),
        }
    }
}

struct Reader<G> {
    get: G,
    errors: Vec<String>,
}

impl<G: Fn(&str) -> Option<OsString>> Reader<G> {
    fn error(&mut self, text: String) {
        self.errors.push(text);
    }

    fn text(&mut self, name: &str) -> Option<String> {
        match (self.get)(name)?.into_string() {
            Ok(text) => Some(text).filter(|text| !text.is_empty()),
            Err(_) => {
                self.error(format!("{name} is no UTF-8 text"));
                None
            }
        }
    }

    fn optional<T: FromStr>(&mut self, name: &str, what: &str) -> Option<T> {
        let text = self.text(name)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.error(format!("{name} is `{}`: set it to {what}", cut(&text)));
        }
        value
    }

    fn needed<T: FromStr>(&mut self, name: &str, what: &str) -> Option<T> {
        let before = self.errors.len();
        let value = self.optional(name, what);
        if value.is_none() && self.errors.len() == before {
            self.error(format!("{name} is not set: set it to {what}"));
        }
        value
    }

    fn label(&mut self, name: &str) -> Option<String> {
        let what = "a DNS label (1 to 63 of a-z, 0-9 and `-`)";
        let text = self.needed::<String>(name, what)?;
        if !is_dns_label(&text) {
            self.error(format!("{name} is `{}`: set it to {what}", cut(&text)));
            return None;
        }
        Some(text)
    }

    fn duration(&mut self, name: &str, default: Duration) -> Option<Duration> {
        let before = self.errors.len();
        let value = self.optional::<SignedDuration>(name, "a duration such as `60s` or `500ms`");
        match value.map(Duration::try_from) {
            Some(Ok(duration)) => Some(duration),
            Some(Err(_)) => {
                self.error(format!(
                    "{name} is negative: set it to a duration such as `60s`"
                ));
                None
            }
            None if self.errors.len() > before => None,
            None => Some(default),
        }
    }
}

/// Bad input in an error message: enough of it to be recognised.
fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 6] = [
        (env::BLUEPRINT, "international-ferry"),
        (env::CLUSTER, "cluster-b"),
        (env::WORKLOAD, "sink"),
        (env::AUTHORITY_DIR, "/authority"),
        (env::IDENTITY_DIR, "/identity"),
        (env::WOSP_LISTEN, "127.0.0.1:9903"),
    ];

    fn read(changes: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
        Config::read(|name| {
            changes
                .iter()
                .chain(&GOOD)
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.into())
        })
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let config = read(&[]).unwrap();
        assert_eq!(
            config.name.to_string(),
            "sink.cluster-b.international-ferry.ferry.internal"
        );
        assert_eq!(config.lifetime, Duration::from_secs(60));
        assert_eq!(config.rotation, Duration::from_secs(10));
    }

    #[test]
    fn durations_are_read_with_their_unit() {
        let config = read(&[
            (env::IDENTITY_LIFETIME, "2m"),
            (env::ROTATION_INTERVAL, "1500ms"),
        ])
        .unwrap();
        assert_eq!(config.lifetime, Duration::from_secs(120));
        assert_eq!(config.rotation, Duration::from_millis(1500));
    }

    #[test]
    fn every_error_is_reported_at_once() {
        let errors = Config::read(|name| match name {
            env::CLUSTER => Some("Cluster B".into()),
            env::WOSP_LISTEN => Some("9903".into()),
            env::IDENTITY_LIFETIME => Some("soon".into()),
            env::LOG => Some("info,,=".into()),
            env::LOG_FORMAT => Some("xml".into()),
            _ => None,
        })
        .unwrap_err();
        let starts: Vec<_> = errors
            .0
            .iter()
            .map(|error| error.split(':').next().unwrap_or_default())
            .collect();
        assert_eq!(
            starts,
            [
                "FERRY_BLUEPRINT is not set",
                "FERRY_CLUSTER is `Cluster B`",
                "FERRY_WORKLOAD is not set",
                "FERRY_AUTHORITY_DIR is not set",
                "FERRY_IDENTITY_DIR is not set",
                "FERRY_WOSP_LISTEN is `9903`",
                "FERRY_IDENTITY_LIFETIME is `soon`",
                "FERRY_LOG is `info,,=`",
                "FERRY_LOG_FORMAT is `xml`",
            ]
        );
    }

    #[test]
    fn a_rotation_that_leaves_no_second_chance_is_refused() {
        for (lifetime, rotation, good) in [
            ("6s", "1s", true),
            ("60s", "29s", true),
            ("60s", "30s", false),
            ("60s", "-1s", false),
            ("60s", "0s", false),
            ("1s", "100ms", false),
            ("25h", "10s", false),
        ] {
            let result = read(&[
                (env::IDENTITY_LIFETIME, lifetime),
                (env::ROTATION_INTERVAL, rotation),
            ]);
            assert_eq!(
                result.is_ok(),
                good,
                "lifetime {lifetime} with rotation {rotation}: {result:?}"
            );
        }
    }
}
