//! Runs `k3d`.

use std::{path::Path, time::Duration};

use blueprint::failure::Failure;
use host::{
    docker::Owner,
    process::{self, CommandLine, Done},
};

/// Node filters with `@` and the flags used here came with k3d 5.
pub const MINIMUM_VERSION: (u32, u32, u32) = (5, 0, 0);
/// The release of k3d that Ferry is tested with.
pub const TESTED_VERSION: (u32, u32, u32) = (5, 9, 0);

/// What k3d gives a cluster to come up.
const CREATION_LIMIT: Duration = Duration::from_secs(120);
/// The proxy and tools images may have to be fetched first.
const FETCH_ALLOWANCE: Duration = Duration::from_secs(120);

/// The version of the `k3d` on the PATH.
pub async fn version() -> anyhow::Result<(u32, u32, u32)> {
    let line = CommandLine::new("k3d")
        .args(["version"])
        .within(Duration::from_secs(15));
    let done = process::run(&line).await.map_err(with_hint)?;
    parse_version(&done.stdout).ok_or_else(|| {
        let said = done.stdout.lines().next().unwrap_or_default();
        Failure::infrastructure(format!("cannot parse `k3d version`: `{said}`"))
            .hint(INSTALL)
            .into()
    })
}

pub(super) const INSTALL: &str =
    "install k3d 5.9.0: https://k3d.io/stable/#installation, or use `--runtime embedded`";

fn with_hint(error: anyhow::Error) -> anyhow::Error {
    match Failure::of(&error) {
        Some(failure) if failure.to_string().contains("not on the PATH") => {
            Failure::infrastructure(failure.to_string())
                .hint(INSTALL)
                .into()
        }
        _ => error,
    }
}

/// Reads `k3d version v5.9.0`; a suffix such as `-rc.1` is left out.
fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("k3d version "))?;
    let mut numbers = version
        .trim()
        .trim_start_matches('v')
        .split(['.', '-', '+'])
        .map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

/// `k3d` as it runs for one cluster.
///
/// It works in the cluster's own folder below the state folder and is marked as started there, so that what is left of
/// it after a kill is found as any other process of the environment. Deleting and merging rewrite the kubeconfig that
/// `KUBECONFIG` names, so that is a file which is never there; and `~/.config/k3d` is kept out of it too.
fn k3d(folder: &Path) -> CommandLine {
    let path = folder.to_string_lossy();
    CommandLine::new("k3d")
        .folder(folder)
        .env(process::LABEL, path.clone())
        .env("KUBECONFIG", folder.join("absent").to_string_lossy())
        .env("XDG_CONFIG_HOME", path)
}

/// Creates a cluster of one server and one agent.
pub(super) async fn create(
    name: &str,
    folder: &Path,
    owner: &Owner,
    image: &str,
    ports: &[(u16, u16)],
) -> anyhow::Result<()> {
    let mappings = ports.iter().flat_map(|(host, service)| {
        [
            "--port".to_owned(),
            format!("{host}:{service}@loadbalancer"),
        ]
    });
    let labels = owner
        .labels()
        .into_iter()
        .flat_map(|label| ["--runtime-label".to_owned(), format!("{label}@all")]);
    let line = k3d(folder)
        .args(["cluster", "create", name, "--servers", "1", "--agents", "1"])
        .args(["--image", image])
        // Only this machine needs the API server; `random` is settled once and survives a restart.
        .args(["--api-port", "127.0.0.1:random"])
        .args(mappings)
        .args(labels)
        .args(["--k3s-arg", "--disable=traefik@server:0"])
        .args([
            "--kubeconfig-update-default=false",
            "--kubeconfig-switch-context=false",
        ])
        // A roll-back would delete the log with the reason.
        .args(["--no-rollback", "--wait", "--timeout"])
        .args([format!("{}s", CREATION_LIMIT.as_secs())])
        .within(CREATION_LIMIT + FETCH_ALLOWANCE);
    run(name, "be created", &line).await?;
    Ok(())
}

/// Starts the nodes that are stopped, and writes `host.k3d.internal` into the cluster's DNS again.
pub(super) async fn start(name: &str, folder: &Path) -> anyhow::Result<()> {
    let line = k3d(folder)
        .args(["cluster", "start", name, "--wait", "--timeout"])
        .args([format!("{}s", CREATION_LIMIT.as_secs())])
        .within(CREATION_LIMIT + Duration::from_secs(30));
    run(name, "be started", &line).await?;
    Ok(())
}

/// Stops the nodes; what is on them stays.
pub(super) async fn stop(name: &str, folder: &Path) -> anyhow::Result<()> {
    let line = k3d(folder)
        .args(["cluster", "stop", name])
        .within(CREATION_LIMIT);
    run(name, "be stopped", &line).await?;
    Ok(())
}

/// The cluster's kubeconfig: an administrator's key is in it.
pub(super) async fn kubeconfig(name: &str, folder: &Path) -> anyhow::Result<String> {
    let line = k3d(folder).args(["kubeconfig", "get", name]);
    Ok(run(name, "give its kubeconfig", &line).await?.stdout)
}

async fn run(name: &str, what: &str, line: &CommandLine) -> anyhow::Result<Done> {
    let done = process::output(line).await.map_err(with_hint)?;
    if done.status.success() {
        return Ok(done);
    }
    let said = format!("{}\n{}", done.stdout, done.stderr);
    let said = cause(&said).unwrap_or_else(|| done.status.to_string());
    Err(
        Failure::infrastructure(format!("cluster `{name}` cannot {what}: {said}"))
            .hint("run `cargo xtask doctor` to check k3d's requirements")
            .into(),
    )
}

/// The first error that k3d logged: the later ones only say that it gives up.
fn cause(log: &str) -> Option<String> {
    let lines: Vec<_> = log.lines().map(plain).collect();
    ["ERRO", "FATA", "WARN"].into_iter().find_map(|level| {
        lines
            .iter()
            .filter_map(|line| line.strip_prefix(level))
            .map(|line| {
                line.split_once("] ")
                    .map_or(line, |(_, text)| text)
                    .trim()
                    .to_owned()
            })
            .find(|text| !text.is_empty())
    })
}

/// Without the colours that k3d always writes.
fn plain(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + part.split_once('m').map_or("", |(_, rest)| rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_k3d_prints_them() {
        let text = "k3d version v5.9.0\nk3s version v1.34.4-k3s1 (default)\n";
        assert_eq!(parse_version(text), Some((5, 9, 0)));
        assert_eq!(parse_version("k3d version v5.9.0-rc.1"), Some((5, 9, 0)));
        for other in ["", "k3d version dev", "k3d version v5"] {
            assert_eq!(parse_version(other), None, "`{other}`");
        }
    }

    #[test]
    fn the_cause_is_the_first_error_without_colours() {
        let log = "\u{1b}[36mINFO\u{1b}[0m[0000] Prep: Network   \n\u{1b}[33mWARN\u{1b}[0m[0000] slow\n\
            \u{1b}[31mERRO\u{1b}[0m[0001] failed to start node: port is already allocated \n\
            \u{1b}[31mFATA\u{1b}[0m[0001] Cluster creation FAILED";
        assert_eq!(
            cause(log).unwrap(),
            "failed to start node: port is already allocated"
        );
        assert_eq!(cause("INFO[0000] fine"), None);
        assert_eq!(plain("\u{1b}[31"), "");
    }
}
