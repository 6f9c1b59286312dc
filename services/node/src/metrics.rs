//! The metrics of a pod, in the OpenMetrics text format. Each pod has its registry: several pods
//! can run in one process.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use messages::Outcome;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Metric, Registry, Unit},
};

mod store;

pub(crate) use store::StoreMetrics;

/// Media type of [`Metrics::encode`].
/// <https://prometheus.io/docs/specs/om/open_metrics_spec/#content-type>
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    messages: Family<MessageLabels, Counter>,
    in_flight: Gauge,
    resends: Family<LinkLabels, Counter>,
    reconnects: Family<ReconnectLabels, Counter>,
    round_trip: Family<LinkLabels, Histogram, fn() -> Histogram>,
    clock_skew: Family<PeerLabels, Gauge<f64, AtomicU64>>,
    identity_remaining: Gauge<f64, AtomicU64>,
    ready: Gauge,
    refused: Family<RefusedLabels, Counter>,
    refused_trails: Family<TrailLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabels {
    outcome: &'static str,
}

/// How a message ended at this pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum DeliveryOutcome {
    Delivered,
    Rejected,
    /// The sink had stored it before: acknowledged again, not stored again.
    Repeated,
}

impl DeliveryOutcome {
    const fn label(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Rejected => "rejected",
            Self::Repeated => "repeated",
        }
    }
}

impl From<&Outcome> for DeliveryOutcome {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Delivered => Self::Delivered,
            Outcome::Rejected { .. } => Self::Rejected,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    answer: &'static str,
}

/// How the pinhole refused a request without its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refused {
    /// 401.
    Unauthorized,
    /// 429: over the limit.
    Limited,
}

impl Refused {
    const fn label(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Limited => "limited",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TrailLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LinkLabels {
    downstream: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabels {
    peer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconnectLabels {
    downstream: String,
    cause: &'static str,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self::with(|_| ()).0
    }

    /// Returns the metrics of a sink, with those of its store.
    pub(crate) fn with_store() -> (Self, StoreMetrics) {
        Self::with(StoreMetrics::registered)
    }

    /// Returns the metrics of every pod, and what `more` has registered.
    fn with<T>(more: impl FnOnce(&mut Registry) -> T) -> (Self, T) {
        let mut registry = Registry::with_prefix("ferry");
        let of = &mut registry;
        // 0.5 ms to 16 s: from one machine to a far region with a resend.
        let round_trip: Family<_, _, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.0005, 2.0, 16)));
        of.register_with_unit(
            "round_trip",
            "From the first sending of a message to its acknowledgement",
            Unit::Seconds,
            round_trip.clone(),
        );
        let more = more(of);
        let inner = Inner {
            clock_skew: in_seconds(
                of,
                "clock_skew",
                "How far a peer's clock was ahead when the last session began; negative if behind",
            ),
            messages: registered(of, "messages", "Messages by how they ended here"),
            in_flight: registered(of, "in_flight", "Messages taken and not yet answered"),
            resends: registered(of, "resends", "Messages resent after a connection was lost"),
            reconnects: registered(
                of,
                "reconnects",
                "Connections made again, after a loss or at the end of a session's life",
            ),
            round_trip,
            identity_remaining: in_seconds(
                of,
                "identity_remaining",
                "How long the workload identity is still valid; 0 without one",
            ),
            refused: registered(
                of,
                "pinhole_refusals",
                "Requests without the pinhole's token, by how they were answered",
            ),
            refused_trails: registered(
                of,
                "trails_refused",
                "Messages that were not taken since their trail is not that of their way",
            ),
            ready: registered(of, "ready", "1 while the pod is ready"),
            registry,
        };
        for outcome in [DeliveryOutcome::Delivered, DeliveryOutcome::Rejected] {
            // A counter that appears with its first event would hide that event from rates.
            let outcome = outcome.label();
            drop(inner.messages.get_or_create(&MessageLabels { outcome }));
        }
        (Self(Arc::new(inner)), more)
    }

    pub(crate) fn counted(&self, outcome: DeliveryOutcome) {
        let outcome = outcome.label();
        self.0
            .messages
            .get_or_create(&MessageLabels { outcome })
            .inc();
    }

    pub(crate) fn refused(&self, answer: Refused) {
        let answer = answer.label();
        self.0
            .refused
            .get_or_create(&RefusedLabels { answer })
            .inc();
    }

    pub(crate) fn refused_trail(&self, reason: &'static str) {
        self.0
            .refused_trails
            .get_or_create(&TrailLabels { reason })
            .inc();
    }

    /// Counts one more message in flight until the returned value is dropped.
    pub(crate) fn in_flight(&self) -> InFlight {
        self.0.in_flight.inc();
        InFlight(self.0.in_flight.clone())
    }

    pub(crate) fn in_flight_now(&self) -> i64 {
        self.0.in_flight.get()
    }

    /// The counters of one connection out.
    pub(crate) fn link(&self, downstream: &str) -> LinkMetrics {
        let labels = LinkLabels {
            downstream: downstream.to_owned(),
        };
        let reconnects = |cause| {
            self.0.reconnects.get_or_create_owned(&ReconnectLabels {
                downstream: downstream.to_owned(),
                cause,
            })
        };
        LinkMetrics {
            resends: self.0.resends.get_or_create_owned(&labels),
            after_loss: reconnects("loss"),
            renewals: reconnects("renewal"),
            round_trip: self.0.round_trip.get_or_create_owned(&labels),
            clock_skew: self.0.clock_skew.clone(),
            peer: PeerLabels {
                peer: downstream.to_owned(),
            },
        }
    }

    /// Returns the text of `/metrics`.
    pub(crate) fn encode(&self, identity: Duration, ready: bool) -> Result<String, fmt::Error> {
        self.0.identity_remaining.set(identity.as_secs_f64());
        self.0.ready.set(i64::from(ready));
        let mut body = String::new();
        text::encode(&mut body, &self.0.registry)?;
        Ok(body)
    }
}

/// Returns a new metric of `registry`.
fn registered<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// Returns a new metric of `registry`, in seconds.
fn in_seconds<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

/// The counters of one connection out.
#[derive(Clone, Debug)]
pub(crate) struct LinkMetrics {
    pub(crate) resends: Counter,
    pub(crate) after_loss: Counter,
    pub(crate) renewals: Counter,
    round_trip: Histogram,
    clock_skew: Family<PeerLabels, Gauge<f64, AtomicU64>>,
    peer: PeerLabels,
}

impl LinkMetrics {
    /// Sets the seconds that the peer's clock is ahead. Before the first session the metric is
    /// absent: 0 would be a measurement.
    pub(crate) fn skew(&self, seconds: f64) {
        self.clock_skew.get_or_create(&self.peer).set(seconds);
    }

    pub(crate) fn round_trip(&self, took: Duration) {
        self.round_trip.observe(took.as_secs_f64());
    }
}

/// One message in flight.
#[derive(Debug)]
pub(crate) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_documented_names() {
        let metrics = Metrics::new();
        metrics.counted(DeliveryOutcome::Delivered);
        let flying = metrics.in_flight();
        let link = metrics.link("sink");
        metrics.refused(Refused::Limited);
        link.resends.inc();
        link.after_loss.inc();
        link.round_trip(Duration::from_millis(3));
        let unknown = metrics.encode(Duration::ZERO, true).unwrap();
        assert!(!unknown.contains("clock_skew_seconds{"), "{unknown}");
        link.skew(-1.5);
        let text = metrics.encode(Duration::from_secs(42), true).unwrap();
        for line in [
            r#"ferry_messages_total{outcome="delivered"} 1"#,
            r#"ferry_messages_total{outcome="rejected"} 0"#,
            r#"ferry_pinhole_refusals_total{answer="limited"} 1"#,
            "ferry_in_flight 1",
            r#"ferry_resends_total{downstream="sink"} 1"#,
            r#"ferry_reconnects_total{downstream="sink",cause="loss"} 1"#,
            r#"ferry_round_trip_seconds_count{downstream="sink"} 1"#,
            r#"ferry_clock_skew_seconds{peer="sink"} -1.5"#,
            "ferry_identity_remaining_seconds 42.0",
            "ferry_ready 1",
        ] {
            assert!(
                text.lines().any(|seen| seen == line),
                "`{line}` must be in:\n{text}"
            );
        }
        drop(flying);
        assert_eq!(metrics.in_flight_now(), 0);
    }
}
