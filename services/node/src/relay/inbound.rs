//! One connection in: takes messages in order up to a limit, and acknowledges each as soon as its
//! answer is there.

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use messages::{Ack, Outcome};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    Answer, NotTaken, Pod,
    window::{Permit, Window},
};
use crate::{
    metrics::DeliveryOutcome,
    preamble::Peer,
    transport::{Incoming, ReceiveError, Received, SessionEnd, SessionHandler},
    trust::TrailCheck,
    unavailable::Unavailable,
};

impl SessionHandler for Pod {
    fn not_ready(&self) -> Option<String> {
        let missing = self.ready.missing();
        (!missing.is_empty()).then(|| format!("not ready, waiting for: {}", missing.join("; ")))
    }

    fn begin(&self) -> TaskTrackerToken {
        self.work.token()
    }

    fn serve<'a>(
        &'a self,
        peer: Peer,
        incoming: Incoming<'a>,
        acks: mpsc::Sender<Ack>,
    ) -> BoxFuture<'a, SessionEnd> {
        Box::pin(serve(self, peer, incoming, acks))
    }
}

/// Takes messages from `incoming` until it ends or the pod does. Past the window nothing more is
/// read, so that the sender has to wait. `acks` is closed once the sender is gone.
async fn serve(
    pod: &Pod,
    peer: Peer,
    incoming: Incoming<'_>,
    acks: mpsc::Sender<Ack>,
) -> SessionEnd {
    let end = tokio::select! {
        end = carry(pod, peer, incoming, acks) => end,
        // Past the drain limit the pod waits for no session.
        () = pod.shutdown.ended.cancelled() => SessionEnd::Draining,
    };
    // Only authenticated peers reach this point, so a protocol error is worth a warning.
    if let SessionEnd::Broken(
        ReceiveError::NotAMessage(reason)
        | ReceiveError::Unexpected(reason)
        | ReceiveError::TooLarge(reason),
    ) = &end
    {
        tracing::warn!(reason, "a sender broke the protocol");
    }
    end
}

async fn carry(
    pod: &Pod,
    peer: Peer,
    incoming: Incoming<'_>,
    acks: mpsc::Sender<Ack>,
) -> SessionEnd {
    let (taken, answers) = mpsc::unbounded_channel();
    let answering = answer(answers, &acks);
    let taking = async {
        let end = take(pod, peer, incoming, taken).await;
        if let SessionEnd::Broken(ReceiveError::Disconnected(_)) = end {
            // The sender is gone, so no answer can reach it.
            return Err(end);
        }
        Ok(end)
    };
    let limit = pod.config.drain_limit;
    tokio::pin!(answering);
    let (end, unavailable) = tokio::select! {
        unavailable = &mut answering => {
            let gone = || ReceiveError::Disconnected("the sender left before its answers".into());
            let end = unavailable.map_or_else(
                || SessionEnd::Broken(gone()),
                |Unavailable(reason)| SessionEnd::Unavailable(reason),
            );
            return end;
        }
        end = taking => match end {
            Ok(SessionEnd::Complete) => (SessionEnd::Complete, answering.await),
            // The wait is bounded, so that the sender gets the reason of the close.
            Ok(end) => (end, timeout(limit, answering).await.unwrap_or_default()),
            Err(gone) => return gone,
        },
    };
    match unavailable {
        Some(Unavailable(reason)) if end == SessionEnd::Complete => SessionEnd::Unavailable(reason),
        _ => end,
    }
}

type Taken = (Answer, Permit);

async fn take(
    pod: &Pod,
    peer: Peer,
    mut incoming: Incoming<'_>,
    taken: mpsc::UnboundedSender<Taken>,
) -> SessionEnd {
    let mut check = TrailCheck::new(pod.identity.roots(), peer.clone());
    let window = Window::new(pod.config.window);
    let draining = pod.shutdown.draining.cancelled();
    tokio::pin!(draining);
    loop {
        let next = async {
            let permit = window.acquire().await;
            (permit, incoming.next().await)
        };
        let (mut permit, message) = tokio::select! {
            biased;
            () = &mut draining => return SessionEnd::Draining,
            next = next => next,
        };
        let message = match message {
            None => return SessionEnd::Complete,
            Some(Err(broken)) => return SessionEnd::Broken(broken),
            Some(Ok(received)) => received,
        };
        let answer = match message {
            Received::Message(message) => {
                window.charge_bytes(&mut permit, &message).await;
                pod.take(message, &mut check).await
            }
            Received::Unreadable { id, reason } => {
                pod.metrics.counted(DeliveryOutcome::Rejected);
                let outcome = Outcome::rejected(reason);
                let ack = Ack {
                    id,
                    outcome,
                    trail: Vec::new(),
                };
                let answer: Answer = Box::pin(std::future::ready(Ok(ack)));
                Ok(answer)
            }
        };
        match answer {
            // An error means that answers are no longer sent, which ends this function too.
            Ok(answer) => drop(taken.send((answer, permit))),
            Err(NotTaken::Unavailable(Unavailable(reason))) => {
                return SessionEnd::Unavailable(reason);
            }
            Err(NotTaken::Refused(refused)) => {
                pod.metrics.refused_trail(refused.reason);
                pod.refusals.warn(&peer, &refused);
                return SessionEnd::Refused(format!("trail refused: {}", refused.cause));
            }
        }
    }
}

/// Sends answers as they come. Returns `None` once all are sent or the sender is gone.
async fn answer(
    mut taken: mpsc::UnboundedReceiver<Taken>,
    acks: &mpsc::Sender<Ack>,
) -> Option<Unavailable> {
    let mut in_flight = FuturesUnordered::new();
    let mut more = true;
    while more || !in_flight.is_empty() {
        tokio::select! {
            () = acks.closed() => return None,
            Some((answer, permit)) = in_flight.next(), if !in_flight.is_empty() => {
                let answer: Result<Ack, Unavailable> = answer;
                match answer {
                    Ok(ack) => acks.send(ack).await.ok()?,
                    Err(unavailable) => return Some(unavailable),
                }
                drop::<Permit>(permit);
            }
            next = taken.recv(), if more => match next {
                Some((answer, permit)) => in_flight.push(async move { (answer.await, permit) }),
                None => more = false,
            },
        }
    }
    None
}
