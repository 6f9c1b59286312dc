//! `probe URL [SECONDS] [--expect STATUS]`: asks `URL` by HTTP until it answers `STATUS` (200
//! unless given), for at most `SECONDS` (30 unless given).
//!
//! The harness runs it as a short-lived pod, to know from inside a cluster that the way to another
//! one is open. Exit codes: 0 the address answered so, 1 it did not in time, 2 wrong usage. The
//! last thing seen is on standard error; how it begins tells what is in the way: `cannot connect:
//! refused`, `cannot connect: no answer`, `cannot connect: no way`, or another.
//!
//! `probe --answer PORT WORD SECONDS` is the other side: answers every request on PORT with WORD,
//! and ends after SECONDS. By it the harness finds out whether a port that a Docker engine
//! publishes arrives on its machine.

use std::{io::ErrorKind, net::IpAddr, process::ExitCode, time::Duration};

use http_body_util::Empty;
use hyper::{Request, StatusCode, Uri, body::Bytes, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::Instant};

mod answer;

use answer::Answer;

const USAGE: &str = "usage: probe http://HOST[:PORT]/PATH [SECONDS] [--expect STATUS]
       probe --answer PORT WORD SECONDS";
/// Longest time for a name to resolve and a connection to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Longest time for one try: connect, ask, answer.
const TRY_LIMIT: Duration = Duration::from_secs(6);
/// Pause between tries. A load balancer may open its port late, so tries are cheap and many.
const PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug, PartialEq, Eq)]
struct Target {
    host: String,
    port: u16,
    path: String,
}

/// The arguments of the command line.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    url: String,
    target: Target,
    seconds: u16,
    status: StatusCode,
}

impl Wanted {
    fn of(args: &[String]) -> Result<Self, String> {
        let (args, status) = match args {
            [args @ .., option, status] if option == "--expect" => (
                args,
                status
                    .parse()
                    .map_err(|error| format!("STATUS must be 100 to 999: {error}"))?,
            ),
            _ => (args, StatusCode::OK),
        };
        let (url, seconds) = match args {
            [url] => (url, 30),
            [url, seconds] => (
                url,
                seconds
                    .parse()
                    .map_err(|error| format!("SECONDS must be 0 to 65535: {error}"))?,
            ),
            _ => return Err("missing URL".into()),
        };
        Ok(Self {
            url: url.clone(),
            target: parse(url)?,
            seconds,
            status,
        })
    }
}

impl Target {
    /// Returns the value of the `Host` header, with an IPv6 address in brackets.
    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

fn parse(url: &str) -> Result<Target, String> {
    let uri: Uri = url
        .parse()
        .map_err(|error| format!("invalid URL `{url}`: {error}"))?;
    if uri.scheme_str() != Some("http") {
        return Err(format!("`{url}` must start with http://"));
    }
    let host = uri
        .host()
        .filter(|host| !host.is_empty())
        .ok_or_else(|| format!("`{url}` has no host"))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok(Target {
        host: host.trim_matches(['[', ']']).into(),
        port: uri.port_u16().unwrap_or(80),
        path: path.into(),
    })
}

/// Returns the name to dial, as Envoy dials it: fully qualified, so that no search domain of the
/// pod is tried first. A name without a dot and the short name of a Service are left to the search
/// domains.
fn dialled(host: &str) -> String {
    let is_name = host.parse::<IpAddr>().is_err() && host.contains('.');
    if is_name && !host.ends_with('.') && !host.ends_with(".svc") {
        format!("{host}.")
    } else {
        host.to_owned()
    }
}

/// Connects. The error distinguishes a refused connection, dropped packets, and a missing route.
async fn connect(target: &Target) -> Result<TcpStream, String> {
    let unresolved = |why: String| format!("cannot resolve `{}`: {why}", target.host);
    let resolved = tokio::net::lookup_host((dialled(&target.host), target.port));
    let addresses: Vec<_> = tokio::time::timeout(CONNECT_LIMIT, resolved)
        .await
        .map_err(|_| unresolved(format!("no answer within {CONNECT_LIMIT:?}")))?
        .map_err(|error| unresolved(error.to_string()))?
        .collect();
    let connected = TcpStream::connect(addresses.as_slice());
    match tokio::time::timeout(CONNECT_LIMIT, connected).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => {
            let kind = match error.kind() {
                ErrorKind::ConnectionRefused => "refused: ",
                ErrorKind::TimedOut => "no answer: ",
                ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::PermissionDenied => "no way: ",
                _ => "",
            };
            Err(format!("cannot connect: {kind}{error}"))
        }
        Err(_) => Err(format!(
            "cannot connect: no answer within {CONNECT_LIMIT:?}"
        )),
    }
}

async fn ask(target: &Target) -> Result<StatusCode, String> {
    let stream = connect(target).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let request = Request::get(&target.path)
        .header(HOST, target.authority())
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    let answer = sender.send_request(request);
    tokio::pin!(answer);
    let response = tokio::select! {
        response = &mut answer => response,
        // A server that closes right after its answer has still answered.
        _ = connection => answer.await,
    };
    response
        .map(|response| response.status())
        .map_err(|error| format!("no answer: {error}"))
}

async fn probe(target: &Target, wanted: StatusCode, limit: Duration) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    loop {
        let seen = match tokio::time::timeout(TRY_LIMIT, ask(target)).await {
            Ok(Ok(status)) if status == wanted => return Ok(()),
            Ok(Ok(status)) => format!("answered {status}"),
            Ok(Err(error)) => error,
            Err(_) => format!("no answer within {TRY_LIMIT:?}"),
        };
        if Instant::now() + PAUSE >= deadline {
            return Err(seen);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Writes a line to standard error: the pod's log.
fn say(line: &str) {
    use std::io::Write as _;
    // A failed write to the log cannot be reported anywhere else.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(wanted) = Answer::of(&args) {
        return answer::serve(wanted).await;
    }
    let wanted = match Wanted::of(&args) {
        Ok(wanted) => wanted,
        Err(problem) => {
            say(&format!("{problem}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    let Wanted {
        url,
        target,
        seconds,
        status,
    } = wanted;
    let status_code = status.as_u16();
    match probe(&target, status, Duration::from_secs(seconds.into())).await {
        Ok(()) => {
            say(&format!("{url} answered {status_code}"));
            ExitCode::SUCCESS
        }
        Err(seen) => {
            say(&format!(
                "{url} did not answer {status_code} within {seconds} s; last seen: {seen}"
            ));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn url_is_parsed() {
        let target = |host: &str, port, path: &str| Target {
            host: host.into(),
            port,
            path: path.into(),
        };
        assert_eq!(
            parse("http://host.k3d.internal:30200/health"),
            Ok(target("host.k3d.internal", 30200, "/health"))
        );
        assert_eq!(parse("http://[::1]/"), Ok(target("::1", 80, "/")));
        assert_eq!(target("::1", 80, "/").authority(), "[::1]:80");
        assert_eq!(target("a.example", 80, "/").authority(), "a.example:80");
        for wrong in ["", "host:80", "https://host/", "http://", "ftp://x/"] {
            assert!(parse(wrong).is_err(), "`{wrong}` must be refused");
        }
    }

    #[test]
    fn names_are_dialled_as_by_envoy() {
        for (host, whole) in [
            ("host.k3d.internal", "host.k3d.internal."),
            ("example.com.", "example.com."),
            ("sink.harbour.svc", "sink.harbour.svc"),
            ("localhost", "localhost"),
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
        ] {
            assert_eq!(dialled(host), whole);
        }
    }

    #[test]
    fn command_line_is_parsed() {
        let read = |args: &[&str]| {
            let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
            Wanted::of(&args).map(|wanted| (wanted.seconds, wanted.status.as_u16()))
        };
        assert_eq!(read(&["http://a/"]), Ok((30, 200)));
        assert_eq!(read(&["http://a/", "5"]), Ok((5, 200)));
        assert_eq!(read(&["http://a/", "--expect", "404"]), Ok((30, 404)));
        assert_eq!(read(&["http://a/", "0", "--expect", "401"]), Ok((0, 401)));
        for wrong in [
            &[][..],
            &["--expect", "404"],
            &["http://a/", "--expect"],
            &["http://a/", "--expect", "40"],
            &["http://a/", "--expect", "ok"],
            &["http://a/", "-1"],
            &["http://a/", "1", "2"],
        ] {
            assert!(read(wrong).is_err(), "{wrong:?} must be refused");
        }
    }

    #[tokio::test]
    async fn only_the_expected_status_succeeds() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 1024];
                assert!(stream.read(&mut head).await.unwrap() > 0);
                let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer).await.unwrap();
            }
        });
        let target = Target {
            host: "127.0.0.1".into(),
            port,
            path: "/".into(),
        };
        let try_for = |status| probe(&target, status, Duration::ZERO);
        assert_eq!(try_for(StatusCode::NOT_FOUND).await, Ok(()));
        assert_eq!(
            try_for(StatusCode::OK).await,
            Err("answered 404 Not Found".into())
        );
        answers.abort();
    }

    #[tokio::test]
    async fn closed_port_is_reported() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let target = Target {
            host: "127.0.0.1".into(),
            port,
            path: "/".into(),
        };
        let seen = probe(&target, StatusCode::OK, Duration::ZERO)
            .await
            .unwrap_err();
        assert!(seen.starts_with("cannot connect: refused: "), "{seen}");
    }

    /// Linux drops what is sent to a listener whose queue is full, as a firewall does.
    #[tokio::test]
    async fn dropped_packets_are_not_a_refusal() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut held = vec![];
        let full = loop {
            let connecting = TcpStream::connect(address);
            match tokio::time::timeout(Duration::from_millis(300), connecting).await {
                Ok(stream) => held.push(stream.unwrap()),
                Err(_) => break true,
            }
        };
        assert!(full);
        let target = Target {
            host: "127.0.0.1".into(),
            port: address.port(),
            path: "/".into(),
        };
        let seen = probe(&target, StatusCode::OK, Duration::ZERO)
            .await
            .unwrap_err();
        assert_eq!(seen, "cannot connect: no answer within 3s");
    }

    #[tokio::test]
    async fn unresolved_name_is_reported() {
        let target = Target {
            host: "nowhere.invalid".into(),
            port: 1,
            path: "/".into(),
        };
        let seen = probe(&target, StatusCode::OK, Duration::ZERO)
            .await
            .unwrap_err();
        assert!(
            seen.starts_with("cannot resolve `nowhere.invalid`"),
            "{seen}"
        );
    }
}
