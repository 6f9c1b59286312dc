//! Containers, networks and volumes.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use serde::Deserialize;

use super::{docker, failed, labels, parse, run};
use crate::process;

/// Removing a node kills it and deletes its volumes.
const REMOVAL_LIMIT: Duration = Duration::from_secs(60);

/// A container, running or not.
#[derive(Clone, Debug)]
pub struct Container {
    pub name: String,
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
    pub state: String,
    pub exit_code: i64,
    /// When it was last started; `None` if never.
    pub started_at: Option<jiff::Timestamp>,
    pub labels: BTreeMap<String, String>,
    /// The image as it was named at creation, or its id.
    pub image: String,
    /// Names of its volumes, anonymous ones included.
    pub volumes: Vec<String>,
    pub published: Vec<Binding>,
}

/// A port of a container that the host publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub host: u16,
    pub container: u16,
}

impl Container {
    pub fn is_running(&self) -> bool {
        self.state == "running"
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    name: String,
    state: State,
    config: Config,
    host_config: HostConfig,
    #[serde(default)]
    mounts: Vec<Mount>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: String,
    exit_code: i64,
    /// RFC 3339; year 1 for never.
    #[serde(default)]
    started_at: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    image: String,
    #[serde(default, deserialize_with = "labels")]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    /// `30200/tcp` → where the host publishes it. k3d leaves out the protocol on its API port.
    port_bindings: Option<BTreeMap<String, Option<Vec<HostPort>>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostPort {
    host_port: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Mount {
    r#type: String,
    #[serde(default)]
    name: String,
}

impl From<Inspected> for Container {
    fn from(seen: Inspected) -> Self {
        let bindings = seen.host_config.port_bindings.unwrap_or_default();
        let published = bindings.iter().flat_map(|(port, hosts)| {
            let container = port.split('/').next().and_then(|port| port.parse().ok());
            hosts.iter().flatten().filter_map(move |host| {
                Some(Binding {
                    host: host.host_port.parse().ok()?,
                    container: container?,
                })
            })
        });
        Self {
            published: published.collect(),
            name: seen.name.trim_start_matches('/').into(),
            state: seen.state.status,
            exit_code: seen.state.exit_code,
            started_at: seen
                .state
                .started_at
                .parse()
                .ok()
                .filter(|started| *started > jiff::Timestamp::UNIX_EPOCH),
            labels: seen.config.labels,
            image: seen.config.image,
            volumes: seen
                .mounts
                .into_iter()
                .filter(|mount| mount.r#type == "volume" && !mount.name.is_empty())
                .map(|mount| mount.name)
                .collect(),
        }
    }
}

/// The containers that carry all these labels (`key` or `key=value`), running or not, ordered by name.
pub async fn containers(labels: &[String]) -> anyhow::Result<Vec<Container>> {
    let filters = labels.iter().map(|label| format!("--filter=label={label}"));
    let listed = run(&docker(["ps", "--all", "--quiet", "--no-trunc"]).args(filters)).await?;
    let ids: Vec<_> = listed.stdout.lines().collect();
    if ids.is_empty() {
        return Ok(vec![]);
    }
    inspect(&ids).await
}

/// These containers, ordered by name.
async fn inspect(ids: &[&str]) -> anyhow::Result<Vec<Container>> {
    let line = docker(["container", "inspect"]).args(ids);
    let done = process::output(&line).await?;
    // One that went away since it was listed makes the exit status 1; the others are printed all the same.
    if !done.status.success() && !only_absent(&done.stderr) {
        return Err(failed(&line, &done));
    }
    let seen: Vec<Inspected> = parse("containers", &done.stdout)?;
    let mut containers: Vec<Container> = seen.into_iter().map(Container::from).collect();
    containers.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(containers)
}

/// The running container that publishes this port of the host.
pub async fn container_on_port(port: u16) -> anyhow::Result<Option<Container>> {
    let filter = format!("--filter=publish={port}/tcp");
    let done = run(&docker(["ps", &filter, "--format={{.Names}}"]).within(Duration::from_secs(10)))
        .await?;
    // The filter matches the container's side of a mapping too, so each is looked at.
    for name in done.stdout.lines() {
        let ports = run(&docker(["port", name])).await?;
        if ports.stdout.lines().any(|line| publishes(line, port)) {
            return Ok(inspect(&[name]).await?.into_iter().next());
        }
    }
    Ok(None)
}

/// Whether a line of `docker port`, such as `31999/tcp -> 0.0.0.0:30200`, publishes `port` of the host.
fn publishes(line: &str, port: u16) -> bool {
    line.rsplit_once(':')
        .is_some_and(|(_, host)| host.trim() == port.to_string())
}

/// Kills and deletes containers with their anonymous volumes; one that is gone already is no error.
pub async fn remove_containers(names: &[String]) -> anyhow::Result<()> {
    // One call each, since a call with several works through them one after the other.
    let removals = names
        .iter()
        .map(|name| remove(docker(["rm", "--force", "--volumes", name])));
    futures_util::future::try_join_all(removals).await?;
    Ok(())
}

/// Deletes a volume; one that is gone already is no error.
pub async fn remove_volume(name: &str) -> anyhow::Result<()> {
    remove(docker(["volume", "rm", name])).await
}

/// Cuts off whatever is still on a network and deletes it; one that is gone already is no error.
pub async fn remove_network(name: &str) -> anyhow::Result<()> {
    let all = networks().await?;
    let Some(network) = all.iter().find(|network| network.name == name) else {
        return Ok(());
    };
    for container in network.containers.values() {
        remove(docker([
            "network",
            "disconnect",
            "--force",
            name,
            &container.name,
        ]))
        .await?;
    }
    remove(docker(["network", "rm", name])).await
}

async fn remove(line: process::CommandLine) -> anyhow::Result<()> {
    let line = line.within(REMOVAL_LIMIT);
    let done = process::output(&line).await?;
    if done.status.success() || only_absent(&done.stderr) {
        return Ok(());
    }
    Err(failed(&line, &done))
}

/// Returns whether every error is that the object does not exist, or is being removed by another
/// command.
fn only_absent(stderr: &str) -> bool {
    // `docker network rm` of some versions adds `exit status 1`.
    let mut lines = stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("exit status"))
        .peekable();
    lines.peek().is_some()
        && lines.all(|line| {
            let line = line.to_lowercase();
            [
                "no such",
                "not found",
                "already in progress",
                "is not connected",
            ]
            .iter()
            .any(|absent| line.contains(absent))
        })
}

/// A network and the containers on it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Network {
    pub name: String,
    pub driver: String,
    /// Running containers on it, by id.
    #[serde(default)]
    pub containers: BTreeMap<String, Attached>,
    #[serde(rename = "IPAM", default)]
    ipam: Ipam,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    #[serde(default)]
    config: Option<Vec<Addresses>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Addresses {
    subnet: String,
    gateway: String,
}

impl Network {
    fn addresses(&self) -> impl Iterator<Item = &Addresses> {
        self.ipam.config.iter().flatten()
    }

    /// The engine's own addresses on it. Where it is not told, that is the first one.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses().filter_map(|each| {
            let told = each.gateway.split('/').next().unwrap_or_default();
            let first = || {
                let network: Ipv4Addr = each.subnet.split('/').next()?.parse().ok()?;
                Some(Ipv4Addr::from(u32::from(network).checked_add(1)?).into())
            };
            told.parse().ok().or_else(first)
        })
    }

    /// Its addresses, such as `172.18.0.0/16`.
    pub fn subnets(&self) -> impl Iterator<Item = &str> {
        let subnets = self.addresses().map(|each| each.subnet.as_str());
        subnets.filter(|subnet| !subnet.is_empty())
    }
}

/// A container on a network.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Attached {
    pub name: String,
}

/// Every network of the engine.
pub async fn networks() -> anyhow::Result<Vec<Network>> {
    let listed = run(&docker(["network", "ls", "--quiet", "--no-trunc"])).await?;
    let ids: Vec<_> = listed.stdout.lines().collect();
    if ids.is_empty() {
        return Ok(vec![]);
    }
    let line = docker(["network", "inspect"]).args(&ids);
    let done = process::output(&line).await?;
    if !done.status.success() && !only_absent(&done.stderr) {
        return Err(failed(&line, &done));
    }
    parse("networks", &done.stdout)
}

/// Names of every volume of the engine.
pub async fn volumes() -> anyhow::Result<Vec<String>> {
    let done = run(&docker(["volume", "ls", "--quiet"])).await?;
    Ok(done.stdout.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn no_answer_of_docker_breaks_its_reader(port in proptest::prelude::any::<String>(), host in "[0-9:]{0,8}", cut in 0_usize..200) {
            let binding = serde_json::json!({ port: [{"HostIp": host, "HostPort": host}] });
            let text = serde_json::json!([{
                "Name": "/a", "State": {"Status": "exited", "ExitCode": 1},
                "Config": {"Image": "i", "Labels": null},
                "HostConfig": {"PortBindings": binding}, "Mounts": [],
            }])
            .to_string();
            let whole: Vec<Inspected> = parse("it", &text).unwrap();
            whole.into_iter().for_each(|seen| drop(Container::from(seen)));
            let cut: String = text.chars().take(cut).collect();
            proptest::prop_assert_eq!(parse::<Vec<Inspected>>("it", &cut).is_ok(), cut == text);
        }
    }

    #[test]
    fn container_has_ports_volumes_and_labels() {
        let text = r#"[{"Name":"/k3d-a-serverlb","State":{"Status":"exited","ExitCode":137},
            "Config":{"Image":"proxy","Labels":{"k3d.cluster":"a"}},
            "HostConfig":{"PortBindings":{"30200/tcp":[{"HostIp":"","HostPort":"41000"}],"6443":[{"HostIp":"0.0.0.0","HostPort":"1"}],"80/tcp":null}},
            "Mounts":[{"Type":"bind","Source":"/x"},{"Type":"volume","Name":"v"}]}]"#;
        let seen: Vec<Inspected> = parse("it", text).unwrap();
        let container = Container::from(seen.into_iter().next().unwrap());
        assert_eq!(
            (container.name.as_str(), container.exit_code),
            ("k3d-a-serverlb", 137)
        );
        assert_eq!(container.volumes, ["v"]);
        assert_eq!(container.label("k3d.cluster"), Some("a"));
        assert!(!container.is_running());
        assert_eq!(
            container.published,
            [
                Binding {
                    host: 41000,
                    container: 30200
                },
                Binding {
                    host: 1,
                    container: 6443
                }
            ]
        );
    }

    #[test]
    fn an_engines_own_address_is_told_or_the_first() {
        let of = |config: serde_json::Value| {
            let text = serde_json::json!({ "Name": "n", "Driver": "bridge", "IPAM": { "Config": config } });
            let network: Network = parse("it", &text.to_string()).unwrap();
            let addresses = network.gateways().map(|ip| ip.to_string());
            addresses.collect::<Vec<_>>()
        };
        let subnet = "172.17.0.0/16";
        assert_eq!(
            of(serde_json::json!([{ "Subnet": subnet }])),
            ["172.17.0.1"]
        );
        assert_eq!(
            of(
                serde_json::json!([{ "Subnet": subnet, "Gateway": "172.17.9.1/16" }, { "Subnet": "fd00::/64" }])
            ),
            ["172.17.9.1"]
        );
        assert!(of(serde_json::json!(null)).is_empty());
    }

    #[test]
    fn no_labels_and_no_ports_are_read_as_none() {
        let text = r#"[{"Name":"/a","State":{"Status":"running","ExitCode":0},"Config":{"Image":"i","Labels":null},"HostConfig":{"PortBindings":null}}]"#;
        let seen: Vec<Inspected> = parse("it", text).unwrap();
        let container = Container::from(seen.into_iter().next().unwrap());
        assert!(
            container.is_running() && container.labels.is_empty() && container.published.is_empty()
        );
    }

    #[test]
    fn remove_ignores_missing_objects() {
        assert!(only_absent(
            "Error: No such container: a\nError response from daemon: No such object: b\n"
        ));
        assert!(only_absent(
            "Error response from daemon: removal of container x is already in progress"
        ));
        assert!(only_absent(
            "Error response from daemon: network k3d-a not found\nexit status 1"
        ));
        assert!(!only_absent(
            "Error: No such container: a\nError: volume is in use"
        ));
        assert!(!only_absent(""));
    }

    #[test]
    fn only_the_hosts_side_of_a_mapping_holds_a_port() {
        assert!(publishes("31999/tcp -> 0.0.0.0:30200", 30200));
        assert!(publishes("31999/tcp -> [::]:30200", 30200));
        assert!(!publishes("30200/tcp -> 0.0.0.0:41000", 30200));
        assert!(!publishes("30200/tcp -> 0.0.0.0:130200", 30200));
    }
}
