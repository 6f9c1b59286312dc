//! The metrics of the agent, in the OpenMetrics text format. Times are seconds since 1970.

use std::{fmt, sync::atomic::AtomicU64};

use jiff::Timestamp;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Metric, Registry},
};

use crate::status::Published;

type Float = Gauge<f64, AtomicU64>;

/// All metrics of the agent; each name begins with `ferry_wosp_`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub rotations: Counter,
    pub failures: Counter,
    pub authority_expiry: Gauge,
    pub renewal_due: Gauge,
    identity_age: Float,
    identity_expiry: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("ferry_wosp");
        let of = &mut registry;
        Self {
            rotations: registered(of, "rotations", "Identities that were published"),
            failures: registered(of, "failures", "Tries to publish an identity that failed"),
            identity_age: registered(
                of,
                "identity_age_seconds",
                "Time since the last identity was published, 0 before the first",
            ),
            identity_expiry: registered(
                of,
                "identity_expiry_timestamp_seconds",
                "When the last identity expires, 0 before the first",
            ),
            authority_expiry: registered(
                of,
                "authority_expiry_timestamp_seconds",
                "When the authority or its root expires, whichever is earlier; 0 before the first",
            ),
            renewal_due: registered(
                of,
                "authority_renewal_due",
                "1 when less than a fifth of the pod authority's life is left",
            ),
            registry,
        }
    }
}

/// Returns a new metric of `registry`.
fn registered<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

impl Metrics {
    /// Returns the text of `/metrics` at `now`.
    ///
    /// # Errors
    ///
    /// Returns the error of the encoder.
    pub fn text(&self, published: Option<Published>, now: Timestamp) -> Result<String, fmt::Error> {
        if let Some(published) = published {
            self.identity_age
                // The clock may have been set back since.
                .set(now.duration_since(published.at).as_secs_f64().max(0.0));
            self.identity_expiry.set(published.not_after.as_second());
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
