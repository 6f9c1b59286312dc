//! Docker engine: its description, its API versions, and whether it is Docker.

use std::time::Duration;

use blueprint::failure::Failure;
use serde::Deserialize;

use super::{docker, run, unreachable_engine};
use crate::process;

const LIMIT: Duration = Duration::from_secs(15);

/// How the engine describes itself: the part of `docker info` that is looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    pub server_version: String,
    /// `1` or `2`; absent on engines that do not tell.
    pub cgroup_version: Option<String>,
    /// Folder of images, containers and volumes, on the engine's machine.
    pub docker_root_dir: String,
    /// The engine's clock, RFC 3339.
    pub system_time: String,
    /// Bytes.
    pub mem_total: u64,
    /// `None`: the pools that are built in.
    pub default_address_pools: Option<Vec<AddressPool>>,
    /// Host name of the engine's machine.
    pub name: Option<String>,
    /// Release of the engine's kernel.
    pub kernel_version: Option<String>,
    /// As `uname -m` has it, such as `x86_64`.
    pub architecture: Option<String>,
    /// Such as `Debian GNU/Linux 12 (bookworm)`, or `Docker Desktop`.
    pub operating_system: Option<String>,
    /// Such as `name=rootless`.
    pub security_options: Option<Vec<String>>,
}

/// Networks of `size` bits that the engine cuts out of `base`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub struct AddressPool {
    /// CIDR, such as `172.80.0.0/16`.
    pub base: String,
    /// Prefix length of each network.
    pub size: u8,
}

/// A version of the engine's interface, such as 1.44.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion(pub u32, pub u32);

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl std::str::FromStr for ApiVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.split_once('.').ok_or(())?;
        let number = |text: &str| text.parse().map_err(drop);
        Ok(Self(number(major)?, number(minor)?))
    }
}

/// A Docker engine that answers.
#[derive(Clone, Debug)]
pub struct Engine {
    pub info: Info,
    /// The oldest version of its interface that it still takes.
    pub oldest_api: ApiVersion,
}

/// What `docker` leads to.
#[derive(Clone, Debug)]
pub enum Found {
    Docker(Box<Engine>),
    /// Podman in Docker's place, of this version.
    Podman(String),
}

/// The half of `docker version` that the engine tells.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Server {
    #[serde(rename = "MinAPIVersion")]
    oldest_api: Option<String>,
    components: Vec<Component>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    name: String,
    #[serde(default)]
    version: String,
}

/// What answers behind `docker`; an infrastructure failure with the fix where nothing does.
pub async fn find() -> anyhow::Result<Found> {
    let said = run(&docker(["info", "--format", "{{json .}}"]).within(LIMIT)).await?;
    let info = match read_info(&said.stdout, &said.stderr)? {
        Said::Docker(info) => *info,
        Said::Podman(version) => return Ok(Found::Podman(version)),
    };
    let line = docker(["version", "--format", "{{json .Server}}"]).within(LIMIT);
    let server = match process::output(&line).await {
        Ok(done) if done.status.success() => serde_json::from_str(&done.stdout).unwrap_or_default(),
        _ => Server::default(),
    };
    Ok(judged(info, server))
}

fn judged(info: Info, server: Server) -> Found {
    let podman = |part: &&Component| part.name.to_lowercase().contains("podman");
    if let Some(podman) = server.components.iter().find(podman) {
        return Found::Podman(podman.version.clone());
    }
    let told = server.oldest_api.and_then(|version| version.parse().ok());
    Found::Docker(Box::new(Engine {
        oldest_api: told.unwrap_or_else(|| usual_oldest_api(&info.server_version)),
        info,
    }))
}

/// As [`find`], for callers that need Docker.
pub async fn engine() -> anyhow::Result<Engine> {
    match find().await? {
        Found::Docker(engine) => Ok(*engine),
        Found::Podman(version) => Err(podman(&version).into()),
    }
}

/// Returns the engine's description; an infrastructure failure with the fix if none responds, or
/// if it is not Docker.
pub async fn info() -> anyhow::Result<Info> {
    Ok(engine().await?.info)
}

/// The failure of what needs Docker and finds Podman.
pub fn podman(version: &str) -> Failure {
    Failure::infrastructure(format!(
        "`docker` is Podman{}{version}, but k3d needs Docker",
        if version.is_empty() { "" } else { " " }
    ))
    .hint("install Docker (https://docs.docker.com/engine/install/), or pass `--runtime embedded`")
}

enum Said {
    Docker(Box<Info>),
    Podman(String),
}

/// Reads `docker info`. Where no engine answers, some versions print the client's half and end with 0.
fn read_info(stdout: &str, stderr: &str) -> anyhow::Result<Said> {
    let unreadable = |why: &str| {
        unreachable_engine(stderr)
            .or_else(|| unreachable_engine(stdout))
            .unwrap_or_else(|| {
                Failure::infrastructure(format!("cannot parse `docker info`: {why}"))
                    .hint("run `docker info`, or pass `--runtime embedded`, which needs no Docker")
            })
    };
    let value: serde_json::Value =
        serde_json::from_str(stdout).map_err(|error| unreadable(&error.to_string()))?;
    // Podman's own account of itself has another shape.
    if value.get("host").is_some() && value.get("ServerVersion").is_none() {
        let version = value["version"]["Version"].as_str().unwrap_or_default();
        return Ok(Said::Podman(version.into()));
    }
    let info: Info =
        serde_json::from_value(value).map_err(|error| unreadable(&error.to_string()))?;
    if info.server_version.is_empty() {
        return Err(unreadable("it has no `ServerVersion`").into());
    }
    Ok(Said::Docker(Box::new(info)))
}

/// The numbers of an engine's version, such as `20.10.24+dfsg1`.
pub fn version_numbers(version: &str) -> (u32, u32, u32) {
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

/// What an engine of this version takes unless it is set otherwise.
/// <https://docs.docker.com/engine/release-notes/29/>, <https://docs.docker.com/engine/release-notes/25.0/>
fn usual_oldest_api(version: &str) -> ApiVersion {
    match version_numbers(version).0 {
        29.. => ApiVersion(1, 44),
        25..=28 => ApiVersion(1, 24),
        _ => ApiVersion(1, 12),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = r#"{"ServerVersion":"28.5.1","CgroupVersion":"2","DockerRootDir":"/var/lib/docker","NCPU":2,
        "SystemTime":"2026-01-02T03:04:05.6Z","MemTotal":8000,"Name":"here","Architecture":"x86_64",
        "DefaultAddressPools":[{"Base":"172.80.0.0/16","Size":24}]}"#;

    fn info(text: &str) -> Info {
        match read_info(text, "").unwrap() {
            Said::Docker(info) => *info,
            Said::Podman(version) => panic!("Podman {version}"),
        }
    }

    #[test]
    fn engine_description_is_read_without_pools_too() {
        assert_eq!(info(INFO).default_address_pools.unwrap()[0].size, 24);
        let none = INFO.replace(r#"[{"Base":"172.80.0.0/16","Size":24}]"#, "null");
        assert!(info(&none).default_address_pools.is_none());
    }

    #[test]
    fn what_describes_no_engine_is_one_clear_line() {
        for (stdout, stderr, cause) in [
            ("", "", "cannot parse `docker info`"),
            ("{}", "", "it has no `ServerVersion`"),
            (r#"{"ServerVersion":""}"#, "", "it has no `ServerVersion`"),
            (
                r#"{"ServerVersion":"","ServerErrors":["Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?"]}"#,
                "",
                "Docker does not respond",
            ),
            (
                "{}",
                "Cannot connect to the Docker daemon",
                "Docker does not respond",
            ),
        ] {
            let error = read_info(stdout, stderr).map(drop).unwrap_err();
            assert!(error.to_string().contains(cause), "{error}");
            assert!(Failure::of(&error).unwrap().next_step().is_some());
        }
    }

    /// As Podman 4.3 and its `docker` print it.
    #[test]
    fn podman_in_the_place_of_docker_is_named() {
        let own = r#"{"host":{"arch":"amd64","hostname":"x"},"store":{},"registries":{},"version":{"APIVersion":"4.3.1","Version":"4.3.1"}}"#;
        assert!(matches!(read_info(own, "").unwrap(), Said::Podman(version) if version == "4.3.1"));
        let server = r#"{"Platform":{"Name":"linux/amd64"},"Components":[{"Name":"Podman Engine","Version":"5.4.0"}],"MinAPIVersion":"1.24"}"#;
        let found = judged(info(INFO), serde_json::from_str(server).unwrap());
        let Found::Podman(version) = found else {
            panic!("{found:?}");
        };
        let failure = podman(&version);
        assert_eq!(
            failure.to_string(),
            "`docker` is Podman 5.4.0, but k3d needs Docker"
        );
    }

    #[test]
    fn oldest_api_is_given_or_follows_from_version() {
        let oldest = |version: &str, server: &str| {
            let info = info(&INFO.replace("28.5.1", version));
            match judged(info, serde_json::from_str(server).unwrap_or_default()) {
                Found::Docker(engine) => engine.oldest_api.to_string(),
                Found::Podman(version) => version,
            }
        };
        assert_eq!(oldest("29.1.0", "29.1.0"), "1.44");
        assert_eq!(oldest("29.1.0", r#"{"MinAPIVersion":"1.24"}"#), "1.24");
        assert_eq!(oldest("31.0.0-rc.1", r#"{"MinAPIVersion":"1.52"}"#), "1.52");
        assert_eq!(oldest("28.5.1", "{}"), "1.24");
        assert_eq!(
            oldest("20.10.24+dfsg1", r#"{"MinAPIVersion":null}"#),
            "1.12"
        );
        assert!(ApiVersion(1, 9) < ApiVersion(1, 44));
        assert!("29.1.0".parse::<ApiVersion>().is_err());
    }
}
