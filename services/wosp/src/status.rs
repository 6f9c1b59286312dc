//! The state of the agent, and whether it is ready.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use messages::IdentityReport;

/// Shared between the agent and its HTTP side.
#[derive(Debug, Default)]
pub struct Status(Mutex<State>);

#[derive(Clone, Debug, Default)]
struct State {
    published: Option<Published>,
    report: Option<IdentityReport>,
    /// The error of the last rotation; `None` after a success.
    failure: Option<Failure>,
}

/// The last identity that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    pub at: Timestamp,
    pub not_after: Timestamp,
}

/// Why the last rotation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The next try may succeed.
    Passing(String),
    /// The authority cannot sign for this pod; only a new one helps.
    Refused(String),
}

impl Status {
    /// Returns the last published identity.
    pub fn published(&self) -> Option<Published> {
        self.with(|state| state.published)
    }

    /// Records a rotation that published an identity.
    pub fn succeeded(&self, published: Published) {
        self.with(|state| {
            state.published = Some(published);
            state.failure = None;
        });
    }

    /// Returns the answer of `/identity`, or `None` before the first identity.
    pub fn report(&self) -> Option<IdentityReport> {
        self.with(|state| state.report.clone())
    }

    /// Replaces the answer of `/identity`.
    pub fn reports(&self, report: IdentityReport) {
        self.with(|state| state.report = Some(report));
    }

    /// Records a rotation that failed.
    pub fn failed(&self, failure: Failure) {
        self.with(|state| state.failure = Some(failure));
    }

    /// Returns why the pod is not ready at `now`, or `None` if it is. A transient failure counts
    /// only once the last identity ends within one `rotation`: until then the next tries may
    /// replace it in time.
    pub fn unready_reason(&self, now: Timestamp, rotation: Duration) -> Option<String> {
        let State {
            published, failure, ..
        } = self.with(|state| state.clone());
        let (refused, cause) = match failure {
            None => (None, None),
            Some(Failure::Refused(reason)) => (Some(reason.clone()), Some(reason)),
            Some(Failure::Passing(reason)) => (None, Some(reason)),
        };
        let because = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        let Some(published) = published else {
            return Some(format!("no identity was published yet{because}"));
        };
        let left = published.not_after.duration_since(now);
        if !left.is_positive() {
            return Some(format!(
                "the last identity expired at {}{because}",
                published.not_after
            ));
        }
        if left <= rotation.try_into().unwrap_or(jiff::SignedDuration::MAX) {
            return Some(format!(
                "the last identity expires at {}, within one rotation{because}",
                published.not_after
            ));
        }
        refused
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROTATION: Duration = Duration::from_secs(10);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn status_with_identity() -> Status {
        let status = Status::default();
        status.succeeded(Published {
            at: at(0),
            not_after: at(60),
        });
        status
    }

    #[test]
    fn nothing_published_is_not_ready() {
        let status = Status::default();
        assert_eq!(
            status.unready_reason(at(0), ROTATION).unwrap(),
            "no identity was published yet"
        );
        status.failed(Failure::Passing("no disk".into()));
        assert_eq!(
            status.unready_reason(at(0), ROTATION).unwrap(),
            "no identity was published yet: no disk"
        );
    }

    #[test]
    fn identity_is_ready_until_its_last_rotation() {
        let status = status_with_identity();
        assert_eq!(status.unready_reason(at(0), ROTATION), None);
        assert_eq!(status.unready_reason(at(49), ROTATION), None);
        assert_eq!(
            status.unready_reason(at(50), ROTATION).unwrap(),
            "the last identity expires at 2027-01-15T08:01:00Z, within one rotation"
        );
        assert_eq!(
            status.unready_reason(at(60), ROTATION).unwrap(),
            "the last identity expired at 2027-01-15T08:01:00Z"
        );
    }

    #[test]
    fn transient_failure_counts_near_expiry() {
        let status = status_with_identity();
        status.failed(Failure::Passing("no disk".into()));
        assert_eq!(status.unready_reason(at(20), ROTATION), None);
        assert!(
            status
                .unready_reason(at(55), ROTATION)
                .unwrap()
                .ends_with(": no disk")
        );
    }

    #[test]
    fn refused_authority_is_not_ready() {
        let status = status_with_identity();
        status.failed(Failure::Refused("the authority expired".into()));
        assert_eq!(
            status.unready_reason(at(1), ROTATION).unwrap(),
            "the authority expired"
        );
        status.succeeded(Published {
            at: at(2),
            not_after: at(62),
        });
        assert_eq!(status.unready_reason(at(3), ROTATION), None);
    }
}
