//! Addresses, processes and small servers for the live tests.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use host::{
    envoy_binary,
    timeline::Timeline,
    wait::{Seen, Wait},
};
use messages::{PEER_TLV, WorkloadName};
use render::envoy::arguments;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    process::{Child, Command},
};

/// A network `127.A.B.0/24` that no other test has.
pub(super) struct Network {
    second: u8,
    third: u8,
    _claim: TcpListener,
}

impl Network {
    pub(super) async fn claim() -> Self {
        loop {
            let [.., second, third] = uuid::Uuid::now_v7().into_bytes();
            let second = 192 | second;
            if let Ok(claim) =
                TcpListener::bind(SocketAddr::from(([127, second, third, 254], 61_000))).await
            {
                return Self {
                    second,
                    third,
                    _claim: claim,
                };
            }
        }
    }

    pub(super) fn host(&self, number: u8) -> IpAddr {
        [127, self.second, self.third, number].into()
    }
}

/// Replaces a file by a rename, as Ferry does.
pub(in super::super) fn replace(file: &Path, content: &Value) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let new = file.with_extension("new");
    std::fs::write(&new, content.to_string()).unwrap();
    std::fs::rename(&new, file).unwrap();
}

/// An Envoy in a folder of its own; ends with the test.
pub(super) struct Envoy {
    folder: TempDir,
    child: Option<Child>,
}

impl Envoy {
    pub(super) fn prepare(config: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        replace(&folder.path().join("envoy.json"), config);
        Self {
            folder,
            child: None,
        }
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// The log once it contains `text`.
    pub(super) async fn logged(&self, text: &str) -> String {
        Wait::until(format!("`{text}` in Envoy's log"))
            .poll(|| async {
                let log = self.log();
                Ok(if log.contains(text) {
                    Seen::Ready(log)
                } else {
                    Seen::Waiting(log)
                })
            })
            .await
            .unwrap()
    }

    async fn spawn(&mut self) -> &mut Child {
        let envoy = envoy_binary::envoy(&Timeline::default()).await.unwrap();
        let log = std::fs::File::create(self.file("log")).unwrap();
        let child = Command::new(envoy)
            .args(arguments("envoy.json".as_ref()))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        self.child.insert(child)
    }

    /// Starts it and waits until `/ready` on `stats` says so.
    pub(super) async fn run(&mut self, stats: SocketAddr) {
        self.spawn().await;
        let ready = Wait::until("Envoy to be ready")
            .poll(|| async {
                let answer = match TcpStream::connect(stats).await {
                    Ok(stream) => converse(stream, &get("/ready")).await?,
                    Err(error) => error.to_string(),
                };
                Ok(if answer.starts_with("HTTP/1.1 200 ") {
                    Seen::Ready(())
                } else {
                    Seen::Waiting(format!("{answer}\n{}", self.log()))
                })
            })
            .await;
        ready.unwrap_or_else(|error| panic!("{error:#}"));
    }

    pub(super) async fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.unwrap();
        }
    }

    /// Starts it and waits until it gives up by itself.
    pub(super) async fn run_to_its_end(&mut self) -> ExitStatus {
        self.spawn().await.wait().await.unwrap()
    }

    /// Counters and gauges by name, from the admin socket.
    pub(super) async fn stats(&self) -> BTreeMap<String, u64> {
        let stream = UnixStream::connect(self.file("admin.sock")).await.unwrap();
        let text = converse(stream, &get("/stats")).await.unwrap();
        text.lines()
            .filter_map(|line| line.rsplit_once(": "))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect()
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
}

/// Says `text` and reads to the end.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    text: &str,
) -> io::Result<String> {
    stream.write_all(text.as_bytes()).await?;
    let mut answer = vec![];
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Sends `text` and meanwhile reads as many bytes back; fewer where the other side ends before.
pub(super) async fn exchange(address: SocketAddr, text: &str) -> io::Result<String> {
    let (read, mut write) = TcpStream::connect(address).await?.into_split();
    let mut read = read.take(text.len() as u64);
    let mut answer = vec![];
    tokio::try_join!(
        write.write_all(text.as_bytes()),
        read.read_to_end(&mut answer)
    )?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The answer to a request as written, up to the end of its head and what came with it.
pub(super) async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A request that is refused halfway may be answered before it is sent whole.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = vec![];
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read_buf(&mut answer).await {
            Ok(1..) => {}
            _ => break,
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

pub(super) async fn status(address: SocketAddr, method: &str, path: &str) -> u16 {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    let answer = raw(address, &request).await;
    answer
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or_else(|| panic!("no HTTP answer: {answer:?}"))
}

/// Sends back what it gets. Ends with the test's runtime.
pub(super) async fn echo(address: SocketAddr) {
    serve(address, |mut stream| async move {
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
}

/// Sends back what it gets after the preamble, as the app behind a tunnel does. Ends with the test's
/// runtime.
pub(super) async fn echo_of(peer: &WorkloadName, address: SocketAddr) {
    let peer = peer.to_string();
    serve(address, move |mut stream| {
        let peer = peer.clone();
        async move {
            // PROXY protocol, version 2: 16 bytes, of which the last two say how many follow.
            let mut head = [0; 16];
            if stream.read_exact(&mut head).await.is_err() {
                return;
            }
            let mut rest = vec![0; usize::from(u16::from_be_bytes([head[14], head[15]]))];
            if stream.read_exact(&mut rest).await.is_err() {
                return;
            }
            assert!(head.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21"), "{head:?}");
            let value = [&[PEER_TLV, 0, peer.len() as u8][..], peer.as_bytes()].concat();
            assert!(rest.ends_with(&value), "{}", String::from_utf8_lossy(&rest));
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        }
    })
    .await;
}

/// Answers each connection's first request with 200.
pub(super) async fn answer_ok(address: SocketAddr) {
    serve(address, |mut stream| async move {
        let mut request = vec![];
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read_buf(&mut request).await {
                Ok(1..) => {}
                _ => return,
            }
        }
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
        let _ = stream.write_all(answer.as_bytes()).await;
    })
    .await;
}

async fn serve<H, F>(address: SocketAddr, handle: H)
where
    H: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(handle(stream));
        }
    });
}
