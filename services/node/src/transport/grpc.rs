//! Ferry over gRPC: `ferry.v1.Relay/Carry`, with the standard health and reflection services beside
//! it.

use std::{net::SocketAddr, sync::Arc};

use futures_util::{StreamExt as _, stream, stream::BoxStream};
use messages::{
    Ack, Message, TIME_HEADER,
    limits::MAX_FRAME_BYTES,
    proto::{
        self,
        v1::{
            self,
            relay_client::RelayClient,
            relay_server::{Relay, RelayServer},
        },
    },
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Response, Status, Streaming,
    metadata::MetadataValue,
    service::Routes,
    transport::{Channel, Endpoint},
};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_check_response, health_client::HealthClient},
    server::HealthReporter,
};

use super::{
    ACK_BUFFER, Incoming, PING_INTERVAL, ReceiveError, Received, SESSION_BUFFER, SILENCE_LIMIT,
    Session, SessionEnd, SessionError, SessionHandler, unreadable,
};
use crate::{
    preamble::Peer,
    ready::Ready,
    skew::{self, Asked},
};

/// The service's full name, as health checks ask for it.
const SERVICE: &str = "ferry.v1.Relay";
/// HTTP/2 flow control windows, in bytes: the largest message fits into each.
pub(crate) const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
pub(crate) const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// The descriptors do not fit the reflection service, so the pod has no gRPC side.
#[derive(Debug, thiserror::Error)]
#[error("gRPC reflection: {0}")]
pub(crate) struct ReflectionError(#[from] tonic_reflection::server::Error);

/// Returns the gRPC services of a pod as an axum router.
pub(crate) fn router(
    handler: Arc<dyn SessionHandler>,
    health: HealthReporter,
) -> Result<axum::Router, ReflectionError> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let relay = RelayServer::new(Service(handler)).max_decoding_message_size(MAX_FRAME_BYTES);
    let health = tonic_health::pb::health_server::HealthServer::new(
        tonic_health::server::HealthService::from_health_reporter(health),
    );
    Ok(Routes::new(relay)
        .add_service(health)
        .add_service(reflection)
        .into_axum_router())
}

/// Reports readiness to the health service until the pod is gone.
pub(crate) async fn follow_readiness(health: HealthReporter, ready: Ready) {
    let mut accepting = ready.accepting();
    loop {
        let status = match *accepting.borrow_and_update() {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        for service in ["", SERVICE] {
            health.set_service_status(service, status).await;
        }
        if accepting.changed().await.is_err() {
            return;
        }
    }
}

struct Service(Arc<dyn SessionHandler>);

#[tonic::async_trait]
impl Relay for Service {
    type CarryStream = BoxStream<'static, Result<v1::Ack, Status>>;

    async fn carry(
        &self,
        request: Request<Streaming<v1::Message>>,
    ) -> Result<Response<Self::CarryStream>, Status> {
        let handler = self.0.clone();
        if let Some(reason) = handler.not_ready() {
            return Err(Status::unavailable(reason));
        }
        let Some(peer) = request.extensions().get::<Peer>().cloned() else {
            return Err(Status::internal("the connection has no peer"));
        };
        let (acks, answers) = mpsc::channel(ACK_BUFFER);
        let (ended, end) = oneshot::channel();
        let messages = incoming(request.into_inner());
        let working = handler.begin();
        tokio::spawn(async move {
            let end = handler.serve(peer, messages, acks).await;
            tracing::debug!(?end, "a gRPC session ended");
            // The sender may be gone; then no response waits for the status.
            let _ = ended.send(status(end));
            drop(working);
        });
        let answers = ReceiverStream::new(answers).map(|ack| Ok(v1::Ack::from(ack)));
        let last = stream::once(end).filter_map(async |end| end.ok().flatten().map(Err));
        let mut response = Response::new(answers.chain(last).boxed());
        if let Ok(time) = skew::time().parse() {
            response.metadata_mut().insert(TIME_HEADER, time);
        }
        Ok(response)
    }
}

/// Returns the status of a session's end. `None` is `OK`.
fn status(end: SessionEnd) -> Option<Status> {
    match end {
        SessionEnd::Complete => None,
        SessionEnd::Draining => Some(Status::unavailable("the pod is ending")),
        SessionEnd::Unavailable(reason) => Some(Status::unavailable(reason)),
        SessionEnd::Refused(reason) => Some(Status::permission_denied(reason)),
        SessionEnd::Broken(
            ReceiveError::NotAMessage(reason) | ReceiveError::Unexpected(reason),
        ) => Some(Status::invalid_argument(reason)),
        SessionEnd::Broken(ReceiveError::TooLarge(reason)) => {
            Some(Status::resource_exhausted(reason))
        }
        SessionEnd::Broken(ReceiveError::Disconnected(reason)) => Some(Status::cancelled(reason)),
    }
}

fn incoming<'a>(messages: Streaming<v1::Message>) -> Incoming<'a> {
    messages
        .map(|message| match message {
            Ok(message) => match Message::try_from(message) {
                Ok(message) => Ok(Received::Message(message)),
                Err(error) => unreadable(&error),
            },
            Err(status) => Err(match status.code() {
                // The codes of tonic for a frame over `max_decoding_message_size`.
                Code::OutOfRange | Code::ResourceExhausted => {
                    ReceiveError::TooLarge(status.message().into())
                }
                // Its codes for bytes that are not protobuf.
                Code::Internal | Code::InvalidArgument => {
                    ReceiveError::NotAMessage(status.message().into())
                }
                _ => ReceiveError::Disconnected(status.to_string()),
            }),
        })
        .boxed()
}

/// Opens a session. It begins once the peer's health service answers `SERVING`.
pub(super) async fn dial(address: SocketAddr) -> Result<Session, SessionError> {
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .map_err(SessionError::new)?
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(SILENCE_LIMIT - PING_INTERVAL)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect()
        .await
        .map_err(|error| lost_transport(&error))?;
    check_health(channel.clone()).await?;
    let (outgoing, messages) = mpsc::channel::<Arc<Message>>(SESSION_BUFFER);
    let messages = ReceiverStream::new(messages).map(|message| v1::Message::from(&*message));
    // The connection is open by now, so the answer takes one round trip.
    let asked = Asked::now();
    let answer = RelayClient::new(channel)
        .max_decoding_message_size(MAX_FRAME_BYTES)
        .carry(messages)
        .await
        .map_err(|status| lost(&status))?;
    let said = answer.metadata().get(TIME_HEADER);
    let skew = asked.skew(said.map(MetadataValue::as_encoded_bytes));
    let incoming = answer.into_inner().map(|answer| match answer {
        Ok(ack) => Ack::try_from(ack).map_err(SessionError::new),
        Err(status) => Err(lost(&status)),
    });
    Ok(Session {
        outgoing,
        incoming: incoming.boxed(),
        skew,
    })
}

async fn check_health(channel: Channel) -> Result<(), SessionError> {
    let request = HealthCheckRequest {
        service: SERVICE.into(),
    };
    let answer = HealthClient::new(channel)
        .check(request)
        .await
        .map_err(|status| lost(&status))?
        .into_inner();
    match answer.status() {
        health_check_response::ServingStatus::Serving => Ok(()),
        other => Err(SessionError(format!(
            "its health service says {}",
            other.as_str_name()
        ))),
    }
}

fn lost(status: &Status) -> SessionError {
    SessionError(format!("{:?}: {}", status.code(), status.message()))
}

/// Returns the innermost cause: tonic's own text is only "transport error".
fn lost_transport(error: &tonic::transport::Error) -> SessionError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    SessionError::new(cause)
}
