//! Finds out whether the engine runs on this machine, by dialling a port that it publishes.

use std::{
    net::{IpAddr, TcpListener},
    time::Duration,
};

use blueprint::{failure::Failure, plan::PeerAddress};

use super::{Info, Network, docker, networks, run, tags};
use crate::{
    http::Request,
    process,
    wait::{Seen, Wait},
};

/// Time for a name to resolve.
const RESOLVE_LIMIT: Duration = Duration::from_secs(3);
/// Time for a container to start and to answer on its port.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// The container of a check ends by itself after this many seconds, whatever becomes of the command that started it.
const ANSWER_SECONDS: &str = "20";
/// Images of the services that are tried, newest first.
const IMAGES_TRIED: usize = 3;
/// Port inside of that container.
const ANSWER_PORT: &str = "18999";

/// Where the engine's published ports are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this machine.
    Here,
    /// On another machine, or in another network of this one. The text says which engine, and how that is known.
    Elsewhere(String),
    /// Something speaks against this machine, and there is no image yet to find out with.
    Unknown(String),
}

/// Finds out where the ports are that the engine publishes.
///
/// An engine that is dialled at another host is there. Else its bridges are looked for among the addresses of this machine;
/// where they are not, a container answers on a published port, if there is an image of `repository` that can.
pub async fn place(info: &Info, repository: &str) -> Place {
    let endpoint = endpoint().await;
    if let Some(host) = endpoint.as_deref().and_then(dialled_host)
        && !is_own(&host).await
    {
        return Place::Elsewhere(format!("the Docker engine is on another machine, `{host}`"));
    }
    let doubt = match networks().await {
        Ok(networks) => doubt(info, &Own::look(), &networks, can_bind),
        Err(error) => Some(format!(
            "where the Docker engine has its networks cannot be found out: {}",
            error.to_string().lines().next().unwrap_or_default()
        )),
    };
    let Some(doubt) = doubt else {
        return Place::Here;
    };
    // One that an older version of Ferry built cannot answer.
    for image in tags(repository)
        .await
        .unwrap_or_default()
        .iter()
        .take(IMAGES_TRIED)
    {
        let place = by_port(info, image).await;
        if !matches!(place, Place::Unknown(_)) {
            return place;
        }
    }
    Place::Unknown(doubt)
}

/// Has a container of `image`, which holds our `/probe`, answer on a port that the engine publishes, and asks for it here.
pub async fn by_port(info: &Info, image: &str) -> Place {
    let word = uuid::Uuid::new_v4().simple().to_string();
    match answer_arrives(image, &word).await {
        Ok(true) => Place::Here,
        Ok(false) => Place::Elsewhere(format!(
            "the ports that the Docker engine{} publishes do not arrive on this machine",
            called(info)
        )),
        Err(error) => Place::Unknown(format!(
            "whether the ports that the Docker engine{} publishes arrive here cannot be found out: {}",
            called(info),
            error.to_string().lines().next().unwrap_or_default()
        )),
    }
}

fn called(info: &Info) -> String {
    let name = info.name.as_deref().filter(|name| !name.is_empty());
    name.map_or_else(String::new, |name| format!(" of `{name}`"))
}

async fn answer_arrives(image: &str, word: &str) -> anyhow::Result<bool> {
    let name = format!("ferry-place-{}", &word[..8]);
    let publish = format!("127.0.0.1::{ANSWER_PORT}");
    let line = docker(["run", "--detach", "--rm", "--pull=never", "--name", &name])
        .args(["--publish", &publish, "--entrypoint", "/probe", image])
        .args(["--answer", ANSWER_PORT, word, ANSWER_SECONDS]);
    run(&line).await?;
    let arrives = async {
        let seen = run(&docker(["port", &name, ANSWER_PORT])).await;
        let seen = seen.map_err(|_| ended())?;
        let port = seen.stdout.lines().find_map(|line| line.rsplit_once(':'));
        let port = port.and_then(|(_, port)| port.trim().parse().ok());
        let port = port.ok_or_else(|| Failure::infrastructure("its port is not published"))?;
        let address = PeerAddress {
            host: "127.0.0.1".into(),
            port,
        };
        let asked = Wait::until(format!("an answer at {address}"))
            .within(ANSWER_LIMIT)
            .poll(|| async {
                Ok(match Request::get(&address, "/").send().await {
                    Ok(answer) if answer.body.starts_with(word.as_bytes()) => Seen::Ready(()),
                    Ok(answer) => Seen::Waiting(format!("another answers: {}", answer.status)),
                    Err(error) => Seen::Waiting(format!("{error:#}")),
                })
            })
            .await;
        if asked.is_ok() {
            return Ok(true);
        }
        // One that does not run has not answered anywhere.
        let state = docker([
            "container",
            "inspect",
            "--format",
            "{{.State.Running}}",
            &name,
        ]);
        match run(&state).await?.stdout.trim() {
            "true" => Ok(false),
            _ => Err(ended().into()),
        }
    };
    let arrives = arrives.await;
    // It ends by itself where this fails.
    let _ = process::output(&docker(["rm", "--force", &name])).await;
    arrives
}

fn ended() -> Failure {
    Failure::infrastructure("the container that should respond has exited")
}

/// What `docker` dials: `DOCKER_HOST`, else the endpoint of the context in use. `None` where that is not told.
async fn endpoint() -> Option<String> {
    if let Ok(host) = std::env::var("DOCKER_HOST")
        && !host.is_empty()
    {
        return Some(host);
    }
    let line = docker([
        "context",
        "inspect",
        "--format",
        "{{.Endpoints.docker.Host}}",
    ]);
    let done = process::output(&line).await.ok()?;
    let host = done.stdout.trim();
    (done.status.success() && !host.is_empty()).then(|| host.to_owned())
}

/// The host of an endpoint that is dialled over a network; `None` for a socket of this machine.
fn dialled_host(endpoint: &str) -> Option<String> {
    let (scheme, rest) = endpoint.trim().split_once("://")?;
    if !["tcp", "http", "https", "ssh"].contains(&scheme.to_lowercase().as_str()) {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(six) => six.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    // Without one, Docker dials this machine.
    (!host.is_empty()).then(|| host.to_owned())
}

/// Whether a host is this machine. One that does not resolve is not.
async fn is_own(host: &str) -> bool {
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let found = tokio::time::timeout(RESOLVE_LIMIT, tokio::net::lookup_host((host, 0))).await;
    let Ok(Ok(addresses)) = found else {
        return false;
    };
    let mut addresses = addresses.map(|address| address.ip()).peekable();
    addresses.peek().is_some() && addresses.all(|ip| ip.is_loopback() || can_bind(ip))
}

/// Only an address of this machine can be listened on.
fn can_bind(ip: IpAddr) -> bool {
    TcpListener::bind((ip, 0)).is_ok()
}

/// What this machine knows of itself and an engine tells too.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Own {
    name: String,
    kernel: String,
    /// Bytes.
    memory: Option<u64>,
}

impl Own {
    fn look() -> Self {
        let kernel = |name: &str| {
            std::fs::read_to_string(format!("/proc/sys/kernel/{name}"))
                .map_or_else(|_| String::new(), |text| text.trim().to_owned())
        };
        let memory = std::fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| {
                let line = text
                    .lines()
                    .find_map(|line| line.strip_prefix("MemTotal:"))?;
                line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
            });
        Self {
            name: kernel("hostname"),
            kernel: kernel("osrelease"),
            memory: memory.map(|kilobytes| kilobytes * 1024),
        }
    }

    /// Whether the engine may be on this machine by what it tells. What it does not tell speaks against nothing.
    fn may_be(&self, info: &Info) -> bool {
        let short = |name: &str| {
            name.split('.')
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase()
        };
        let told = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let by_name = told(&info.name).is_none_or(|name| short(&name) == short(&self.name));
        let by_kernel = told(&info.kernel_version).is_some_and(|kernel| kernel == self.kernel)
            && self.memory == Some(info.mem_total);
        by_name || by_kernel
    }
}

/// What speaks against the engine's ports being on this machine; `None` where nothing does.
///
/// Each bridge has its address in the network where the engine publishes ports. An engine in a virtual machine, or without
/// root, has its bridges elsewhere and may publish here all the same.
fn doubt(
    info: &Info,
    own: &Own,
    networks: &[Network],
    is_own: impl Fn(IpAddr) -> bool,
) -> Option<String> {
    let gateways: Vec<_> = networks
        .iter()
        .filter(|network| network.driver == "bridge")
        .flat_map(Network::gateways)
        .collect();
    if !own.may_be(info) {
        return Some(format!(
            "the Docker engine is that of `{}`, and this machine is `{}`: whether the ports that it publishes arrive here is not known",
            info.name.as_deref().unwrap_or_default(),
            own.name
        ));
    }
    if gateways.is_empty() || gateways.into_iter().any(is_own) {
        return None;
    }
    Some(format!(
        "the Docker engine{} has its networks elsewhere: whether the ports that it publishes arrive here is not known",
        called(info)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_dialled_at_a_host_or_by_a_socket() {
        for (endpoint, host) in [
            ("tcp://docker:2375", Some("docker")),
            ("tcp://10.1.2.3:2376/", Some("10.1.2.3")),
            ("tcp://[fd00::1]:2375", Some("fd00::1")),
            ("ssh://joe@build.example", Some("build.example")),
            (
                "ssh://joe:pw@build.example:22/run/docker.sock",
                Some("build.example"),
            ),
            ("https://docker.example", Some("docker.example")),
            ("TCP://docker:2375", Some("docker")),
            ("tcp://:2375", None),
            ("unix:///var/run/docker.sock", None),
            ("npipe:////./pipe/docker_engine", None),
            ("fd://", None),
            ("docker:2375", None),
            ("", None),
        ] {
            assert_eq!(dialled_host(endpoint).as_deref(), host, "{endpoint}");
        }
    }

    #[tokio::test]
    async fn this_machine_is_known_by_its_addresses() {
        for own in ["localhost", "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0"] {
            assert!(is_own(own).await, "{own}");
        }
        // RFC 5737 and RFC 2606: nobody has these.
        for other in ["192.0.2.7", "docker.invalid"] {
            assert!(!is_own(other).await, "{other}");
        }
    }

    fn network(driver: &str, gateway: &str) -> Network {
        serde_json::from_value(serde_json::json!({
            "Name": "n", "Driver": driver, "IPAM": {"Config": [{"Subnet": "172.17.0.0/16", "Gateway": gateway}]},
        }))
        .unwrap()
    }

    #[test]
    fn local_bridges_mean_local_engine() {
        let own = Own {
            name: "here".into(),
            kernel: "6.1.0".into(),
            memory: Some(8000),
        };
        let info = |name: &str, kernel: &str, memory| Info {
            name: Some(name.into()).filter(|name: &String| !name.is_empty()),
            kernel_version: Some(kernel.into()),
            mem_total: memory,
            ..Info::default()
        };
        let bridge = [network("bridge", "172.17.0.1")];
        let mine = |ip: IpAddr| ip.to_string() == "172.17.0.1";
        let nobodys = |_: IpAddr| false;
        for (name, kernel, memory) in [
            ("here", "6.1.0", 8000),
            ("HERE.example", "6.6.0", 1),
            ("", "6.6.0", 1),
            // A container in the machine's network has a name of its own.
            ("host", "6.1.0", 8000),
        ] {
            let info = info(name, kernel, memory);
            assert_eq!(doubt(&info, &own, &bridge, mine), None, "{name}");
            assert_eq!(doubt(&info, &own, &[], nobodys), None, "{name}");
            assert_eq!(
                doubt(&info, &own, &[network("overlay", "10.0.0.1")], nobodys),
                None
            );
            assert!(doubt(&info, &own, &bridge, nobodys).is_some(), "{name}");
        }
        for (name, kernel, memory) in [("other", "6.6.0", 8000), ("other", "6.1.0", 4000)] {
            let said = doubt(&info(name, kernel, memory), &own, &bridge, mine).unwrap();
            assert!(
                said.contains("`other`") && said.contains("`here`"),
                "{said}"
            );
        }
    }
}
