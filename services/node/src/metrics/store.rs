//! The metrics of a sink's store.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use super::{in_seconds, registered};
use crate::store::Cause;

/// Time between two lines of the log about dropped messages.
const REPORT: Duration = Duration::from_secs(60 * 60);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    cause: &'static str,
}

/// The metrics of one store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct StoreMetrics {
    records: Gauge,
    bytes: Gauge,
    oldest_age: Gauge<f64, AtomicU64>,
    free: Gauge,
    evictions: Family<CauseLabels, Counter>,
    failures: Counter,
    commit: Histogram,
    /// Messages that went since the last line of the log, and when that was written.
    unreported: Arc<AtomicU64>,
    reported: Arc<Mutex<Option<Instant>>>,
}

impl StoreMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        // 0.1 ms to 3 s.
        let commit = Histogram::new(exponential_buckets(0.0001, 2.0, 16));
        let help = "How long a batch took to be on disk";
        registry.register_with_unit("store_commit", help, Unit::Seconds, commit.clone());
        let bytes = |registry: &mut Registry, name, help| {
            let metric = Gauge::default();
            registry.register_with_unit(name, help, Unit::Bytes, metric.clone());
            metric
        };
        let evictions: Family<CauseLabels, Counter> = registered(
            registry,
            "store_evictions",
            "Messages that went, by what made them go",
        );
        for cause in Cause::ALL.map(Cause::label) {
            // A counter that appears with its first event would hide that event from rates.
            drop(evictions.get_or_create(&CauseLabels { cause }));
        }
        Self {
            records: registered(registry, "store_records", "Messages that the sink keeps"),
            bytes: bytes(
                registry,
                "store",
                "Bytes of the messages that the sink keeps",
            ),
            oldest_age: in_seconds(
                registry,
                "store_oldest_age",
                "How long ago the oldest message that the sink keeps was stored",
            ),
            free: bytes(
                registry,
                "store_free",
                "Free bytes on the disk of the store",
            ),
            evictions,
            failures: registered(registry, "store_failures", "Failures of the store's disk"),
            commit,
            unreported: Arc::default(),
            reported: Arc::default(),
        }
    }

    pub(crate) fn committed(&self, took: Duration) {
        self.commit.observe(took.as_secs_f64());
    }

    pub(crate) fn failed(&self) {
        self.failures.inc();
    }

    /// Shows what is kept; the age is in milliseconds.
    pub(crate) fn kept(&self, records: u64, bytes: u64, oldest_ms: u64) {
        self.records.set(i64::try_from(records).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.oldest_age
            .set(Duration::from_millis(oldest_ms).as_secs_f64());
    }

    /// Shows the free space of the disk with `dir`.
    pub(crate) fn free(&self, dir: &Path) {
        if let Ok(disk) = rustix::fs::statvfs(dir) {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            self.free.set(i64::try_from(free).unwrap_or(i64::MAX));
        }
    }

    /// Counts messages that went. Those that a reader may miss are reported in the log, at most
    /// once an hour; `oldest` is the index of the oldest message that is kept.
    pub(crate) fn dropped(&self, cause: Cause, count: u64, oldest: u64) {
        let labels = CauseLabels {
            cause: cause.label(),
        };
        self.evictions.get_or_create(&labels).inc_by(count);
        if cause == Cause::Read {
            return;
        }
        self.unreported.fetch_add(count, Ordering::Relaxed);
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.is_none_or(|reported| reported.elapsed() >= REPORT) {
            *reported = Some(Instant::now());
            let dropped = self.unreported.swap(0, Ordering::Relaxed);
            tracing::warn!(
                dropped,
                oldest,
                cause = cause.label(),
                "the oldest messages were dropped, as the retention says; \
                 for other limits set `retention` in the blueprint"
            );
        }
    }
}
