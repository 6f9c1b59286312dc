//! Ferry over WebSocket (RFC 6455): path `/v1/carry`, subprotocol `ferry.v1`, one JSON object a
//! text frame.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{
        State,
        ws::{self, WebSocket, WebSocketUpgrade},
    },
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{self, SplitSink, SplitStream},
};
use messages::{Ack, Message, TIME_HEADER, json, limits::MAX_FRAME_BYTES};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    time::{Interval, MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self,
        client::IntoClientRequest as _,
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::{WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{
    ACK_BUFFER, Incoming, PING_INTERVAL, ReceiveError, Received, SESSION_BUFFER, SILENCE_LIMIT,
    Session, SessionEnd, SessionError, SessionHandler, unreadable,
};
use crate::{
    preamble::Peer,
    skew::{self, Asked},
};

/// The path of the handshake.
pub(crate) const PATH: &str = "/v1/carry";
/// The subprotocol that both sides name in the handshake.
pub(crate) const SUBPROTOCOL: &str = "ferry.v1";
/// Longest wait for the peer's half of the closing handshake.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// Control frames that a sender may send between two messages. Each costs an answer. Pings and
/// pongs every 15 s are fewer than a hundred in the longest life of a session.
const MAX_CONTROL_FRAMES: u32 = 256;

/// Answers the handshake. A pod that is not ready accepts no new sessions.
pub(crate) async fn upgrade(
    State(handler): State<Arc<dyn SessionHandler>>,
    Extension(peer): Extension<Peer>,
    upgrade: WebSocketUpgrade,
) -> Response {
    if let Some(reason) = handler.not_ready() {
        return (StatusCode::SERVICE_UNAVAILABLE, reason).into_response();
    }
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .max_message_size(MAX_FRAME_BYTES)
        .max_frame_size(MAX_FRAME_BYTES);
    if upgrade.selected_protocol().is_none() {
        let reason = format!("offer the subprotocol `{SUBPROTOCOL}` (Sec-WebSocket-Protocol)");
        return (StatusCode::BAD_REQUEST, reason).into_response();
    }
    let working = handler.begin();
    let answer = upgrade.on_upgrade(async move |socket| {
        serve(&*handler, peer, socket).await;
        drop(working);
    });
    ([(TIME_HEADER, skew::time())], answer).into_response()
}

async fn serve(handler: &dyn SessionHandler, peer: Peer, socket: WebSocket) {
    let (mut writer, reader) = socket.split();
    let (acks, mut answers) = mpsc::channel(ACK_BUFFER);
    let session = async { Ok(handler.serve(peer, frames(reader), acks).await) };
    let writing = write_answers(&mut writer, &mut answers);
    // A failed writer ends the session too.
    let Ok((end, ())) = tokio::try_join!(session, writing) else {
        tracing::debug!("a WebSocket sender is gone");
        return;
    };
    let (code, reason) = match end {
        SessionEnd::Complete => (ws::close_code::NORMAL, String::new()),
        SessionEnd::Draining => (ws::close_code::AWAY, "the pod is ending".into()),
        SessionEnd::Unavailable(reason) => (ws::close_code::AGAIN, reason),
        SessionEnd::Refused(reason) => (ws::close_code::POLICY, reason),
        SessionEnd::Broken(ReceiveError::NotAMessage(reason)) => (ws::close_code::INVALID, reason),
        SessionEnd::Broken(ReceiveError::Unexpected(reason)) => (ws::close_code::POLICY, reason),
        SessionEnd::Broken(ReceiveError::TooLarge(reason)) => (ws::close_code::SIZE, reason),
        SessionEnd::Broken(ReceiveError::Disconnected(reason)) => {
            tracing::debug!(reason, "a WebSocket sender is gone");
            // Answers a close frame of the sender (RFC 6455, section 5.5.1). If the connection is
            // gone, this fails.
            let _ = timeout(CLOSE_LIMIT, writer.close()).await;
            return;
        }
    };
    tracing::debug!(code, reason, "closing a WebSocket session");
    let reason = close_reason(&reason).into();
    let close = writer.send(ws::Message::Close(Some(ws::CloseFrame { code, reason })));
    // The socket may be broken already.
    let _ = timeout(CLOSE_LIMIT, close).await;
}

/// RFC 6455, section 5.5: a control frame has at most 125 bytes, two of them the code.
fn close_reason(reason: &str) -> &str {
    let end = (0..=reason.len().min(123)).rfind(|&end| reason.is_char_boundary(end));
    reason.get(..end.unwrap_or_default()).unwrap_or_default()
}

/// Returns the ticks at which a session sends pings. The first one comes after an interval.
fn pings() -> Interval {
    let mut pings = interval(PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.reset();
    pings
}

async fn write_answers(
    writer: &mut SplitSink<WebSocket, ws::Message>,
    answers: &mut mpsc::Receiver<Ack>,
) -> Result<(), axum::Error> {
    let mut ping = pings();
    loop {
        tokio::select! {
            answer = answers.recv() => {
                let Some(ack) = answer else { return Ok(()) };
                writer.feed(ws::Message::text(json::encode_ack(&ack))).await?;
                // Messages that are ready go with the same write.
                while let Ok(ack) = answers.try_recv() {
                    writer.feed(ws::Message::text(json::encode_ack(&ack))).await?;
                }
                writer.flush().await?;
            }
            _ = ping.tick() => writer.send(ws::Message::Ping(Default::default())).await?,
        }
    }
}

/// Returns the messages of a socket. Silence counts only while the pod reads: a pod with a full
/// window does not read, and must not take that for the sender's silence.
fn frames<'a>(reader: SplitStream<WebSocket>) -> Incoming<'a> {
    stream::unfold((reader, 0), async |(mut reader, mut controls)| {
        loop {
            let frame = match timeout(SILENCE_LIMIT, reader.next()).await {
                Err(_) => Err(ReceiveError::Disconnected(format!(
                    "nothing heard for {SILENCE_LIMIT:?}"
                ))),
                Ok(None) => Err(ReceiveError::Disconnected("the connection ended".into())),
                Ok(Some(Err(error))) => Err(broken(error)),
                Ok(Some(Ok(frame))) => Ok(frame),
            };
            let received = match frame {
                Err(broken) => Err(broken),
                Ok(ws::Message::Ping(_) | ws::Message::Pong(_)) => {
                    controls += 1;
                    if controls <= MAX_CONTROL_FRAMES {
                        continue;
                    }
                    Err(ReceiveError::Unexpected(format!(
                        "more than {MAX_CONTROL_FRAMES} control frames without a message"
                    )))
                }
                Ok(ws::Message::Close(_)) => Err(ReceiveError::Disconnected(
                    "the sender closed the connection".into(),
                )),
                Ok(ws::Message::Binary(_)) => Err(ReceiveError::Unexpected(
                    "binary frames carry nothing here: send JSON as text".into(),
                )),
                Ok(ws::Message::Text(text)) => match json::decode(text.as_str()) {
                    Ok(json::Frame::Message(message)) => Ok(Received::Message(message)),
                    Ok(json::Frame::Ack(_)) => Err(ReceiveError::Unexpected(
                        "an acknowledgement goes against the direction of messages".into(),
                    )),
                    Err(error) => unreadable(&error),
                },
            };
            return Some((received, (reader, 0)));
        }
    })
    .boxed()
}

fn broken(error: axum::Error) -> ReceiveError {
    let error = error.into_inner();
    match error.downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Capacity(cause)) => ReceiveError::TooLarge(cause.to_string()),
        Some(tungstenite::Error::Utf8(cause)) => {
            ReceiveError::NotAMessage(format!("not UTF-8: {cause}"))
        }
        _ => ReceiveError::Disconnected(error.to_string()),
    }
}

type ClientSocket = WebSocketStream<TcpStream>;

/// Opens a session. It begins with the answer `101` of the peer.
pub(super) async fn dial(address: SocketAddr) -> Result<Session, SessionError> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(SessionError::new)?;
    stream.set_nodelay(true).map_err(SessionError::new)?;
    let mut request = format!("ws://{address}{PATH}")
        .into_client_request()
        .map_err(SessionError::new)?;
    request.headers_mut().insert(
        SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_static(SUBPROTOCOL),
    );
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_FRAME_BYTES))
        .max_frame_size(Some(MAX_FRAME_BYTES));
    let asked = Asked::now();
    let (socket, answer) =
        tokio_tungstenite::client_async_with_config(request, stream, Some(config))
            .await
            .map_err(refused)?;
    let said = answer.headers().get(TIME_HEADER);
    let skew = asked.skew(said.map(HeaderValue::as_bytes));
    let (outgoing, messages) = mpsc::channel(SESSION_BUFFER);
    let (answers, incoming) = mpsc::channel(SESSION_BUFFER);
    tokio::spawn(carry(socket, messages, answers));
    Ok(Session {
        outgoing,
        incoming: ReceiverStream::new(incoming).boxed(),
        skew,
    })
}

/// Returns why a handshake failed. A pod that refuses gives its reason in the body.
fn refused(error: tungstenite::Error) -> SessionError {
    match error {
        tungstenite::Error::Http(response) => {
            let body = response.body().as_deref().unwrap_or_default();
            let body: String = String::from_utf8_lossy(body).chars().take(200).collect();
            SessionError(format!("it answered {} {body}", response.status()))
        }
        other => SessionError::new(other),
    }
}

/// Moves messages and acknowledgements between a socket and its session until either side ends.
async fn carry(
    socket: ClientSocket,
    mut messages: mpsc::Receiver<Arc<Message>>,
    answers: mpsc::Sender<Result<Ack, SessionError>>,
) {
    let (mut writer, mut reader) = socket.split();
    let writing = async {
        let result = write_messages(&mut writer, &mut messages).await;
        if result.is_ok() {
            // Everything is sent. The reader ends with the peer's answer to the close frame.
            tokio::time::sleep(CLOSE_LIMIT).await;
        }
        result.map_err(SessionError::new)
    };
    let reading = read_answers(&mut reader, &answers);
    let lost = tokio::select! {
        // The peer's reason is better than the error of the broken socket.
        biased;
        lost = reading => lost,
        written = writing => written.err(),
    };
    if let Some(lost) = lost {
        // The session may have been dropped already.
        let _ = answers.send(Err(lost)).await;
    }
}

async fn write_messages(
    writer: &mut SplitSink<ClientSocket, tungstenite::Message>,
    messages: &mut mpsc::Receiver<Arc<Message>>,
) -> Result<(), tungstenite::Error> {
    let mut ping = pings();
    loop {
        tokio::select! {
            message = messages.recv() => {
                let Some(message) = message else {
                    let close = tungstenite::protocol::CloseFrame {
                        code: CloseCode::Normal,
                        reason: "".into(),
                    };
                    return writer.send(tungstenite::Message::Close(Some(close))).await;
                };
                writer.feed(tungstenite::Message::text(json::encode_message(&message))).await?;
                // Messages that are ready go with the same write.
                while let Ok(message) = messages.try_recv() {
                    writer.feed(tungstenite::Message::text(json::encode_message(&message))).await?;
                }
                writer.flush().await?;
            }
            _ = ping.tick() => writer.send(tungstenite::Message::Ping(Default::default())).await?,
        }
    }
}

/// Returns `None` if the session was dropped on this side.
async fn read_answers(
    reader: &mut SplitStream<ClientSocket>,
    answers: &mpsc::Sender<Result<Ack, SessionError>>,
) -> Option<SessionError> {
    loop {
        let frame = match timeout(SILENCE_LIMIT, reader.next()).await {
            Err(_) => return Some(SessionError(format!("nothing heard for {SILENCE_LIMIT:?}"))),
            Ok(None) => return Some(SessionError::new("the connection ended")),
            Ok(Some(Err(error))) => return Some(SessionError::new(error)),
            Ok(Some(Ok(frame))) => frame,
        };
        match frame {
            tungstenite::Message::Text(text) => match json::decode(text.as_str()) {
                Ok(json::Frame::Ack(ack)) => answers.send(Ok(ack)).await.ok()?,
                Ok(json::Frame::Message(_)) => {
                    return Some(SessionError::new(
                        "it sent a message where acknowledgements belong",
                    ));
                }
                Err(error) => return Some(SessionError::new(error)),
            },
            tungstenite::Message::Close(Some(close)) => {
                return Some(SessionError(format!(
                    "it closed with {}: {}",
                    close.code, close.reason
                )));
            }
            tungstenite::Message::Close(None) => {
                return Some(SessionError::new("it closed the connection"));
            }
            tungstenite::Message::Binary(_) => {
                return Some(SessionError::new("it sent a binary frame"));
            }
            tungstenite::Message::Ping(_)
            | tungstenite::Message::Pong(_)
            | tungstenite::Message::Frame(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{net::TcpListener, time::Instant};
    use tokio_tungstenite::tungstenite::handshake::server;

    use super::*;

    #[test]
    fn close_reason_fits_its_frame() {
        assert_eq!(close_reason("short"), "short");
        assert_eq!(close_reason(&"é".repeat(200)).len(), 122);
    }

    #[tokio::test(start_paused = true)]
    async fn silent_peer_is_taken_for_dead() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let silent = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            #[expect(
                clippy::result_large_err,
                reason = "the callback's type is tungstenite's"
            )]
            let answer = |_: &server::Request, mut response: server::Response| {
                let name = HeaderValue::from_static(SUBPROTOCOL);
                response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
                Ok(response)
            };
            // Open, and never read: not even pings are answered.
            tokio_tungstenite::accept_hdr_async(stream, answer)
                .await
                .unwrap()
        });
        let mut session = dial(address).await.unwrap();
        let _open = silent.await.unwrap();
        let began = Instant::now();
        let lost = session.incoming.next().await.unwrap().unwrap_err();
        assert_eq!(lost, SessionError::new("nothing heard for 45s"));
        assert!(began.elapsed() >= SILENCE_LIMIT);
    }
}
