//! The settings of the agent, read and checked once at start. Every problem is reported.

use std::{ffi::OsString, net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use messages::{WorkloadName, env};
use settings::{InvalidSettings, Reader};

/// How long an identity may live. Certificates know whole seconds only, and a long-lived identity
/// would defeat rotation.
const LIFETIMES: RangeInclusive<Duration> =
    Duration::from_secs(2)..=Duration::from_secs(24 * 60 * 60);
/// How long the time between two identities may be.
const ROTATIONS: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(12 * 60 * 60);

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The pod whose identity is minted.
    pub name: WorkloadName,
    /// Folder of the pod authority.
    pub authority_dir: PathBuf,
    /// Folder to which identities are published.
    pub identity_dir: PathBuf,
    /// Address of `/ready`, `/metrics` and `/identity`.
    pub listen: SocketAddr,
    /// How long an identity is valid.
    pub lifetime: Duration,
    /// Time between two identities: less than half of `lifetime`, so that one failed rotation does
    /// no harm.
    pub rotation: Duration,
}

impl Config {
    /// Reads the process's environment variables, see [`messages::env`].
    ///
    /// # Errors
    ///
    /// Returns every problem of the variables, see [`Config::read`].
    pub fn from_env() -> Result<Self, InvalidSettings> {
        Self::read(|name| std::env::var_os(name))
    }

    /// Reads variables through `lookup`. An empty value counts as absent.
    ///
    /// # Errors
    ///
    /// Returns every problem of the variables, each with its fix.
    pub fn read(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, InvalidSettings> {
        let mut reader = Reader::new(lookup);
        let config = config(&mut reader);
        reader.finish(config)
    }
}

/// Returns `None` only together with a problem; every variable is read in any case.
fn config(reader: &mut Reader<'_>) -> Option<Config> {
    let name = reader.workload_name();
    let authority_dir = reader.folder(env::AUTHORITY_DIR, "the folder of the pod authority");
    let identity_dir = reader.folder(env::IDENTITY_DIR, "a folder for the identity");
    let listen = reader.address(env::WOSP_LISTEN);
    let lifetime = reader.duration(env::IDENTITY_LIFETIME, Duration::from_secs(60), LIFETIMES);
    let rotation = reader.duration(env::ROTATION_INTERVAL, Duration::from_secs(10), ROTATIONS);
    if let Some((lifetime, rotation)) = lifetime.zip(rotation)
        && rotation * 2 >= lifetime
    {
        let cause = format_args!("{rotation:?} leaves no second try in a life of {lifetime:?}");
        let fix = format_args!("set it to less than half of {}", env::IDENTITY_LIFETIME);
        reader.problem(env::ROTATION_INTERVAL, cause, fix);
    }
    Some(Config {
        name: name?,
        authority_dir: authority_dir?,
        identity_dir: identity_dir?,
        listen: listen?,
        lifetime: lifetime?,
        rotation: rotation?,
    })
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

    fn read(changes: &[(&str, &str)]) -> Result<Config, InvalidSettings> {
        Config::read(|name| {
            changes
                .iter()
                .chain(&GOOD)
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.into())
        })
    }

    #[test]
    fn absent_variables_have_defaults() {
        let config = read(&[]).unwrap();
        assert_eq!(
            config.name.to_string(),
            "sink.cluster-b.international-ferry.ferry.internal"
        );
        assert_eq!(config.lifetime, Duration::from_secs(60));
        assert_eq!(config.rotation, Duration::from_secs(10));
    }

    #[test]
    fn durations_carry_units() {
        let config = read(&[
            (env::IDENTITY_LIFETIME, "1m30s"),
            (env::ROTATION_INTERVAL, "1500ms"),
        ])
        .unwrap();
        assert_eq!(config.lifetime, Duration::from_secs(90));
        assert_eq!(config.rotation, Duration::from_millis(1500));
    }

    #[test]
    fn every_problem_is_reported() {
        let InvalidSettings(problems) = Config::read(|name| match name {
            env::CLUSTER => Some("Cluster B".into()),
            env::WOSP_LISTEN => Some("9903".into()),
            env::IDENTITY_LIFETIME => Some("soon".into()),
            env::ROTATION_INTERVAL => Some("-1s".into()),
            _ => None,
        })
        .unwrap_err();
        let variables: Vec<_> = problems
            .iter()
            .map(|problem| problem.split(':').next().unwrap_or_default())
            .collect();
        assert_eq!(
            variables,
            [
                env::BLUEPRINT,
                env::CLUSTER,
                env::WORKLOAD,
                env::AUTHORITY_DIR,
                env::IDENTITY_DIR,
                env::WOSP_LISTEN,
                env::IDENTITY_LIFETIME,
                env::ROTATION_INTERVAL,
            ]
        );
    }

    #[test]
    fn rotation_must_leave_a_second_try() {
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
