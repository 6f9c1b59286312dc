//! Takes messages in order, passes them on in order, and acknowledges each. Knows no protocol.

use std::sync::Arc;

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use messages::{Ack, Message, Outcome, Role};
use tokio_util::task::TaskTracker;

use crate::{
    config::Config,
    hooks::{self, ErasedHooks},
    metrics::{DeliveryOutcome, Metrics},
    ready::Ready,
    shutdown::Shutdown,
    sign::Identity,
    store::{self, Store},
    trust::{Refusals, RefusedTrail, TrailCheck},
    unavailable::Unavailable,
};

pub(crate) mod backoff;
mod inbound;
pub(crate) mod link;
pub(crate) mod origin;
pub(crate) mod window;

use link::{Link, PendingAck};

/// The state that the parts of one pod share.
pub(crate) struct Pod {
    pub(crate) config: Config,
    pub(crate) hooks: Arc<dyn ErasedHooks>,
    pub(crate) identity: Identity,
    pub(crate) ready: Ready,
    pub(crate) shutdown: Shutdown,
    pub(crate) metrics: Metrics,
    pub(crate) refusals: Refusals,
    pub(crate) destination: Destination,
    /// Sessions and triggers that must finish before the pod ends.
    pub(crate) work: TaskTracker,
}

/// The next stop of a pod's messages.
pub(crate) enum Destination {
    /// The connections out, in the order of the blueprint.
    Links(Vec<Link>),
    /// The store of a sink.
    Store(Store),
}

/// The answer to one message, once the far end has given it.
pub(crate) type Answer = BoxFuture<'static, Result<Ack, Unavailable>>;

/// Why a message was not taken. It stays with its sender.
#[derive(Debug)]
pub(crate) enum NotTaken {
    Unavailable(Unavailable),
    Refused(RefusedTrail),
}

impl From<Unavailable> for NotTaken {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable)
    }
}

impl From<RefusedTrail> for NotTaken {
    fn from(refused: RefusedTrail) -> Self {
        Self::Refused(refused)
    }
}

impl Pod {
    /// Takes one message: checks it and its trail, signs it, calls the hook and passes it on. Returns once it is
    /// passed on, which keeps the order. The returned future resolves with the acknowledgement.
    pub(crate) async fn take(
        &self,
        message: Message,
        check: &mut TrailCheck,
    ) -> Result<Answer, NotTaken> {
        let flying = self.metrics.in_flight();
        let metrics = self.metrics.clone();
        let answer = self.pass_on(message, check).await?;
        Ok(Box::pin(async move {
            let ack = answer.await?;
            drop(flying);
            // The sink counts where repeats are known.
            metrics.counted(DeliveryOutcome::from(&ack.outcome));
            Ok(ack)
        }))
    }

    async fn pass_on(
        &self,
        mut message: Message,
        check: &mut TrailCheck,
    ) -> Result<Answer, NotTaken> {
        if let Err(reason) = self.admissible(&message) {
            if message.trail.len() > messages::limits::MAX_TRAIL_HOPS {
                // The trail is not sent back: an acknowledgement keeps the limits of a message.
                message.trail.clear();
            }
            return Ok(rejected(message, reason));
        }
        // Before anything comes of it: not even a repeat may be told by what is forged.
        check.verify(&self.config, &message)?;
        // Without a valid identity the message waits, and its session with it, to keep the order.
        let hop = tokio::select! {
            biased;
            hop = self.identity.sign_hop(&self.config, message.id, &message.trail) => hop,
            () = self.shutdown.draining.cancelled() => return Err(Unavailable::ending().into()),
        };
        message.trail.push(hop);
        match &self.destination {
            Destination::Links(links) => {
                let payload = message.payload.clone();
                match hooks::guarded(self.hooks.relay(payload)).await {
                    Ok(payload) => message.payload = payload,
                    Err(reason) => return Ok(rejected(message, reason)),
                }
                if let Err(error) = message.payload.check_size() {
                    return Ok(rejected(message, format!("after the hook: {error}")));
                }
                let pending = pass_to_all(links, message).await?;
                Ok(Box::pin(joined(pending)))
            }
            Destination::Store(store) => Ok(self.finish(store, message).await?),
        }
    }

    /// Ends the way of a message at a sink: calls the hook, then stores it.
    async fn finish(&self, store: &Store, message: Message) -> Result<Answer, Unavailable> {
        let key = store::Key::of(&message);
        if !store.holds(&key)? {
            let payload = message.payload.clone();
            if let Err(reason) = hooks::guarded(self.hooks.terminator(payload)).await {
                return Ok(rejected(message, reason));
            }
        }
        let (id, trail) = (message.id, message.trail.clone());
        let stored = store.append(key, message).await?;
        let metrics = self.metrics.clone();
        Ok(Box::pin(async move {
            if stored.await? == store::Stored::Before {
                metrics.counted(DeliveryOutcome::Repeated);
            }
            Ok(Ack {
                id,
                outcome: Outcome::Delivered,
                trail,
            })
        }))
    }

    fn admissible(&self, message: &Message) -> Result<(), String> {
        if self.config.role == Role::Gateway {
            return Err("a gateway takes no messages, it makes them".into());
        }
        if message.blueprint != self.config.name.blueprint() {
            let given: String = message.blueprint.chars().take(64).collect();
            return Err(format!(
                "blueprint `{given}` is not `{}`, which this pod belongs to",
                self.config.name.blueprint()
            ));
        }
        message
            .validate()
            .map_err(|rejection| rejection.to_string())
    }
}

/// Sends one message over every connection out, in their order.
pub(crate) async fn pass_to_all(
    links: &[Link],
    message: Message,
) -> Result<Vec<PendingAck>, Unavailable> {
    let message = Arc::new(message);
    let mut pending = Vec::with_capacity(links.len());
    for link in links {
        pending.push(link.pass(message.clone()).await?);
    }
    Ok(pending)
}

/// The one answer of all branches: the first rejection to arrive, otherwise the acknowledgement
/// that came last.
async fn joined(pending: Vec<PendingAck>) -> Result<Ack, Unavailable> {
    let mut branches: FuturesUnordered<_> = pending.into_iter().map(PendingAck::answer).collect();
    let mut result: Option<Ack> = None;
    while let Some(ack) = branches.next().await {
        let ack = ack?;
        if result
            .as_ref()
            .is_none_or(|before| before.outcome.is_delivered())
        {
            result = Some(ack);
        }
    }
    result.ok_or_else(|| Unavailable("this pod has no connection out".into()))
}

/// Returns an answer that needs no far end.
pub(crate) fn rejected(message: Message, reason: impl Into<String>) -> Answer {
    let ack = Ack {
        id: message.id,
        outcome: Outcome::rejected(reason.into()),
        trail: message.trail,
    };
    Box::pin(std::future::ready(Ok(ack)))
}
