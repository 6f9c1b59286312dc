//! What a sink does with each message that has arrived.
//!
//! This is the file to edit. The rest of the pod (Envoy, identities, reconnects, acknowledgements)
//! works the same whatever is here, and nothing here needs to know about it.

use node::{Hooks, Payload, Refusal};

/// The hook of a sink, called for each message before it is stored and acknowledged.
///
/// * Return `Err(Refusal::because("why"))` to refuse: the gateway gets `rejected` with that reason,
///   and nothing is stored. Nothing else is disturbed, and the connection lives on.
/// * `.await` what you like: databases, other services. The hook is called for the messages of one
///   connection one after the other, which keeps their order, so a slow hook slows its senders
///   down; nothing piles up here.
/// * The hook is not called again for a message that is stored. One that was not yet stored when
///   its connection or this pod was lost comes again: let the second time do no harm.
/// * A panic counts as a refusal; the pod lives on. One in a task that a hook spawned ends the pod's
///   process.
/// * What several messages share (a client, a counter) goes into fields of the struct below: one
///   value serves them all at the same time.
pub(crate) struct Sink;

impl Hooks for Sink {
    /// `Ok` lets the message be stored exactly as it came; once it is on disk, the gateway hears
    /// `delivered`. Read the payload with `payload.parse::<YourType>()?`.
    async fn on_receive_terminator(&self, payload: Payload) -> Result<(), Refusal> {
        let _ = payload;
        Ok(())
    }
}
