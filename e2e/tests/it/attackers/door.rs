//! A pod's public port, as anybody on the network finds it, and a client that shows it any identity.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, bail};
use blueprint::plan::PeerAddress;
use e2e::testing::Ferry;
use harness::runtime::clusters;
use host::environment::{PodRecord, RuntimeKind};
use identity::{Leaf, Root};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use messages::WorkloadName;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, HandshakeKind, NamedGroup, RootCertStore, SupportedProtocolVersion,
        client::{
            ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
            Tls13ClientSessionValue,
        },
        crypto::ring,
        version::{TLS12, TLS13},
    },
};

/// Longest wait for an answer, or for the end of a connection that is to be refused.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// What opens a relay session over WebSocket.
pub(crate) const OPENING: &str = "GET /v1/carry HTTP/1.1\r\nhost: sink\r\nconnection: upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: ZmVycnktYXR0YWNrZXJzIQ==\r\n\
    sec-websocket-protocol: ferry.v1\r\n\r\n";

/// A pod's public port.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    /// By the load balancer that everybody uses.
    address: PeerAddress,
    name: WorkloadName,
    root: CertificateDer<'static>,
}

/// What a client of the tunnel is told.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The first line of the sink's answer through the tunnel.
    Admitted(String),
    Refused(String),
}

/// Which version of TLS a client insists on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Version {
    Tls12,
    Tls13,
}

impl Version {
    fn alone(self) -> [&'static SupportedProtocolVersion; 1] {
        match self {
            Self::Tls12 => [&TLS12],
            Self::Tls13 => [&TLS13],
        }
    }
}

impl Door {
    pub(crate) fn of_sink(ferry: &Ferry) -> anyhow::Result<Self> {
        Self::of(ferry, &ferry.sink()?)
    }

    pub(crate) fn of(ferry: &Ferry, pod: &PodRecord) -> anyhow::Result<Self> {
        let address = pod
            .local_address
            .clone()
            .context("the pod has no address")?;
        Ok(Self {
            address,
            name: pod.name.clone(),
            // What a client checks the sink by is no secret.
            root: root(ferry)?.certificate_der().clone(),
        })
    }

    pub(crate) async fn tcp(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((self.address.host.as_str(), self.address.port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// The same pod where its cluster's own load balancer has it: in front of that, k3d has an nginx that would be the
    /// first to break down.
    pub(crate) async fn behind_k3d(mut self, ferry: &Ferry) -> anyhow::Result<Self> {
        let environment = ferry.environment()?;
        if environment.record.runtime == RuntimeKind::K3d {
            let cluster = clusters::connect(&environment, self.name.cluster()).await?;
            let service = Api::<Service>::namespaced(cluster.client(), &self.name.namespace())
                .get(self.name.pod())
                .await?;
            let port = service
                .spec
                .and_then(|spec| spec.ports?.first().map(|port| port.port));
            let status = service.status.and_then(|status| status.load_balancer);
            let host = status.and_then(|balancer| balancer.ingress?.first()?.ip.clone());
            self.address = PeerAddress {
                host: host.context("the Service has no address")?,
                port: port.context("the Service has no port")?.try_into()?,
            };
        }
        Ok(self)
    }

    pub(crate) async fn tls(&self, client: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(self.name.to_string()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::new(client));
        connector.connect(name, self.tcp().await?).await
    }

    /// A client that shows `leaf`, or no certificate.
    pub(crate) fn client(
        &self,
        leaf: Option<&Leaf>,
        version: Version,
    ) -> anyhow::Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone())?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&version.alone())?
            .with_root_certificates(roots);
        Ok(match leaf {
            None => config.with_no_client_auth(),
            Some(leaf) => {
                let chain = CertificateDer::pem_slice_iter(leaf.certificate_chain_pem.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes())?;
                config.with_client_auth_cert(chain.collect::<Result<_, _>>()?, key)?
            }
        })
    }

    /// Shakes hands and asks for a relay session. In TLS 1.3 a client is done before the sink has seen its certificate, so
    /// only an answer says that it was let in.
    pub(crate) async fn knock(&self, client: ClientConfig) -> anyhow::Result<Answer> {
        let talk = async {
            let mut stream = self.tls(client).await?;
            stream.write_all(OPENING.as_bytes()).await?;
            head(&mut stream).await
        };
        Ok(match in_time(talk).await? {
            Ok(head) if head.is_empty() => Answer::Refused("the connection ended".into()),
            Ok(head) => Answer::Admitted(head.lines().next().unwrap_or_default().into()),
            Err(error) => Answer::Refused(error.to_string()),
        })
    }

    /// Shows `leaf` and must be refused; what the client is told.
    pub(crate) async fn refused(
        &self,
        leaf: Option<&Leaf>,
        version: Version,
    ) -> anyhow::Result<String> {
        match self.knock(self.client(leaf, version)?).await? {
            Answer::Refused(reason) => Ok(reason),
            Answer::Admitted(head) => bail!("it must be refused, but was answered `{head}`"),
        }
    }

    /// A relay session over WebSocket by whom the sink admits: the other side of every refusal.
    pub(crate) async fn admitted(&self, leaf: &Leaf) -> anyhow::Result<TlsStream<TcpStream>> {
        let talk = async {
            let client = self.client(Some(leaf), Version::Tls13);
            let mut stream = self.tls(client.map_err(io::Error::other)?).await?;
            stream.write_all(OPENING.as_bytes()).await?;
            let head = head(&mut stream).await?;
            Ok::<_, io::Error>((stream, head))
        };
        let (stream, head) = in_time(talk).await??;
        anyhow::ensure!(
            head.starts_with("HTTP/1.1 101 "),
            "the gateway's own identity must be admitted, was answered {head}"
        );
        Ok(stream)
    }

    /// Says `bytes` without TLS; everything that is answered until the pod closes the connection.
    pub(crate) async fn say(&self, bytes: &[u8]) -> anyhow::Result<String> {
        let talk = async {
            let mut stream = self.tcp().await?;
            // A pod that has closed the connection already has answered before.
            let _ = stream.write_all(bytes).await;
            let mut answer = vec![];
            match stream.read_to_end(&mut answer).await {
                Err(error)
                    if answer.is_empty() && error.kind() != io::ErrorKind::ConnectionReset =>
                {
                    Err(error)
                }
                _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
            }
        };
        Ok(in_time(talk).await??)
    }

    /// Two handshakes of a client that keeps every ticket it is given: how the second went, and the tickets.
    pub(crate) async fn twice(&self, leaf: &Leaf) -> anyhow::Result<(HandshakeKind, usize)> {
        let tickets = Arc::new(Tickets::default());
        let mut client = self.client(Some(leaf), Version::Tls13)?;
        client.resumption = Resumption::store(tickets.clone());
        let mut kind = None;
        for _ in 0..2 {
            let talk = async {
                let mut stream = self.tls(client.clone()).await?;
                stream.write_all(OPENING.as_bytes()).await?;
                // Tickets come with the first answer at the latest.
                head(&mut stream).await?;
                Ok::<_, io::Error>(stream.get_ref().1.handshake_kind())
            };
            kind = in_time(talk).await??;
        }
        let taken = *tickets
            .taken
            .lock()
            .map_err(|_| anyhow::anyhow!("tickets"))?;
        Ok((kind.context("no handshake")?, taken))
    }
}

async fn in_time<T>(talk: impl Future<Output = T>) -> anyhow::Result<T> {
    timeout(ANSWER_LIMIT, talk)
        .await
        .with_context(|| format!("neither an answer nor an end within {ANSWER_LIMIT:?}"))
}

/// The head of an HTTP answer, byte by byte, so that nothing behind it is taken.
pub(crate) async fn head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut head = vec![];
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).await? == 0 {
            break;
        }
        head.push(byte[0]);
        if head.len() > 16 * 1024 {
            return Err(io::Error::other("the head has no end"));
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// What the environment's certificates go back to.
pub(crate) fn root(ferry: &Ferry) -> anyhow::Result<Root> {
    Root::load(&ferry.environment()?.layout().identity())
}

/// Keeps tickets as any client does, and counts them.
#[derive(Debug)]
struct Tickets {
    taken: Mutex<usize>,
    kept: ClientSessionMemoryCache,
}

impl Default for Tickets {
    fn default() -> Self {
        Self {
            taken: Mutex::default(),
            kept: ClientSessionMemoryCache::new(8),
        }
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.kept.set_kx_hint(name, group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept.kx_hint(name)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.kept.set_tls12_session(name, session);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.kept.tls12_session(name)
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.kept.remove_tls12_session(name);
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        if let Ok(mut taken) = self.taken.lock() {
            *taken += 1;
        }
        self.kept.insert_tls13_ticket(name, ticket);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept.take_tls13_ticket(name)
    }
}
