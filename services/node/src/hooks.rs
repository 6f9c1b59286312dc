//! The part of a pod that users write: what happens to a payload.

use std::{collections::BTreeMap, fmt, panic::AssertUnwindSafe};

use futures_util::{FutureExt as _, future::BoxFuture};
use messages::Payload;

use crate::panics;

/// What a pod does with payloads. A gateway calls its hook on a trigger, a processor and a sink for
/// each message that they receive. The default of each hook passes everything unchanged.
///
/// * Messages of one connection come one after the other, those of several connections at the same
///   time.
/// * Delivery is at least once: after a reconnect a hook may see a message again. The hook of a
///   sink never sees a message that is stored.
/// * A refusal ends this one message: the sender gets `rejected` with the reason, and the
///   connection lives on.
/// * A panic counts as a refusal; the pod lives on. One in a task that a hook spawned ends the pod's
///   process.
pub trait Hooks: Send + Sync + 'static {
    /// Returns the payload that a gateway sends. `headers` are those of the HTTP request whose
    /// names begin with `x-`; a message of the auto-trigger has none.
    fn on_trigger(
        &self,
        payload: Payload,
        headers: &Headers,
    ) -> impl Future<Output = Result<Payload, Refusal>> + Send {
        let _ = headers;
        std::future::ready(Ok(payload))
    }

    /// Returns the payload that a processor passes on.
    fn on_receive_relay(
        &self,
        payload: Payload,
    ) -> impl Future<Output = Result<Payload, Refusal>> + Send {
        std::future::ready(Ok(payload))
    }

    /// Accepts a message at a sink: after `Ok` it is stored exactly as it came.
    fn on_receive_terminator(
        &self,
        payload: Payload,
    ) -> impl Future<Output = Result<(), Refusal>> + Send {
        let _ = payload;
        std::future::ready(Ok(()))
    }
}

/// Why a hook refuses a message. The text travels back to the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(String);

impl Refusal {
    /// Returns a refusal with this reason. What travels is cut to 1 KiB.
    pub fn because(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

impl From<messages::InvalidPayload> for Refusal {
    /// So that `payload.parse::<T>()?` refuses what is not a `T`.
    fn from(error: messages::InvalidPayload) -> Self {
        Self::because(error)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Headers of a trigger request, by lower-case name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(BTreeMap<String, String>);

impl Headers {
    /// Returns the value of a header. Case is ignored.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(&name.to_ascii_lowercase()).map(String::as_str)
    }

    /// Returns names and values in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl FromIterator<(String, String)> for Headers {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(headers: I) -> Self {
        Self(
            headers
                .into_iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value))
                .collect(),
        )
    }
}

/// [`Hooks`] without a type parameter, so that the rest of the pod needs none.
pub(crate) trait ErasedHooks: Send + Sync {
    fn trigger<'a>(
        &'a self,
        payload: Payload,
        headers: &'a Headers,
    ) -> BoxFuture<'a, Result<Payload, Refusal>>;
    fn relay(&self, payload: Payload) -> BoxFuture<'_, Result<Payload, Refusal>>;
    fn terminator(&self, payload: Payload) -> BoxFuture<'_, Result<(), Refusal>>;
}

// Each call is inside an `async` block, so that a panic before the first await is caught too.
impl<H: Hooks> ErasedHooks for H {
    fn trigger<'a>(
        &'a self,
        payload: Payload,
        headers: &'a Headers,
    ) -> BoxFuture<'a, Result<Payload, Refusal>> {
        Box::pin(async move { self.on_trigger(payload, headers).await })
    }

    fn relay(&self, payload: Payload) -> BoxFuture<'_, Result<Payload, Refusal>> {
        Box::pin(async move { self.on_receive_relay(payload).await })
    }

    fn terminator(&self, payload: Payload) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async move { self.on_receive_terminator(payload).await })
    }
}

/// Runs a hook. The error is the reason of the rejection.
pub(crate) async fn guarded<T>(hook: BoxFuture<'_, Result<T, Refusal>>) -> Result<T, String> {
    match AssertUnwindSafe(panics::caught(hook)).catch_unwind().await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(refusal)) => Err(refusal.to_string()),
        Err(_) => {
            // The panic hook writes the panic message to stderr. The sender must not see it.
            tracing::error!(
                "a hook panicked; its message is rejected, see the panic message before this line"
            );
            Err("the pod's hook failed on this message".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Defaults;
    impl Hooks for Defaults {}

    struct Panics;
    impl Hooks for Panics {
        #[expect(clippy::panic, reason = "that is the case")]
        async fn on_receive_relay(&self, _: Payload) -> Result<Payload, Refusal> {
            panic!("hook of a test")
        }
    }

    #[tokio::test]
    async fn default_hooks_pass_everything() {
        let payload = Payload::of(&7).unwrap();
        let headers = Headers::default();
        assert_eq!(
            Defaults.trigger(payload.clone(), &headers).await.unwrap(),
            payload
        );
        assert_eq!(Defaults.relay(payload.clone()).await.unwrap(), payload);
        Defaults.terminator(payload).await.unwrap();
    }

    #[tokio::test]
    async fn hook_panic_is_a_refusal() {
        let reason = guarded(Panics.relay(Payload::of(&7).unwrap()))
            .await
            .unwrap_err();
        assert!(reason.contains("hook"), "{reason}");
    }

    #[test]
    fn headers_ignore_case() {
        let headers: Headers = [("X-Trace".to_owned(), "7".to_owned())]
            .into_iter()
            .collect();
        assert_eq!(headers.get("x-trace"), Some("7"));
        assert_eq!(headers.get("X-TRACE"), Some("7"));
        assert_eq!(headers.get("x-other"), None);
    }
}
