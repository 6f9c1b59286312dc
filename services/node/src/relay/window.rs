//! Limits what is in flight on one connection: a number of messages and a number of bytes.

use std::sync::Arc;

use messages::{Message, limits::MAX_WINDOW_BYTES};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room for messages in flight. It is granted in the order of the requests.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    count: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    most_bytes: u32,
}

/// Room for one message, released when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    _count: OwnedSemaphorePermit,
    bytes: Option<OwnedSemaphorePermit>,
}

impl Window {
    pub(crate) fn new(messages: usize) -> Self {
        Self::with_bytes(messages, MAX_WINDOW_BYTES)
    }

    pub(crate) fn with_bytes(messages: usize, bytes: usize) -> Self {
        let most_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Self {
            count: Arc::new(Semaphore::new(messages)),
            bytes: Arc::new(Semaphore::new(bytes)),
            most_bytes,
        }
    }

    /// Waits for room for one more message of any size.
    pub(crate) async fn acquire(&self) -> Permit {
        match self.count.clone().acquire_owned().await {
            Ok(count) => Permit {
                _count: count,
                bytes: None,
            },
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits for room for the bytes of a message, and adds them to its permit.
    pub(crate) async fn charge_bytes(&self, permit: &mut Permit, message: &Message) {
        let weight = u32::try_from(weight(message)).unwrap_or(u32::MAX);
        // A message larger than the whole window passes alone.
        let bytes = self
            .bytes
            .clone()
            .acquire_many_owned(weight.min(self.most_bytes));
        if let Ok(bytes) = bytes.await {
            permit.bytes = Some(bytes);
        }
    }

    /// Waits for room for `message`, by number and by bytes.
    pub(crate) async fn acquire_for(&self, message: &Message) -> Permit {
        let mut permit = self.acquire().await;
        self.charge_bytes(&mut permit, message).await;
        permit
    }
}

/// Returns about how many bytes a message occupies in memory.
fn weight(message: &Message) -> usize {
    let hops: usize = message
        .trail
        .iter()
        .map(|hop| {
            hop.pod.len()
                + hop.cluster.len()
                + hop.namespace.len()
                + hop.node.len()
                + hop.signature.len()
                + 64
        })
        .sum();
    message.payload.len() + hops + 128
}

#[cfg(test)]
mod tests {
    use messages::Payload;
    use uuid::Uuid;

    use super::*;

    fn message(bytes: usize) -> Message {
        Message {
            id: Uuid::now_v7(),
            blueprint: "b".into(),
            seq: 1,
            payload: Payload::of(&"x".repeat(bytes)).unwrap(),
            trail: Vec::new(),
        }
    }

    #[tokio::test]
    async fn full_window_waits_for_a_permit() {
        let window = Window::new(2);
        let first = window.acquire_for(&message(1)).await;
        let _second = window.acquire_for(&message(1)).await;
        let third = tokio::spawn({
            let window = window.clone();
            async move { window.acquire_for(&message(1)).await }
        });
        tokio::task::yield_now().await;
        assert!(!third.is_finished(), "two places hold two messages");
        drop(first);
        third.await.unwrap();
    }

    #[tokio::test]
    async fn large_messages_fill_window_by_bytes() {
        let window = Window::with_bytes(100, 10_000);
        let large = window.acquire_for(&message(6_000)).await;
        let next = tokio::spawn({
            let window = window.clone();
            async move { window.acquire_for(&message(6_000)).await }
        });
        tokio::task::yield_now().await;
        assert!(!next.is_finished(), "12,000 bytes do not fit 10,000");
        drop(large);
        next.await.unwrap();
    }

    #[tokio::test]
    async fn oversized_message_passes_alone() {
        Window::with_bytes(100, 1_000)
            .acquire_for(&message(50_000))
            .await;
    }
}
