//! What a gateway does with each message before it leaves.
//!
//! This is the file to edit. The rest of the pod (Envoy, identities, reconnects, acknowledgements)
//! works the same whatever is here, and nothing here needs to know about it.

use node::{Headers, Hooks, Payload, Refusal};

/// The hook of a gateway, called once for each message that is to be made.
///
/// * Return `Err(Refusal::because("why"))` to refuse: the client gets `rejected` with that reason,
///   and no message leaves. Nothing else is disturbed, and the connection lives on.
/// * `.await` what you like: databases, other services. The hook is called for the messages of one
///   trigger one after the other, for those of several triggers at the same time.
/// * Read the payload with `payload.parse::<YourType>()?`, and make one with
///   `Payload::of(&value)?`.
/// * A panic counts as a refusal; the pod lives on. One in a task that a hook spawned ends the pod's
///   process.
/// * What several messages share (a client, a counter) goes into fields of the struct below: one
///   value serves them all at the same time.
pub(crate) struct Gateway;

impl Hooks for Gateway {
    /// `payload` is what was posted to `/trigger`, or the text of an auto-trigger; what is returned
    /// is sent. `headers` are the request's headers whose names begin with `X-`:
    /// `headers.get("x-tenant")`.
    async fn on_trigger(&self, payload: Payload, headers: &Headers) -> Result<Payload, Refusal> {
        let _ = headers;
        Ok(payload)
    }
}
