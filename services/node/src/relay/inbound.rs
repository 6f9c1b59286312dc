//! One connection in: messages are taken in order up to a bound, and answered as the answers come.

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use messages::{Ack, Outcome};
use tokio::{sync::mpsc, time::timeout};

use super::{
    Answer, Later, Pod,
    window::{Place, Window},
};
use crate::{
    metrics::Counted,
    shutdown::Phase,
    transport::{Broken, Incoming, Received},
};

/// Why a connection in ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The sender has nothing more to send, and everything is answered.
    Complete,
    /// The pod is ending; what it took is answered.
    Draining,
    /// The pod cannot take messages now; the sender shall come again.
    Later(String),
    /// The sender broke the protocol, or is gone.
    Broken(Broken),
}

/// Acknowledgements that a session may have ready ahead of the socket.
pub(crate) const ACK_BUFFER: usize = 64;

/// Takes messages from `incoming` until it ends or the pod does. Past the window nothing more is read, so that the
/// sender feels it. `acks` is closed when nobody can be answered any more.
pub(crate) async fn serve(pod: &Pod, incoming: Incoming<'_>, acks: mpsc::Sender<Ack>) -> End {
    let end = tokio::select! {
        end = carry(pod, incoming, acks) => end,
        // Past its limit the pod waits for nobody.
        () = pod.life.reached(Phase::Ended) => End::Draining,
    };
    // Whoever gets here has shown an identity that is let in: somebody should look at it.
    if let End::Broken(
        Broken::NotAMessage(reason) | Broken::OutOfPlace(reason) | Broken::TooLarge(reason),
    ) = &end
    {
        tracing::warn!(reason, "a sender broke the protocol");
    }
    end
}

async fn carry(pod: &Pod, incoming: Incoming<'_>, acks: mpsc::Sender<Ack>) -> End {
    let (taken, answers) = mpsc::unbounded_channel();
    let answering = answer(answers, &acks);
    let taking = async {
        let end = take(pod, incoming, taken).await;
        if let End::Broken(Broken::Gone(_)) = end {
            // Nobody is there to be answered.
            return Err(end);
        }
        Ok(end)
    };
    let limit = pod.config.drain_limit;
    tokio::pin!(answering);
    let (end, trouble) = tokio::select! {
        trouble = &mut answering => {
            let end = trouble.map_or_else(
                || End::Broken(Broken::Gone("the sender left before its answers".into())),
                |Later(reason)| End::Later(reason),
            );
            return end;
        }
        end = taking => match end {
            Ok(End::Complete) => (End::Complete, answering.await),
            // The connection is to be closed for a reason: bounded, so that the reason arrives.
            Ok(end) => (end, timeout(limit, answering).await.unwrap_or_default()),
            Err(gone) => return gone,
        },
    };
    match trouble {
        Some(Later(reason)) if end == End::Complete => End::Later(reason),
        _ => end,
    }
}

type Taken = (Answer, Place);

async fn take(pod: &Pod, mut incoming: Incoming<'_>, taken: mpsc::UnboundedSender<Taken>) -> End {
    let window = Window::new(pod.config.window);
    let draining = pod.life.reached(Phase::Draining);
    tokio::pin!(draining);
    loop {
        let next = async {
            let place = window.place().await;
            (place, incoming.next().await)
        };
        let (mut place, message) = tokio::select! {
            biased;
            () = &mut draining => return End::Draining,
            next = next => next,
        };
        let message = match message {
            None => return End::Complete,
            Some(Err(broken)) => return End::Broken(broken),
            Some(Ok(received)) => received,
        };
        let answer = match message {
            Received::Message(message) => {
                window.weigh(&mut place, &message).await;
                pod.take(message).await
            }
            Received::Unreadable { id, reason } => {
                pod.metrics.counted(Counted::Rejected);
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
            // An error means that nobody answers any more, which ends this too.
            Ok(answer) => drop(taken.send((answer, place))),
            Err(Later(reason)) => return End::Later(reason),
        }
    }
}

/// Sends answers as they come until all are sent. `None` when they are, or when the sender is gone.
async fn answer(
    mut taken: mpsc::UnboundedReceiver<Taken>,
    acks: &mpsc::Sender<Ack>,
) -> Option<Later> {
    let mut in_flight = FuturesUnordered::new();
    let mut more = true;
    while more || !in_flight.is_empty() {
        tokio::select! {
            () = acks.closed() => return None,
            Some((answer, place)) = in_flight.next(), if !in_flight.is_empty() => {
                let answer: Result<Ack, Later> = answer;
                match answer {
                    Ok(ack) => acks.send(ack).await.ok()?,
                    Err(later) => return Some(later),
                }
                drop::<Place>(place);
            }
            next = taken.recv(), if more => match next {
                Some((answer, place)) => in_flight.push(async move { (answer.await, place) }),
                None => more = false,
            },
        }
    }
    None
}
