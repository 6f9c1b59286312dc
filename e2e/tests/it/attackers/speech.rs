//! The two protocols byte by byte, so that anything can be said in them.

use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    Request,
    body::{Bytes, Frame},
    client::conn::http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use identity::Leaf;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use super::door::{Door, Version};

/// Longest wait for an answer.
const LIMIT: Duration = Duration::from_secs(120);

/// Kinds of WebSocket frames (RFC 6455, section 5.2).
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The head of a client's frame with a length it may not have, masked with zeros, so that the content stays as it is.
pub(crate) fn frame_head(kind: u8, length: u64) -> Vec<u8> {
    let mut head = vec![0x80 | kind];
    match length {
        0..126 => head.push(0x80 | length.to_le_bytes()[0]),
        126..0x1_0000 => {
            head.push(0x80 | 126);
            head.extend_from_slice(&length.to_be_bytes()[6..]);
        }
        _ => {
            head.push(0x80 | 127);
            head.extend_from_slice(&length.to_be_bytes());
        }
    }
    head.extend_from_slice(&[0; 4]);
    head
}

pub(crate) fn frame(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = frame_head(kind, content.len() as u64);
    frame.extend_from_slice(content);
    frame
}

/// A relay session over WebSocket.
pub(crate) struct Socket(TlsStream<TcpStream>);

impl Socket {
    pub(crate) async fn open(door: &Door, leaf: &Leaf) -> anyhow::Result<Self> {
        Ok(Self(door.admitted(leaf).await?))
    }

    /// Sends while it reads what comes; the first frame that is neither ping nor pong: a text, or `closed with CODE: REASON`;
    /// or the end without one.
    pub(crate) async fn say(self, bytes: Vec<u8>) -> anyhow::Result<String> {
        let (mut reader, mut writer) = tokio::io::split(self.0);
        let writing = async move {
            // Who is closed out while it still speaks learns why from what it reads.
            let _ = writer.write_all(&bytes).await;
            let _ = writer.flush().await;
            // Kept open: an end of the stream would be an end of the session.
            std::future::pending::<()>().await;
        };
        let reading = async {
            loop {
                let [first, second] = match (reader.read_u8().await, reader.read_u8().await) {
                    (Ok(first), Ok(second)) => [first, second],
                    // What was still on its way to the pod when it closed the connection can cost its last words.
                    (Err(error), _) | (_, Err(error)) => {
                        return Ok(format!("the connection ended: {error}"));
                    }
                };
                let length = match second & 0x7f {
                    126 => u64::from(reader.read_u16().await?),
                    127 => reader.read_u64().await?,
                    short => u64::from(short),
                };
                let mut content = vec![0; usize::try_from(length)?];
                reader.read_exact(&mut content).await?;
                match (first & 0xf, content.split_at_checked(2)) {
                    (PING | PONG, _) => {}
                    (CLOSE, Some((code, reason))) => {
                        let code = u16::from_be_bytes([code[0], code[1]]);
                        let reason = String::from_utf8_lossy(reason);
                        return Ok(format!("closed with {code}: {reason}"));
                    }
                    _ => return Ok(String::from_utf8_lossy(&content).into_owned()),
                }
            }
        };
        timeout(LIMIT, async {
            tokio::select! {
                told = reading => told,
                () = writing => bail!("the writer never ends"),
            }
        })
        .await
        .context("nothing was answered")?
    }
}

/// What a gRPC call came to.
#[derive(Debug)]
pub(crate) struct Called {
    /// `grpc-status` and `grpc-message`; absent where the sink still waits for more.
    pub(crate) status: String,
    /// The bytes of the answer: the prefix of five bytes, the protobuf.
    pub(crate) answer: Vec<u8>,
}

impl Called {
    /// Status and text in one line, with what can be read of the answer.
    pub(crate) fn told(&self) -> String {
        let text = String::from_utf8_lossy(&self.answer);
        let text: String = text
            .chars()
            .filter(|one| !one.is_control())
            .take(400)
            .collect();
        format!("grpc-status {} {text}", self.status)
    }
}

/// Calls a gRPC method with these bytes as its body, and ends it.
pub(crate) async fn call(
    door: &Door,
    leaf: &Leaf,
    method: &str,
    body: Vec<u8>,
) -> anyhow::Result<Called> {
    let stream = door.tls(door.client(Some(leaf), Version::Tls13)?).await?;
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let pieces: Vec<_> = body
        .chunks(16 * 1024)
        .map(|piece| Ok::<_, std::convert::Infallible>(Frame::data(Bytes::copy_from_slice(piece))))
        .collect();
    let request = Request::post(format!("http://sink{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(StreamBody::new(futures_util::stream::iter(pieces).boxed()))?;
    let talk = async {
        let response = sender.send_request(request).await?;
        let mut status = status(response.headers());
        let mut body = response.into_body();
        let mut answer = vec![];
        while let Some(frame) = body.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => answer.extend_from_slice(&data),
                Ok(Err(frame)) => {
                    if let Some(trailers) = frame.trailers_ref() {
                        status = self::status(trailers);
                    }
                }
                Err(error) => return Err(anyhow::Error::from(error)),
            }
        }
        Ok(Called {
            status: status.unwrap_or_default(),
            answer,
        })
    };
    let called = timeout(LIMIT, talk).await.context("nothing was answered")?;
    connection.abort();
    called
}

fn status(headers: &hyper::HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let status = text("grpc-status")?;
    Some(format!(
        "{status}: {}",
        text("grpc-message").unwrap_or_default()
    ))
}

/// A gRPC frame: not compressed, its length, its content (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
pub(crate) fn grpc_frame(content: &[u8]) -> Vec<u8> {
    grpc_frame_of(content.len() as u64, content)
}

/// One that claims another length than it has; lengths are 32 bits.
pub(crate) fn grpc_frame_of(length: u64, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend_from_slice(&length.to_be_bytes()[4..]);
    frame.extend_from_slice(content);
    frame
}

/// A protobuf field of text or bytes (<https://protobuf.dev/programming-guides/encoding/>).
pub(crate) fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = content.len();
    while length > 0x7f {
        field.push(0x80 | (length & 0x7f).to_le_bytes()[0]);
        length >>= 7;
    }
    field.push(length.to_le_bytes()[0]);
    field.extend_from_slice(content);
    field
}
