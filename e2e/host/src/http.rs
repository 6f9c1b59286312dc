//! A small HTTP/1.1 client: one request per connection, over TCP, TLS or a Unix socket, with a
//! deadline.

use std::{
    fmt,
    net::SocketAddr,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use blueprint::plan::PeerAddress;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Method, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustix::fs::{Mode, OFlags};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

mod tls;

pub use tls::{NoTls, Tls};

/// Longest answer that [`Request::send`] takes whole: 64 MiB.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// Longest line of an answer: a stored message with its trail is well below.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Tcp(PeerAddress),
    /// Path of a Unix socket, of any length.
    Unix(PathBuf),
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(PeerAddress {
            host: address.ip().to_string(),
            port: address.port(),
        })
    }
}

impl From<PeerAddress> for Endpoint {
    fn from(address: PeerAddress) -> Self {
        Self::Tcp(address)
    }
}

impl From<&PeerAddress> for Endpoint {
    fn from(address: &PeerAddress) -> Self {
        Self::Tcp(address.clone())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "http+unix://{}", path.display()),
        }
    }
}

/// A request in the making. Its bearer token is in neither `Debug` nor errors.
#[derive(Clone)]
pub struct Request {
    method: Method,
    endpoint: Endpoint,
    path: String,
    tls: Option<Tls>,
    token: Option<String>,
    content_type: Option<String>,
    body: Bytes,
    limit: Duration,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.tls, &self.endpoint) {
            (Some(tls), Endpoint::Tcp(address)) => {
                let (name, path) = (tls.name(), &self.path);
                write!(f, "{} https://{name}{path} at {address}", self.method)
            }
            _ => write!(f, "{} {}{}", self.method, self.endpoint, self.path),
        }
    }
}

/// An answer, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub body: Bytes,
}

impl Response {
    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Request {
    pub fn get(endpoint: impl Into<Endpoint>, path: impl Into<String>) -> Self {
        Self::new(Method::GET, endpoint.into(), path.into())
    }

    pub fn post(endpoint: impl Into<Endpoint>, path: impl Into<String>) -> Self {
        Self::new(Method::POST, endpoint.into(), path.into())
    }

    fn new(method: Method, endpoint: Endpoint, path: String) -> Self {
        Self {
            method,
            endpoint,
            path,
            tls: None,
            token: None,
            content_type: None,
            body: Bytes::new(),
            limit: Duration::from_secs(5),
        }
    }

    /// Sends `Authorization: Bearer <token>` (RFC 6750).
    #[must_use]
    pub fn bearer(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Speaks HTTPS, for the server name and with the roots of `tls`, whatever address is dialled. Not for Unix sockets.
    #[must_use]
    pub fn secured(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    #[must_use]
    pub fn body(mut self, content_type: impl Into<String>, body: impl Into<Bytes>) -> Self {
        self.content_type = Some(content_type.into());
        self.body = body.into();
        self
    }

    /// The deadline, 5 s unless set: of the whole answer for [`Request::send`]; of its head, and then of every
    /// single line, for [`Request::lines`].
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The whole answer, whatever its status.
    pub async fn send(self) -> anyhow::Result<Response> {
        let what = format!("{self:?}");
        let limit = self.limit;
        let work = async {
            let answer = self.exchange().await?;
            whole(answer).await
        };
        in_time(limit, work).await.with_context(|| what)
    }

    /// The answer line by line as it arrives; an answer that is not 200 is an error that quotes it.
    pub async fn lines(self) -> anyhow::Result<Lines> {
        let what = format!("{self:?}");
        let limit = self.limit;
        let work = async {
            let answer = self.exchange().await?;
            let status = answer.status();
            if status != StatusCode::OK {
                let body = Limited::new(answer.into_body(), MAX_BODY_BYTES)
                    .collect()
                    .await;
                let text = body.map_or_else(|_| Bytes::new(), |body| body.to_bytes());
                let text: String = String::from_utf8_lossy(&text)
                    .trim()
                    .chars()
                    .take(500)
                    .collect();
                bail!(
                    "answered {status}{}{text}",
                    if text.is_empty() { "" } else { ": " }
                );
            }
            Ok(answer.into_body())
        };
        let body = in_time(limit, work).await.with_context(|| what.clone())?;
        Ok(Lines {
            what,
            body,
            buffer: vec![],
            searched: 0,
            limit,
        })
    }

    async fn exchange(self) -> anyhow::Result<hyper::Response<Incoming>> {
        let host = match (&self.endpoint, &self.tls) {
            (Endpoint::Tcp(_), Some(tls)) => tls.name().to_owned(),
            (Endpoint::Tcp(address), None) => address.to_string(),
            (Endpoint::Unix(_), _) => "localhost".into(),
        };
        let mut request = hyper::Request::builder()
            .method(self.method)
            .uri(self.path)
            .header(HOST, host);
        if let Some(content_type) = self.content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        if let Some(token) = self.token {
            let mut value =
                HeaderValue::try_from(format!("Bearer {}", token.trim())).map_err(|_| {
                    anyhow::anyhow!(
                        "the bearer token contains characters that a header \
                                              cannot"
                    )
                })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Full::new(self.body))?;
        match &self.endpoint {
            Endpoint::Tcp(PeerAddress { host, port }) => {
                let stream = TcpStream::connect((host.as_str(), *port))
                    .await
                    .context("cannot connect")?;
                stream.set_nodelay(true)?;
                match &self.tls {
                    Some(tls) => over(tls.handshake(stream).await?, request).await,
                    None => over(stream, request).await,
                }
            }
            Endpoint::Unix(path) => {
                let stream = connect_unix(path).await.context("cannot connect")?;
                over(stream, request).await
            }
        }
    }
}

/// `GET <path>` over a connection that is there; the whole answer, whatever its status.
pub async fn get_over<S>(stream: S, path: &str, limit: Duration) -> anyhow::Result<Response>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let request = hyper::Request::get(path).header(HOST, "localhost");
    let request = request.body(Full::default())?;
    in_time(limit, async { whole(over(stream, request).await?).await }).await
}

async fn whole(answer: hyper::Response<Incoming>) -> anyhow::Result<Response> {
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
    let body = body.map_err(|error| {
        if error.is::<LengthLimitError>() {
            anyhow::anyhow!("the response is longer than {MAX_BODY_BYTES} bytes")
        } else {
            anyhow::anyhow!("the response was cut off: {error}")
        }
    })?;
    Ok(Response {
        status: head.status.as_u16(),
        body: body.to_bytes(),
    })
}

async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(anyhow::anyhow!("no response within {limit:.0?}")))
}

async fn over<S>(
    stream: S,
    request: hyper::Request<Full<Bytes>>,
) -> anyhow::Result<hyper::Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the answer's body; an error of the connection shows in the answer too.
    tokio::spawn(connection);
    sender.send_request(request).await.context("no answer")
}

/// Connects to a Unix socket whose path may be longer than the 107 bytes of an address (unix(7)): through a descriptor of
/// its folder, without changing the working folder of this process.
async fn connect_unix(path: &Path) -> anyhow::Result<UnixStream> {
    let (folder, file) = path
        .parent()
        .zip(path.file_name())
        .with_context(|| format!("`{}` is not a socket", path.display()))?;
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let folder = rustix::fs::open(
        folder,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .with_context(|| format!("`{}`", folder.display()))?;
    let short = Path::new("/proc/self/fd")
        .join(folder.as_raw_fd().to_string())
        .join(file);
    Ok(UnixStream::connect(short).await?)
}

/// The lines of an answer, without their ends.
#[derive(Debug)]
pub struct Lines {
    what: String,
    body: Incoming,
    buffer: Vec<u8>,
    /// How much of the buffer is known to hold no line end.
    searched: usize,
    limit: Duration,
}

impl Lines {
    /// The next line; `None` at the end of the answer. Waits no longer than the request's limit.
    pub async fn next(&mut self) -> anyhow::Result<Option<String>> {
        let limit = self.limit;
        in_time(limit, self.read())
            .await
            .with_context(|| self.what.clone())
    }

    async fn read(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            if let Some(end) = self.buffer[self.searched..]
                .iter()
                .position(|byte| *byte == b'\n')
            {
                let rest = self.buffer.split_off(self.searched + end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                self.searched = 0;
                return Ok(Some(String::from_utf8(line)?));
            }
            self.searched = self.buffer.len();
            if self.searched > MAX_LINE_BYTES {
                bail!("a line of the response is longer than {MAX_LINE_BYTES} bytes");
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame.context("the response was cut off")?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                None if self.buffer.is_empty() => return Ok(None),
                None => {
                    self.searched = 0;
                    return Ok(Some(String::from_utf8(std::mem::take(&mut self.buffer))?));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
