//! The only caller of `docker`. Speaks to the engine that the command line tool is set up for (`DOCKER_HOST`, contexts).

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use serde::Deserialize;

use crate::{
    failure::Failure,
    process::{self, CommandLine, Done},
};

mod images;
mod objects;

pub use images::{Image, Load, build, image, load, pull, remove_image, tag, tags};
pub use objects::{
    Binding, Container, Network, container_on_port, containers, networks, remove_containers,
    remove_network, remove_volume, volumes,
};

/// How the engine describes itself: the part of `docker info` that is looked at.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    pub server_version: String,
    /// `1` or `2`; absent on engines that do not tell.
    #[serde(default)]
    pub cgroup_version: Option<String>,
    /// Folder of images, containers and volumes, on the engine's machine.
    pub docker_root_dir: String,
    /// The engine's clock, RFC 3339.
    pub system_time: String,
    /// Bytes.
    pub mem_total: u64,
    /// `None`: the pools that are built in.
    #[serde(default)]
    pub default_address_pools: Option<Vec<AddressPool>>,
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

/// What the engine says of itself; an infrastructure failure with the fix where none answers.
pub async fn info() -> anyhow::Result<Info> {
    let done =
        run(&docker(["info", "--format", "{{json .}}"]).within(Duration::from_secs(15))).await?;
    // Where no engine answers, some versions print the client's half and end with 0.
    serde_json::from_str(&done.stdout).map_err(|error| {
        unreachable_engine(&done.stderr)
            .unwrap_or_else(|| {
                Failure::infrastructure(format!("`docker info` cannot be read: {error}"))
            })
            .into()
    })
}

/// Runs a command in a container and returns how it ended, whatever its exit status.
pub async fn exec(container: &str, args: &[&str], limit: Duration) -> anyhow::Result<Done> {
    process::output(&docker(["exec", container]).args(args).within(limit)).await
}

/// The last `lines` lines of a container's log, both streams in turn.
pub async fn logs(container: &str, lines: usize) -> anyhow::Result<String> {
    let done = run(&docker(["logs", "--tail", &lines.to_string(), container])).await?;
    Ok(process::tail(
        &format!("{}{}", done.stdout, done.stderr),
        lines,
    ))
}

/// `docker` with these arguments.
fn docker<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(args: I) -> CommandLine {
    CommandLine::new("docker").args(args)
}

/// Runs `docker`; a failure that is the engine's absence says so, with the fix.
async fn run(line: &CommandLine) -> anyhow::Result<Done> {
    let done = process::output(line).await?;
    if done.status.success() {
        return Ok(done);
    }
    Err(failed(line, &done))
}

fn failed(line: &CommandLine, done: &Done) -> anyhow::Error {
    unreachable_engine(&done.stderr)
        .unwrap_or_else(|| {
            Failure::infrastructure(format!(
                "`{line}`: {} after {:.1?}\n{}",
                done.status,
                done.took,
                done.tail(20)
            ))
        })
        .into()
}

/// The failure behind an answer that comes from the client and not from an engine.
fn unreachable_engine(stderr: &str) -> Option<Failure> {
    let line = stderr.lines().find(|line| {
        ["docker daemon", "Docker daemon", "docker API"]
            .iter()
            .any(|name| line.contains(name))
    })?;
    let failure = Failure::infrastructure(format!("Docker does not answer: {}", line.trim()));
    Some(if line.contains("permission denied") {
        failure.hint("add yourself to the group `docker` (`sudo usermod -aG docker $USER`) and log in again, or use `--runtime embedded`")
    } else {
        failure.hint("start Docker (`sudo systemctl start docker`), or use `--runtime embedded`")
    })
}

/// Reads what `docker … --format json` or `inspect` printed.
fn parse<'a, T: Deserialize<'a>>(what: &str, text: &'a str) -> anyhow::Result<T> {
    serde_json::from_str(text)
        .with_context(|| format!("docker's description of {what} cannot be read"))
}

/// Labels as `inspect` has them: `null` for none.
fn labels<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_is_not_there_is_told_from_a_command_that_failed() {
        for stderr in [
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            "failed to connect to the docker API at unix:///var/run/docker.sock; check if the path is correct",
        ] {
            let failure = unreachable_engine(stderr).unwrap();
            assert!(
                failure
                    .next_step()
                    .unwrap()
                    .contains("systemctl start docker")
            );
        }
        let denied = "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock";
        assert!(
            unreachable_engine(denied)
                .unwrap()
                .next_step()
                .unwrap()
                .contains("usermod")
        );
        assert!(unreachable_engine("Error response from daemon: No such image: a:b").is_none());
    }

    #[test]
    fn the_description_of_an_engine_is_read_with_and_without_pools() {
        let text = r#"{"ServerVersion":"28.5.1","CgroupVersion":"2","DockerRootDir":"/var/lib/docker","NCPU":2,
            "SystemTime":"2026-01-02T03:04:05.6Z","MemTotal":8000,
            "DefaultAddressPools":[{"Base":"172.80.0.0/16","Size":24}]}"#;
        let info: Info = parse("it", text).unwrap();
        assert_eq!(info.default_address_pools.unwrap()[0].size, 24);
        let none = text.replace(r#"[{"Base":"172.80.0.0/16","Size":24}]"#, "null");
        assert!(
            parse::<Info>("it", &none)
                .unwrap()
                .default_address_pools
                .is_none()
        );
    }
}
