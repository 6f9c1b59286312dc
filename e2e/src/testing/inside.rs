//! Connects tests to the `app` of each pod, through a forwarded port on clusters.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use blueprint::plan::PeerAddress;
use cluster::kubernetes::Cluster;
use messages::WorkloadName;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// Where each pod's `app` itself answers.
#[derive(Debug, Default)]
pub(super) struct Inside {
    addresses: BTreeMap<WorkloadName, PeerAddress>,
    forwards: Vec<Forward>,
}

impl Inside {
    pub(super) fn add(&mut self, pod: &WorkloadName, address: SocketAddr) {
        let address = PeerAddress {
            host: address.ip().to_string(),
            port: address.port(),
        };
        self.addresses.insert(pod.clone(), address);
    }

    pub(super) fn add_forward(&mut self, pod: &WorkloadName, forward: Forward) {
        self.add(pod, forward.address);
        self.forwards.push(forward);
    }

    pub(super) fn address(&self, pod: &WorkloadName) -> Option<PeerAddress> {
        self.addresses.get(pod).cloned()
    }
}

/// A port of this machine that leads to one of a pod's, as `kubectl port-forward` makes it; closed when dropped.
#[derive(Debug)]
pub(super) struct Forward {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Forward {
    pub(super) async fn to(
        cluster: Cluster,
        pod: WorkloadName,
        port: u16,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(relay(cluster.clone(), pod.clone(), port, stream));
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whoever came in sees a closed connection where the pod cannot be reached.
async fn relay(cluster: Cluster, pod: WorkloadName, port: u16, mut stream: TcpStream) {
    if let Ok(mut there) = cluster.connect_to(&pod, port).await {
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut there).await;
    }
}
