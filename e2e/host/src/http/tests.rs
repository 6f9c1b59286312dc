use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UnixListener},
};

use super::*;

/// Reads a request's head from `stream`, answers with `answer`, and returns the head.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) -> String {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8(head).unwrap()
}

async fn listener() -> (TcpListener, Endpoint) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().into();
    (listener, endpoint)
}

#[tokio::test]
async fn a_token_is_sent_and_not_shown() {
    let (listener, endpoint) = listener().await;
    let request = Request::get(endpoint, "/output").bearer("secret\n");
    assert!(!format!("{request:?}").contains("secret"));
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        serve(
            stream,
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno",
        )
        .await
    };
    let (answer, head) = tokio::join!(request.send(), server);
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (401, "no"));
    assert!(head.contains("authorization: Bearer secret\r\n"), "{head}");
}

#[tokio::test]
async fn lines_arrive_as_sent_without_final_newline() {
    let (listener, endpoint) = listener().await;
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        serve(
            &mut stream,
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\none\ntw",
        )
        .await;
        stream.write_all(b"o\n\nlast").await.unwrap();
    };
    let client = async {
        let mut lines = Request::get(endpoint, "/").lines().await.unwrap();
        let mut all = vec![];
        while let Some(line) = lines.next().await.unwrap() {
            all.push(line);
        }
        all
    };
    let (all, ()) = tokio::join!(client, server);
    assert_eq!(all, ["one", "two", "", "last"]);
}

#[tokio::test]
async fn a_refused_request_for_lines_quotes_the_answer() {
    let (listener, endpoint) = listener().await;
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        serve(
            stream,
            "HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nwhere",
        )
        .await;
    };
    let (answer, ()) = tokio::join!(Request::get(endpoint.clone(), "/x").lines(), server);
    assert_eq!(
        format!("{:#}", answer.unwrap_err()),
        format!("GET {endpoint}/x: answered 404 Not Found: where")
    );
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let (_listener, endpoint) = listener().await;
    let error = Request::get(endpoint, "/")
        .within(Duration::from_millis(50))
        .send()
        .await
        .unwrap_err();
    assert!(
        format!("{error:#}").ends_with("no response within 50ms"),
        "{error:#}"
    );
}

#[tokio::test]
async fn a_unix_socket_with_a_long_path_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    // Bound under a short path: the address of a socket holds 107 bytes.
    let link = folder.path().join("s");
    std::os::unix::fs::symlink(&deep, &link).unwrap();
    let listener = UnixListener::bind(link.join("admin.sock")).unwrap();
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nLIVE").await
    };
    let request = Request::get(Endpoint::Unix(deep.join("admin.sock")), "/ready");
    let (answer, _) = tokio::join!(request.send(), server);
    assert_eq!(answer.unwrap().text(), "LIVE");
}

#[test]
fn unusable_roots_and_names_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.crt");
    let error = Tls::trusting(&file, "pinhole").unwrap_err();
    assert!(error.to_string().contains("ca.crt"), "{error}");
    assert_eq!(blueprint::failure::Failure::exit_code(&error), 3);
    for (roots, name) in [("", "pinhole"), ("no certificate", "pinhole")] {
        std::fs::write(&file, roots).unwrap();
        assert!(Tls::trusting(&file, name).is_err(), "`{roots}` for {name}");
    }
    let root = identity::Root::create("test").unwrap();
    let pem = root.certificate_pem().as_bytes();
    assert!(Tls::of(pem, "no name").is_err());
    let tls = Tls::of(pem, "pinhole.test").unwrap();
    let request =
        Request::get("127.0.0.1:1".parse::<SocketAddr>().unwrap(), "/output").secured(tls);
    assert_eq!(
        format!("{request:?}"),
        "GET https://pinhole.test/output at 127.0.0.1:1"
    );
}

#[tokio::test]
async fn open_connection_returns_any_status() {
    let (here, there) = tokio::io::duplex(1024);
    let refusal = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno";
    let limit = Duration::from_secs(5);
    let (answer, head) = tokio::join!(get_over(here, "/ready", limit), serve(there, refusal));
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (503, "no"));
    assert!(head.starts_with("GET /ready HTTP/1.1\r\n"), "{head}");

    let (here, _silent) = tokio::io::duplex(1024);
    let error = get_over(here, "/ready", Duration::from_millis(50)).await;
    assert_eq!(error.unwrap_err().to_string(), "no response within 50ms");
}
