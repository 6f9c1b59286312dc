//! Raw clients of both protocols, for frames that no Ferry pod sends.

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use messages::{Ack, Hop, Message, Outcome, Payload, Role, Timestamp, json, proto::v1};
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, client::IntoClientRequest as _, protocol::WebSocketConfig},
};
use tonic::{Status, Streaming};
use uuid::Uuid;

use super::{
    LIMIT,
    door::door,
    mint::Root,
    pod::{BLUEPRINT, name},
};

/// Returns a message of the gateway.
pub(crate) fn message(root: &Root, seq: u64, payload: &str) -> Message {
    message_of(root, "gateway", seq, payload)
}

/// Returns a message of the gateway `pod`.
pub(crate) fn message_of(root: &Root, pod: &str, seq: u64, payload: &str) -> Message {
    let message = Message {
        id: Uuid::now_v7(),
        blueprint: BLUEPRINT.into(),
        seq,
        payload: Payload::from_text(payload.into()).unwrap(),
        trail: Vec::new(),
    };
    signed(root, message, pod, Role::Gateway)
}

/// Returns the message with one hop more, signed by `pod` now.
pub(crate) fn signed(root: &Root, message: Message, pod: &str, role: Role) -> Message {
    signed_at(root, message, pod, role, Timestamp::now())
}

/// Returns the message with one hop more, signed by `pod`, whose clock says `at`.
pub(crate) fn signed_at(
    root: &Root,
    mut message: Message,
    pod: &str,
    role: Role,
    at: Timestamp,
) -> Message {
    let name = name(pod);
    let hop = Hop {
        pod: format!("{pod}-1"),
        role,
        cluster: name.cluster().into(),
        namespace: name.namespace(),
        node: "a-node".into(),
        at,
        signature: String::new(),
    };
    let hop = root.signer(&name).sign(message.id, &message.trail, hop);
    message.trail.push(hop.unwrap());
    message
}

/// A payload of exactly `bytes` bytes of JSON text.
pub(crate) fn payload_of(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

/// A hop without a valid signature.
pub(crate) fn hop(cluster: &str) -> Hop {
    Hop {
        pod: "upstream-1".into(),
        role: Role::Processor,
        cluster: cluster.into(),
        namespace: "a-namespace".into(),
        node: "a-node".into(),
        at: Timestamp::now(),
        signature: "none".into(),
    }
}

#[track_caller]
fn delivered(ack: Ack) -> Ack {
    assert_eq!(ack.outcome, Outcome::Delivered, "{ack:?}");
    ack
}

/// A WebSocket client.
pub(crate) struct Socket(pub(crate) WebSocketStream<TcpStream>);

pub(crate) async fn handshake(
    relay: SocketAddr,
    subprotocol: Option<&'static str>,
) -> Result<Socket, tungstenite::Error> {
    handshake_as("gateway", relay, subprotocol).await
}

/// Opens a session in the tunnel of `peer`.
pub(crate) async fn handshake_as(
    peer: &str,
    relay: SocketAddr,
    subprotocol: Option<&'static str>,
) -> Result<Socket, tungstenite::Error> {
    let relay = door(relay, &name(peer));
    let mut request = format!("ws://{relay}/v1/carry").into_client_request()?;
    if let Some(subprotocol) = subprotocol {
        let name = tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
        request
            .headers_mut()
            .insert(name, subprotocol.parse().unwrap());
    }
    let stream = TcpStream::connect(relay).await?;
    let config = WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(None);
    tokio_tungstenite::client_async_with_config(request, stream, Some(config))
        .await
        .map(|(socket, _)| Socket(socket))
}

impl Socket {
    pub(crate) async fn open(relay: SocketAddr) -> Self {
        Self::open_as("gateway", relay).await
    }

    pub(crate) async fn open_as(peer: &str, relay: SocketAddr) -> Self {
        handshake_as(peer, relay, Some("ferry.v1")).await.unwrap()
    }

    pub(crate) async fn send(&mut self, frame: tungstenite::Message) {
        self.0.send(frame).await.unwrap();
    }

    /// Sends one text message as `count` frames of `piece`, and never the last one.
    pub(crate) async fn fragments(&mut self, piece: &str, count: usize) {
        use tungstenite::protocol::frame::{
            Frame,
            coding::{Data, OpCode},
        };
        for number in 0..count {
            let code = if number == 0 {
                Data::Text
            } else {
                Data::Continue
            };
            let frame = Frame::message(piece.to_owned(), OpCode::Data(code), false);
            self.send(tungstenite::Message::Frame(frame)).await;
        }
    }

    pub(crate) async fn message(&mut self, message: &Message) {
        self.send(tungstenite::Message::text(json::encode_message(message)))
            .await;
    }

    async fn next(&mut self) -> tungstenite::Message {
        loop {
            let frame = timeout(LIMIT, self.0.next())
                .await
                .expect("a frame must come");
            match frame
                .expect("the connection must not end without a close frame")
                .unwrap()
            {
                tungstenite::Message::Ping(_) | tungstenite::Message::Pong(_) => {}
                frame => return frame,
            }
        }
    }

    pub(crate) async fn ack(&mut self) -> Ack {
        let answer = self.answer().await;
        answer.unwrap_or_else(|frame| panic!("an acknowledgement must come, not {frame:?}"))
    }

    /// Returns the acknowledgement that comes next, or what comes in its place.
    pub(crate) async fn answer(&mut self) -> Result<Ack, tungstenite::Message> {
        let frame = self.next().await;
        match frame.to_text().map(json::decode) {
            Ok(Ok(json::Frame::Ack(ack))) => Ok(ack),
            _ => Err(frame),
        }
    }

    /// Sends one message and waits for its answer.
    pub(crate) async fn ask(&mut self, message: &Message) -> Ack {
        self.message(message).await;
        let ack = self.ack().await;
        assert_eq!(ack.id, message.id);
        ack
    }

    /// Sends one message, which must be delivered.
    pub(crate) async fn send_ok(&mut self, message: &Message) -> Ack {
        delivered(self.ask(message).await)
    }

    /// Code and reason of the close frame that must come next.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        match self.next().await {
            tungstenite::Message::Close(Some(close)) => {
                (close.code.into(), close.reason.to_string())
            }
            other => panic!("a close frame must come, not {other:?}"),
        }
    }
}

/// A gRPC client.
pub(crate) struct Stream {
    outgoing: mpsc::Sender<v1::Message>,
    incoming: Streaming<v1::Ack>,
}

impl Stream {
    pub(crate) async fn open(relay: SocketAddr) -> Result<Self, Status> {
        Self::open_as("gateway", relay).await
    }

    pub(crate) async fn open_as(peer: &str, relay: SocketAddr) -> Result<Self, Status> {
        let relay = door(relay, &name(peer));
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{relay}")).unwrap();
        let channel = endpoint.connect().await.unwrap();
        let (outgoing, messages) = mpsc::channel(16);
        let incoming = v1::relay_client::RelayClient::new(channel)
            .carry(ReceiverStream::new(messages))
            .await?
            .into_inner();
        Ok(Self { outgoing, incoming })
    }

    pub(crate) async fn send(&self, message: v1::Message) {
        self.outgoing.send(message).await.unwrap();
    }

    pub(crate) async fn ack(&mut self) -> Result<Option<Ack>, Status> {
        let answer = timeout(LIMIT, self.incoming.message())
            .await
            .expect("an answer must come")?;
        Ok(answer.map(|ack| ack.try_into().unwrap()))
    }

    pub(crate) async fn ask(&mut self, message: &Message) -> Ack {
        self.send(message.into()).await;
        let ack = self.ack().await.unwrap().expect("the stream must live");
        assert_eq!(ack.id, message.id);
        ack
    }

    /// Sends one message, which must be delivered.
    pub(crate) async fn send_ok(&mut self, message: &Message) -> Ack {
        delivered(self.ask(message).await)
    }

    /// Closes the sending half, and takes the remaining answers.
    pub(crate) async fn finish(self) -> Vec<Ack> {
        let Self {
            outgoing,
            mut incoming,
        } = self;
        drop(outgoing);
        let mut acks = Vec::new();
        while let Some(ack) = timeout(LIMIT, incoming.message()).await.unwrap().unwrap() {
            acks.push(ack.try_into().unwrap());
        }
        acks
    }
}
