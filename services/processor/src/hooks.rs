//! What a processor does with each message on its way.
//!
//! This is the file to edit. The rest of the pod (Envoy, identities, reconnects, acknowledgements)
//! works the same whatever is here, and nothing here needs to know about it.

use node::{Hooks, Payload, Refusal};

/// The hook of a processor, called for each message that comes from upstream.
///
/// * Return `Err(Refusal::because("why"))` to refuse: the gateway gets `rejected` with that reason,
///   and the message goes no further. Nothing else is disturbed, and the connection lives on.
/// * `.await` what you like: databases, other services. The hook is called for the messages of one
///   connection one after the other, which keeps their order, so a slow hook slows its senders
///   down; nothing piles up here.
/// * After a reconnect a message may come again: do the same for it as before. The sink drops the
///   repeat.
/// * A panic counts as a refusal; the pod lives on. One in a task that a hook spawned ends the pod's
///   process.
/// * What several messages share (a client, a counter) goes into fields of the struct below: one
///   value serves them all at the same time.
pub(crate) struct Processor;

impl Hooks for Processor {
    /// What is returned is passed on, to every downstream pod. Read the payload with
    /// `payload.parse::<YourType>()?`, and make one with `Payload::of(&value)?`.
    async fn on_receive_relay(&self, payload: Payload) -> Result<Payload, Refusal> {
        Ok(payload)
    }
}
