//! Makes messages from triggers, on a gateway. A message that was accepted is delivered even if the
//! client disconnects.

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, join_all};
use messages::{Ack, Message, Outcome, Payload};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, mpsc},
    time::Instant,
};
use uuid::Uuid;

use super::{Destination, Pod, link::PendingAck, pass_to_all};
use crate::{
    hooks::{self, Headers},
    metrics::DeliveryOutcome,
    unavailable::Unavailable,
};

/// Messages of one trigger in flight, and answers that wait for a slow client.
const ANSWERS_AHEAD: usize = 1024;

/// Messages of an auto-trigger whose durations are logged.
const MAX_TIMES: usize = 1000;

/// The result of one message.
pub(crate) type AckResult = Result<Acknowledged, Unavailable>;

/// A message that was answered.
pub(crate) struct Acknowledged {
    /// One acknowledgement for each connection out, in their order.
    pub(crate) acks: Vec<Ack>,
    /// Time from its creation to the last of them, by a monotonic clock.
    pub(crate) took: Duration,
}

impl Acknowledged {
    fn is_delivered(&self) -> bool {
        self.acks.iter().all(|ack| ack.outcome.is_delivered())
    }
}

/// The payloads of one trigger, made one by one.
pub(crate) type Payloads = Box<dyn Iterator<Item = Payload> + Send>;

/// The source of a gateway's messages. A gateway has one.
pub(crate) struct Origin {
    pod: Arc<Pod>,
    /// `seq` of the next message. Locked while a message is sent over the connections out, so that
    /// their order is that of `seq`.
    next: Mutex<u64>,
}

impl Origin {
    pub(crate) fn new(pod: Arc<Pod>) -> Arc<Self> {
        Arc::new(Self {
            pod,
            next: Mutex::new(1),
        })
    }

    /// Sends a message for each payload. The answers have the order of the messages; there are
    /// fewer only if the pod ends. `held` is released when all are answered.
    pub(crate) fn trigger(
        self: &Arc<Self>,
        payloads: Payloads,
        headers: Headers,
        held: Option<OwnedSemaphorePermit>,
    ) -> mpsc::Receiver<AckResult> {
        let (answers, receiver) = mpsc::channel(ANSWERS_AHEAD);
        let (made, waiting) = mpsc::channel(ANSWERS_AHEAD);
        let origin = self.clone();
        self.pod.work.spawn(async move {
            tokio::join!(
                origin.make_all(payloads, &headers, made),
                collect(waiting, answers)
            );
            drop(held);
        });
        receiver
    }

    async fn make_all(
        &self,
        payloads: Payloads,
        headers: &Headers,
        made: mpsc::Sender<BoxFuture<'static, AckResult>>,
    ) {
        for payload in payloads {
            let answer = tokio::select! {
                answer = self.make(payload, headers) => answer,
                () = self.pod.shutdown.ended.cancelled() => return,
            };
            let ended = answer.is_err();
            let answer = answer.unwrap_or_else(|error| Box::pin(std::future::ready(Err(error))));
            if made.send(answer).await.is_err() || ended {
                return;
            }
        }
    }

    /// Makes one message and sends it over every connection out.
    async fn make(
        &self,
        payload: Payload,
        headers: &Headers,
    ) -> Result<BoxFuture<'static, AckResult>, Unavailable> {
        let pod = &self.pod;
        let flying = pod.metrics.in_flight();
        let began = Instant::now();
        let payload = match self.accepted(payload, headers).await {
            Ok(payload) => payload,
            Err(reason) => {
                pod.metrics.counted(DeliveryOutcome::Rejected);
                let outcome = Outcome::rejected(reason);
                let ack = Ack {
                    id: Uuid::now_v7(),
                    outcome,
                    trail: Vec::new(),
                };
                let answered = Acknowledged {
                    acks: vec![ack],
                    took: began.elapsed(),
                };
                return Ok(Box::pin(std::future::ready(Ok(answered))));
            }
        };
        let Destination::Links(links) = &pod.destination else {
            return Err(Unavailable("this pod has no connection out".into()));
        };
        let pending = {
            let mut next = self.next.lock().await;
            // Made under the lock, so that ids and `seq` have one order.
            let id = Uuid::now_v7();
            // A gateway has no upstream to push back on, so it waits for its identity.
            let hop = pod.identity.sign_hop(&pod.config, id, &[]).await;
            let message = Message {
                id,
                blueprint: pod.config.name.blueprint().to_owned(),
                seq: *next,
                payload,
                trail: vec![hop],
            };
            *next += 1;
            pass_to_all(links, message).await?
        };
        let metrics = pod.metrics.clone();
        Ok(Box::pin(async move {
            let branches: Vec<_> =
                join_all(pending.into_iter().map(PendingAck::timed_answer)).await;
            let timed = branches
                .into_iter()
                .collect::<Result<Vec<_>, Unavailable>>()?;
            drop(flying);
            let last = timed.iter().map(|(_, at)| *at).max().unwrap_or(began);
            let answered = Acknowledged {
                acks: timed.into_iter().map(|(ack, _)| ack).collect(),
                took: last.saturating_duration_since(began),
            };
            metrics.counted(if answered.is_delivered() {
                DeliveryOutcome::Delivered
            } else {
                DeliveryOutcome::Rejected
            });
            Ok(answered)
        }))
    }

    /// Returns the payload to send, or the reason of the refusal.
    async fn accepted(&self, payload: Payload, headers: &Headers) -> Result<Payload, String> {
        payload.check_size().map_err(|error| error.to_string())?;
        let payload = hooks::guarded(self.pod.hooks.trigger(payload, headers)).await?;
        payload
            .check_size()
            .map_err(|error| format!("after the hook: {error}"))?;
        Ok(payload)
    }
}

/// Passes answers on in the order of their messages, even if the receiver is dropped.
async fn collect(
    mut waiting: mpsc::Receiver<BoxFuture<'static, AckResult>>,
    answers: mpsc::Sender<AckResult>,
) {
    while let Some(answer) = waiting.recv().await {
        let _ = answers.send(answer.await).await;
    }
}

/// Returns the payload of a message for which the trigger has none.
pub(crate) fn default_payload(number: u32, count: u32, pod: &str) -> Payload {
    #[derive(serde::Serialize)]
    struct Text {
        text: String,
    }
    let text = format!("message {number} of {count} from {pod}");
    Payload::of(&Text { text }).expect("a string can always be written as JSON")
}

/// Sends `count` messages once the pod is ready, and logs the result.
pub(crate) async fn auto_trigger(origin: Arc<Origin>, count: u32) {
    let pod = origin.pod.clone();
    let mut accepting = pod.ready.accepting();
    tokio::select! {
        result = accepting.wait_for(|accepting| *accepting) => if result.is_err() { return },
        () = pod.shutdown.draining.cancelled() => return,
    }
    drop(accepting);
    tracing::info!("🔁 Auto-trigger starting — sending {count} messages");
    let name = pod.config.pod_name.clone();
    let payloads = (1..=count).map(move |number| default_payload(number, count, &name));
    let mut answers = origin.trigger(Box::new(payloads), Headers::default(), None);
    let mut delivered = 0_u32;
    let mut times = vec![];
    while let Some(answer) = answers.recv().await {
        match answer {
            Ok(answered) if answered.is_delivered() => {
                delivered += 1;
                if times.len() < MAX_TIMES {
                    times.push(answered.took.as_micros().to_string());
                }
            }
            Ok(answered) => {
                for ack in answered.acks {
                    if let Outcome::Rejected { reason } = ack.outcome {
                        let id = ack.id;
                        tracing::warn!(%id, reason, "a message of the auto-trigger was rejected");
                    }
                }
            }
            Err(Unavailable(reason)) => {
                tracing::warn!(reason, "a message of the auto-trigger was not sent")
            }
        }
    }
    // Times on trails are by other clocks. If only some messages were delivered, it would not be
    // clear which took how long.
    if delivered == count {
        tracing::info!("acknowledged after {} µs", times.join(", "));
    }
    tracing::info!("🔁 Auto-trigger complete — {delivered}/{count} messages sent.");
}
