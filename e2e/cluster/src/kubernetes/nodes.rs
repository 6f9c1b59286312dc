//! Waits until each node answers on a public port, dialled directly and not through a load balancer.

use std::time::Duration;

use anyhow::Context as _;
use blueprint::plan::PeerAddress;
use futures_util::future::try_join_all;
use host::{
    http::Request,
    timeline::Step,
    wait::{Seen, Wait},
};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, api::ListParams};
use tokio::net::TcpStream;

use super::Cluster;

const LIMIT: Duration = Duration::from_secs(30);
/// A node of this machine accepts or refuses a connection immediately; one that does neither is
/// unreachable from here.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

impl Cluster {
    /// Waits until each node answers `/health` on a Service's public port.
    ///
    /// A load balancer in front of them that counts failures must not be asked before: k3d's leaves a node out for 10 s
    /// once it was refused, and the kube-proxy of one node is often a moment behind the others. Where the nodes cannot be
    /// reached from this machine (an engine that runs in a virtual machine) there is nothing to wait for.
    pub async fn nodes_answer(&self, port: u16, step: &Step) -> anyhow::Result<()> {
        let nodes = Api::<Node>::all(self.client())
            .list(&ListParams::default())
            .await
            .with_context(|| format!("{}: cannot list the nodes", self.name()))?;
        let addresses = nodes.items.iter().filter_map(internal_address);
        try_join_all(addresses.map(|host| answers(PeerAddress { host, port }, step))).await?;
        Ok(())
    }
}

async fn answers(node: PeerAddress, step: &Step) -> anyhow::Result<()> {
    Wait::until(format!("an answer of node {node}"))
        .within(LIMIT)
        .showing(step)
        .poll(|| async {
            let connection = TcpStream::connect((node.host.as_str(), node.port));
            match tokio::time::timeout(CONNECT_LIMIT, connection).await {
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    return Ok(Seen::Waiting("it takes no connection".into()));
                }
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return Ok(Seen::Ready(())),
            }
            Ok(match Request::get(&node, "/health").send().await {
                Ok(answer) if answer.status == 200 => Seen::Ready(()),
                Ok(answer) => Seen::Waiting(format!("it answers {}", answer.status)),
                Err(error) => Seen::Waiting(format!("{error:#}")),
            })
        })
        .await
}

/// <https://kubernetes.io/docs/reference/node/node-status/#addresses>
fn internal_address(node: &Node) -> Option<String> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses
        .iter()
        .find(|address| address.type_ == "InternalIP")
        .map(|address| address.address.clone())
}
