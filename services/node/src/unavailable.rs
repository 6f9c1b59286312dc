//! The answer of every part of a pod that cannot work now: the sender retries later.

/// The pod cannot take the message now. Its sender keeps it and sends it again later.
///
/// Over gRPC it is the status `UNAVAILABLE`, over WebSocket the close code 1013.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unavailable(pub(crate) String);

impl Unavailable {
    /// The pod is shutting down; its replacement takes the message.
    pub(crate) fn ending() -> Self {
        Self("the pod is ending".into())
    }
}
