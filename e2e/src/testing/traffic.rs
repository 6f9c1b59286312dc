//! Messages of a ferry: sent, proven, and read again at its sink.

use harness::{
    pinhole::{Acks, Pinhole, Trigger},
    proof::{self, Verdict},
    trail::StoredMessage,
};
use host::timeline::Timeline;
use messages::{Ack, Payload};

use super::ferry::{Ferry, Origin};

/// What goes into a ferry's only gateway and comes out of its only sink.
#[derive(Clone, Copy, Debug)]
pub struct Messages<'a>(pub(super) &'a Ferry);

impl Messages<'_> {
    /// Proves the messages that the blueprint sends by itself. In an environment that was attached to, which has seen
    /// other messages since, as many fresh ones.
    pub async fn prove(&self) -> anyhow::Result<Verdict> {
        let environment = self.0.environment()?;
        match self.0.origin() {
            Origin::Made => {
                proof::auto_trigger(&environment, self.0.blueprint(), &Timeline::default()).await
            }
            Origin::Attached => {
                proof::again(&environment, self.0.blueprint(), &Timeline::default()).await
            }
        }
    }

    /// Sends each payload once through the gateway, and proves that it arrived once over each route, in order, intact.
    pub async fn deliver(&self, payloads: Vec<Payload>) -> anyhow::Result<Verdict> {
        let environment = self.0.environment()?;
        proof::trigger(
            &environment,
            &self.0.gateway()?,
            payloads,
            &Timeline::default(),
        )
        .await
    }

    /// Sends without checking anything; the acknowledgements.
    pub async fn trigger(&self, trigger: &Trigger) -> anyhow::Result<Vec<Ack>> {
        Pinhole::of(&self.0.gateway()?)?.trigger_all(trigger).await
    }

    /// The same; its acknowledgements come as they arrive.
    pub async fn begin(&self, trigger: &Trigger) -> anyhow::Result<Acks> {
        Pinhole::of(&self.0.gateway()?)?.trigger(trigger).await
    }

    /// The index of the last message that the sink has stored; 0 where there is none.
    pub async fn last_index(&self) -> anyhow::Result<u64> {
        Pinhole::of(&self.0.sink()?)?.last_index().await
    }

    /// What the sink has stored after the message of index `after`.
    pub async fn output(&self, after: u64) -> anyhow::Result<Vec<StoredMessage>> {
        Pinhole::of(&self.0.sink()?)?.output(after).await
    }
}
