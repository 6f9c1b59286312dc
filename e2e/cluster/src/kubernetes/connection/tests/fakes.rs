//! A server and proxies that write down what they are asked.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring},
};

pub(super) trait Both: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Both for T {}

/// Something that listens, and what it has heard.
pub(super) struct Fake {
    pub(super) address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    pub(super) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

/// A certificate of its own for these names, and TLS with it.
pub(super) struct Certificate {
    pub(super) pem: String,
    tls: TlsAcceptor,
}

impl Certificate {
    pub(super) fn new(names: &[&str]) -> Self {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().copied().map(String::from).collect();
        let certificate = CertificateParams::new(names)
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        Self {
            pem: certificate.pem(),
            tls: TlsAcceptor::from(Arc::new(config)),
        }
    }
}

/// How a fake answers on each connection.
#[derive(Clone, Copy)]
pub(super) enum Answer {
    /// An API server of version 1.34, or of whatever path it is asked for.
    Version,
    /// Leads on to where it is asked to.
    Through,
    /// Says this, whatever it is asked.
    Says(&'static str),
    /// SOCKS 5; with the user and the password that it wants, if any.
    Socks(Option<(&'static str, &'static str)>),
    /// SOCKS 5, and this for every server.
    SocksRefusal(u8),
}

pub(super) async fn fake(answer: Answer, certificate: Option<&Certificate>) -> Fake {
    fake_at(
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        answer,
        certificate,
    )
    .await
}

pub(super) async fn fake_at(
    address: SocketAddr,
    answer: Answer,
    certificate: Option<&Certificate>,
) -> Fake {
    let listener = TcpListener::bind(address).await.unwrap();
    let fake = Fake {
        address: listener.local_addr().unwrap(),
        heard: Arc::default(),
    };
    let (heard, tls) = (
        fake.heard.clone(),
        certificate.map(|certificate| certificate.tls.clone()),
    );
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (heard, tls) = (heard.clone(), tls.clone());
            tokio::spawn(async move {
                let mut stream: Box<dyn Both> = match tls {
                    None => Box::new(stream),
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => Box::new(stream),
                        Err(_) => return,
                    },
                };
                // Whoever goes away has seen enough.
                let _ = serve(&mut stream, answer, &heard).await;
            });
        }
    });
    fake
}

async fn serve(
    stream: &mut Box<dyn Both>,
    answer: Answer,
    heard: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let note = |text: String| heard.lock().unwrap().push(text);
    match answer {
        Answer::Version => loop {
            note(head(stream).await?);
            let body = r#"{"major":"1","minor":"34","gitVersion":"v1.34.0","gitCommit":"","gitTreeState":"","buildDate":"","goVersion":"","compiler":"","platform":""}"#;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all((head + body).as_bytes()).await?;
        },
        Answer::Through => {
            let asked = head(stream).await?;
            note(asked.clone());
            let target = asked.split(' ').nth(1).unwrap_or_default();
            // As old proxies say it.
            let said = b"HTTP/1.0 200 Connection established\r\nvia: x\r\n\r\n";
            let mut server = TcpStream::connect(target).await?;
            stream.write_all(said).await?;
            copy_bidirectional(stream, &mut server).await.map(drop)
        }
        Answer::Says(text) => {
            note(head(stream).await?);
            stream.write_all(text.as_bytes()).await
        }
        Answer::Socks(wanted) => {
            socks_credentials(stream, wanted).await?;
            let target = socks_target(stream).await?;
            note(format!("SOCKS {target}"));
            let mut server = TcpStream::connect(&target).await?;
            stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
            copy_bidirectional(stream, &mut server).await.map(drop)
        }
        Answer::SocksRefusal(code) => {
            socks_credentials(stream, None).await?;
            socks_target(stream).await?;
            stream.write_all(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0]).await
        }
    }
}

async fn head(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<String> {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head).unwrap())
}

async fn socks_credentials(
    stream: &mut Box<dyn Both>,
    wanted: Option<(&str, &str)>,
) -> std::io::Result<()> {
    assert_eq!(stream.read_u8().await?, 5);
    let methods = text(stream).await?;
    let Some((user, password)) = wanted else {
        return stream.write_all(&[5, 0]).await;
    };
    if !methods.contains('\u{2}') {
        return stream.write_all(&[5, 255]).await;
    }
    stream.write_all(&[5, 2]).await?;
    assert_eq!(stream.read_u8().await?, 1);
    let given = (text(stream).await?, text(stream).await?);
    let known = given == (user.to_owned(), password.to_owned());
    stream.write_all(&[1, u8::from(!known)]).await
}

async fn socks_target(stream: &mut Box<dyn Both>) -> std::io::Result<String> {
    let mut start = [0; 4];
    stream.read_exact(&mut start).await?;
    assert_eq!(start[..3], [5, 1, 0]);
    let host = match start[3] {
        1 => Ipv4Addr::from(stream.read_u32().await?).to_string(),
        4 => format!("[{}]", std::net::Ipv6Addr::from(stream.read_u128().await?)),
        _ => text(stream).await?,
    };
    Ok(format!("{host}:{}", stream.read_u16().await?))
}

async fn text(stream: &mut Box<dyn Both>) -> std::io::Result<String> {
    let mut bytes = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut bytes).await?;
    Ok(String::from_utf8(bytes).unwrap())
}
