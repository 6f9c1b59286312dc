//! The only caller of `docker`. Uses the engine that its command line is configured for
//! (`DOCKER_HOST`, contexts).

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use blueprint::failure::Failure;
use serde::Deserialize;

use crate::process::{self, CommandLine, Done};

mod engine;
mod images;
mod objects;
mod owner;
mod place;
mod saved;

pub use engine::{
    AddressPool, ApiVersion, Engine, Found, Info, engine, find, info, podman, version_numbers,
};
pub use images::{Build, Image, Load, build, image, load, pull, remove_image, tag, tags};
pub use objects::{
    Binding, Container, Network, container_on_port, containers, networks, remove_containers,
    remove_network, remove_volume, volumes,
};
pub use owner::{ENVIRONMENT_LABEL, Owner, STATE_LABEL};
pub use place::{Place, by_port, place};
pub use saved::config_digest;

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

/// Runs `docker`; a missing engine is a failure with a fix.
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
    let failure = Failure::infrastructure(format!("Docker does not respond: {}", line.trim()));
    Some(if line.contains("permission denied") {
        failure.hint(
            "add yourself to group `docker` (`sudo usermod -aG docker $USER`) and log \
                      in again, or pass `--runtime embedded`",
        )
    } else {
        failure.hint("start Docker (`sudo systemctl start docker`), or pass `--runtime embedded`")
    })
}

/// Reads what `docker … --format json` or `inspect` printed.
fn parse<'a, T: Deserialize<'a>>(what: &str, text: &'a str) -> anyhow::Result<T> {
    serde_json::from_str(text).with_context(|| format!("cannot parse `docker inspect` of {what}"))
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
    fn missing_engine_differs_from_failed_command() {
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
}
