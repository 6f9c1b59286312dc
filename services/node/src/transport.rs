//! The two protocols. They carry and translate; they do not retry, count or sign.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{future::BoxFuture, stream::BoxStream};
use messages::{Ack, DecodeError, Message, Protocol};
use tokio::sync::mpsc;
use tokio_util::task::task_tracker::TaskTrackerToken;
use uuid::Uuid;

use crate::preamble::Peer;

pub(crate) mod grpc;
pub(crate) mod websocket;

/// Time between two pings of each side.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(15);
/// A peer that sends nothing for this long counts as dead: two pings went unanswered.
pub(crate) const SILENCE_LIMIT: Duration = Duration::from_secs(45);
/// Longest time from dialling to an answer through the tunnel.
pub(crate) const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// Messages that a session takes ahead of the socket.
const SESSION_BUFFER: usize = 16;

/// An open session with a downstream pod. It begins with an answer of that pod through the tunnel.
pub(crate) struct Session {
    /// Messages in the order in which they are sent. To drop it closes the sending half.
    pub(crate) outgoing: mpsc::Sender<Arc<Message>>,
    /// Acknowledgements as they come. Ends after the first error.
    pub(crate) incoming: BoxStream<'static, Result<Ack, SessionError>>,
    /// Seconds that the peer's clock is ahead of this pod's; `None` if the peer sent no time.
    pub(crate) skew: Option<f64>,
}

/// Why a session could not be opened, or was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionError(pub(crate) String);

impl SessionError {
    pub(crate) fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Opens one session at each call.
pub(crate) type Dial =
    Arc<dyn Fn() -> BoxFuture<'static, Result<Session, SessionError>> + Send + Sync>;

/// Returns a dialler of `address` by `protocol`.
pub(crate) fn dialer(protocol: Protocol, address: SocketAddr) -> Dial {
    Arc::new(move || {
        Box::pin(async move {
            let session = async {
                match protocol {
                    Protocol::Websocket => websocket::dial(address).await,
                    Protocol::Grpc => grpc::dial(address).await,
                }
            };
            tokio::time::timeout(DIAL_LIMIT, session)
                .await
                .unwrap_or_else(|_| Err(SessionError(format!("no answer within {DIAL_LIMIT:?}"))))
        })
    })
}

/// Why the messages of a connection in ended early.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReceiveError {
    /// The frame is not a message.
    NotAMessage(String),
    /// The frame is of a kind that is not expected here, such as an acknowledgement or binary.
    Unexpected(String),
    /// The frame is over the limit.
    TooLarge(String),
    /// The connection is gone, so no answer can reach the sender.
    Disconnected(String),
}

/// The content of one frame.
#[derive(Debug)]
pub(crate) enum Received {
    Message(Message),
    /// A message whose id could be read and the rest could not: it is rejected by its id.
    Unreadable {
        id: Uuid,
        reason: String,
    },
}

/// Returns a rejectable message if the id could be read, or why the session ends.
pub(crate) fn unreadable(error: &DecodeError) -> Result<Received, ReceiveError> {
    match error.id() {
        Some(id) => Ok(Received::Unreadable {
            id,
            reason: error.to_string(),
        }),
        None => Err(ReceiveError::NotAMessage(error.to_string())),
    }
}

/// The frames that a pod receives on one connection.
pub(crate) type Incoming<'a> = BoxStream<'a, Result<Received, ReceiveError>>;

/// Acknowledgements that a session may have ready ahead of the socket.
pub(crate) const ACK_BUFFER: usize = 64;

/// Why a connection in ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// The sender has nothing more to send, and everything is answered.
    Complete,
    /// The pod is shutting down, and has acknowledged the messages that it took.
    Draining,
    /// The pod cannot take messages now; the sender retries later.
    Unavailable(String),
    /// The trail of a message is not what its way must have left.
    Refused(String),
    /// The sender broke the protocol, or is gone.
    Broken(ReceiveError),
}

/// Takes the messages of connections in, whichever protocol carries them.
pub(crate) trait SessionHandler: Send + Sync {
    /// Returns why the pod takes no new sessions now, or `None` if it takes them.
    fn not_ready(&self) -> Option<String>;

    /// Registers a session. The pod ends only after the returned value was dropped.
    fn begin(&self) -> TaskTrackerToken;

    /// Takes messages of `peer` from `incoming` until it ends or the pod does, and answers into
    /// `acks`.
    fn serve<'a>(
        &'a self,
        peer: Peer,
        incoming: Incoming<'a>,
        acks: mpsc::Sender<Ack>,
    ) -> BoxFuture<'a, SessionEnd>;
}
