//! The two protocols, each over any stream. They carry and translate; they do not retry, count or sign.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{future::BoxFuture, stream::BoxStream};
use messages::{Ack, DecodeError, Message, Protocol};
use tokio::sync::mpsc;
use tokio_util::task::task_tracker::TaskTrackerToken;
use uuid::Uuid;

pub(crate) mod grpc;
pub(crate) mod websocket;

/// How often each side shows that it is there.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(15);
/// After this long without a sign of the other side it is taken for dead: two pings went unanswered.
pub(crate) const SILENCE_LIMIT: Duration = Duration::from_secs(45);
/// Longest time from dialling to an answer through the tunnel.
pub(crate) const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// Messages that a session takes ahead of the socket.
const SESSION_BUFFER: usize = 16;

/// An open connection to a downstream pod. It begins with an answer of that pod through the tunnel.
pub(crate) struct Session {
    /// Messages in the order they are to be carried. Dropping it says that no more will come.
    pub(crate) outgoing: mpsc::Sender<Arc<Message>>,
    /// Acknowledgements as they come. Ends after the first error.
    pub(crate) incoming: BoxStream<'static, Result<Ack, Lost>>,
    /// How many seconds the far pod's clock is ahead of this one's; `None` where it did not say its time.
    pub(crate) skew: Option<f64>,
}

/// Why there is no connection, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lost(pub(crate) String);

impl Lost {
    pub(crate) fn because(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Opens one session. Called again for each.
pub(crate) type Dial = Arc<dyn Fn() -> BoxFuture<'static, Result<Session, Lost>> + Send + Sync>;

/// Dials `address` with `protocol`.
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
                .unwrap_or_else(|_| Err(Lost(format!("no answer within {DIAL_LIMIT:?}"))))
        })
    })
}

/// Why the messages of an incoming connection ended before their time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// What came is no message.
    NotAMessage(String),
    /// A message, but one that has no place here, such as an acknowledgement or a binary frame.
    OutOfPlace(String),
    /// A frame over the limit.
    TooLarge(String),
    /// The connection is gone; nobody is there to be told.
    Gone(String),
}

/// What came as one frame.
#[derive(Debug)]
pub(crate) enum Received {
    Message(Message),
    /// Not all of it could be read, but whom to answer could.
    Unreadable {
        id: Uuid,
        reason: String,
    },
}

/// Judges a frame that could not be read.
pub(crate) fn unreadable(error: &DecodeError) -> Result<Received, Broken> {
    match error.id() {
        Some(id) => Ok(Received::Unreadable {
            id,
            reason: error.to_string(),
        }),
        None => Err(Broken::NotAMessage(error.to_string())),
    }
}

/// What a pod receives on one connection.
pub(crate) type Incoming<'a> = BoxStream<'a, Result<Received, Broken>>;

/// Acknowledgements that a session may have ready ahead of the socket.
pub(crate) const ACK_BUFFER: usize = 64;

/// Why a connection in ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The sender has nothing more to send, and everything is answered.
    Complete,
    /// The pod is ending; what it took is answered.
    Draining,
    /// The pod cannot take messages now; the sender shall come again.
    Unavailable(String),
    /// The sender broke the protocol, or is gone.
    Broken(Broken),
}

/// Takes the messages of connections in, whichever protocol carries them.
pub(crate) trait SessionHandler: Send + Sync {
    /// Returns why the pod takes no new sessions now, or `None` if it takes them.
    fn not_ready(&self) -> Option<String>;

    /// Registers a session. The pod ends only after the returned value was dropped.
    fn begin(&self) -> TaskTrackerToken;

    /// Takes messages from `incoming` until it ends or the pod does, and answers into `acks`.
    fn serve<'a>(&'a self, incoming: Incoming<'a>, acks: mpsc::Sender<Ack>) -> BoxFuture<'a, End>;
}
