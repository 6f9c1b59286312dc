//! Connects to a server, directly or through a proxy. A proxy sees only the server's name and
//! its own credentials.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use blueprint::failure::Failure;
use http_body_util::Empty;
use hyper::{
    Request, StatusCode, Uri,
    body::Bytes,
    client::conn::http1,
    header::{HOST, HeaderValue, PROXY_AUTHORIZATION},
};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tower::{BoxError, Service};

use super::socks;
use crate::proxy::{Credentials, Proxy, Scheme, Server, Source};

/// Time for a proxy to be reached and to open the way: below the time that a server has to answer for the first time.
const LIMIT: Duration = Duration::from_secs(20);

/// By which proxy to which server.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) server: Server,
    pub(super) proxy: Proxy,
    /// Where the proxy is one of HTTPS.
    pub(super) tls: Option<TlsConnector>,
}

/// Connects to the server, whatever host it is asked for where a proxy leads there.
#[derive(Clone)]
pub(super) struct Connector {
    http: HttpConnector,
    way: Option<Way>,
}

impl Connector {
    /// Direct unless a way is given.
    pub(super) fn new(way: Option<Way>) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        Self { http, way }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Line>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.http.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let http = self.http.clone();
        let way = self.way.clone();
        Box::pin(async move {
            Ok(TokioIo::new(match way {
                None => direct(http, server).await?,
                Some(way) => way.open(http).await?,
            }))
        })
    }
}

/// An error names whom it did not reach.
async fn direct(mut http: HttpConnector, server: Uri) -> Result<Line, io::Error> {
    let address = server.authority().map(ToString::to_string);
    let connected = http.call(server).await;
    let connected = connected.map_err(|error| {
        let address = address.unwrap_or_default();
        io::Error::other(format!("{address}: {}", innermost(&error)))
    })?;
    Ok(Line::new(connected.into_inner()))
}

impl Way {
    async fn open(&self, http: HttpConnector) -> Result<Line, NoWay> {
        let opened = timeout(LIMIT, self.through(http)).await;
        opened.unwrap_or_else(|_| Err(self.passing(&format!("does not answer within {LIMIT:.0?}"))))
    }

    async fn through(&self, mut http: HttpConnector) -> Result<Line, NoWay> {
        let address = format!("http://{}/", self.proxy.address()).parse::<Uri>();
        let address = address.map_err(|error| self.lasting(&format!("has no address: {error}")))?;
        let connected = http.call(address).await;
        let connected = connected
            .map_err(|error| self.lasting(&format!("cannot be reached: {}", innermost(&error))))?;
        let mut line = Line::new(connected.into_inner());
        if let Some(tls) = &self.tls {
            let name = ServerName::try_from(self.proxy.host().to_owned());
            let name = name.map_err(|error| self.lasting(&format!("has no name: {error}")))?;
            let secured = tls.connect(name, line).await;
            line = Line::new(secured.map_err(|error| {
                self.untrusted(&format!("speaks no TLS that is trusted: {error}"))
            })?);
        }
        match self.proxy.scheme() {
            Scheme::Http | Scheme::Https => self.ask_for_server(line).await,
            Scheme::Socks5 => {
                let (server, credentials) = (&self.server, self.proxy.credentials());
                let asked = socks::ask(&mut line, server.host(), server.port(), credentials).await;
                asked.map(|()| line).map_err(|refusal| match refusal {
                    socks::Refusal::Credentials => self.unknown_user(),
                    socks::Refusal::Unreachable(why) => self.passing(&format!("answers: {why}")),
                    socks::Refusal::Other(why) => self.lasting(&why),
                })
            }
        }
    }

    /// <https://www.rfc-editor.org/rfc/rfc9110#name-connect>
    async fn ask_for_server(&self, line: Line) -> Result<Line, NoWay> {
        let broken = |error: &hyper::Error| {
            self.lasting(&format!(
                "is no HTTP proxy, or broke off: {}",
                innermost(error)
            ))
        };
        let server = self.server.to_string();
        let mut request = Request::connect(&server).header(HOST, &server);
        if let Some(Credentials { user, password }) = self.proxy.credentials() {
            let text = BASE64_STANDARD.encode(format!("{user}:{password}"));
            let value = HeaderValue::try_from(format!("Basic {text}"));
            let mut value = value.map_err(|error| self.lasting(&error.to_string()))?;
            value.set_sensitive(true);
            request = request.header(PROXY_AUTHORIZATION, value);
        }
        let request = request.body(Empty::<Bytes>::new());
        let request = request.map_err(|error| self.lasting(&error.to_string()))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(line))
            .await
            .map_err(|error| broken(&error))?;
        // Ends with the way itself.
        tokio::spawn(connection.with_upgrades());
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| broken(&error))?;
        let status = answer.status();
        match status {
            _ if status.is_success() => {
                let line = hyper::upgrade::on(answer).await;
                Ok(Line::new(TokioIo::new(
                    line.map_err(|error| broken(&error))?,
                )))
            }
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err(self.unknown_user()),
            _ if status.is_server_error() => Err(self.passing(&format!("answers {status}"))),
            _ => Err(self.lasting(&format!("answers {status}"))),
        }
    }

    fn failure(&self, what: &str, hint: String) -> Failure {
        let (proxy, server) = (&self.proxy, &self.server);
        let source = proxy.source();
        Failure::infrastructure(format!("the proxy {proxy} to {server} {what}"))
            .hint(format!("{hint}; the proxy comes from {source}"))
    }

    fn lasting(&self, what: &str) -> NoWay {
        NoWay::new(
            self.failure(what, self.other_way("correct the proxy")),
            false,
        )
    }

    /// Trouble that may be over soon.
    fn passing(&self, what: &str) -> NoWay {
        let hint = format!("see whether the proxy reaches {}", self.server);
        NoWay::new(self.failure(what, self.other_way(&hint)), true)
    }

    fn untrusted(&self, what: &str) -> NoWay {
        let hint = "add the authority of its certificate to the cluster's `certificate-authority`, which `kubectl` goes by too";
        NoWay::new(self.failure(what, hint.into()), false)
    }

    fn unknown_user(&self) -> NoWay {
        let (what, hint) = match self.proxy.credentials() {
            None => (
                "asks for a user and a password",
                "write them as USER:PASSWORD@ before its host",
            ),
            Some(_) => (
                "refuses the user and the password",
                "correct them; what is no letter or digit in them is written as %40 is for @",
            ),
        };
        NoWay::new(self.failure(what, hint.into()), false)
    }

    fn other_way(&self, hint: &str) -> String {
        match self.proxy.source() {
            Source::Kubeconfig => format!("{hint}, or take it out where no proxy is needed"),
            Source::Variable(_) => format!(
                "{hint}, or add `{}` to `NO_PROXY` where none is needed",
                self.server.host()
            ),
        }
    }
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    cause.to_string()
}

/// A proxy has opened no way to the server: no byte of a request was sent.
#[derive(Debug)]
pub(crate) struct NoWay {
    failure: Failure,
    passing: bool,
}

impl NoWay {
    const fn new(failure: Failure, passing: bool) -> Self {
        Self { failure, passing }
    }

    /// Whether waiting may help.
    pub(crate) const fn may_pass(&self) -> bool {
        self.passing
    }

    /// What to tell about it, with what is said before it.
    pub(crate) fn failure(&self, before: &str) -> Failure {
        let hint = self.failure.next_step().unwrap_or_default();
        Failure::infrastructure(format!("{before}{}", self.failure)).hint(hint)
    }
}

impl std::fmt::Display for NoWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.failure.fmt(f)
    }
}

/// The failure is found in the chain, with what to do next.
impl std::error::Error for NoWay {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.failure)
    }
}

trait Both: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Both for T {}

/// A connection, of whatever it is made.
pub(super) struct Line(Box<dyn Both>);

impl Line {
    fn new(of: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self(Box::new(of))
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl Connection for Line {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
