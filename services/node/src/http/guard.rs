//! Authorises pinhole requests by bearer token. Refusals carry no details.
//!
//! Only wrong tokens are limited, so an attacker who guesses cannot lock out the holder of the
//! token. The limit is not per source: behind a load balancer all requests may have one address.
//! The length of the token makes guessing hopeless. The limit makes guesses cheap to refuse, and
//! keeps them from filling the log.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::time::Instant;

use crate::{
    config::Token,
    metrics::{Metrics, Refused},
};

/// Wrong requests in a row that are answered 401.
const BURST: u32 = 10;
/// Time until one more is answered 401. The others are answered 429.
const REFILL: Duration = Duration::from_secs(1);

/// The guard of one pod's pinhole.
#[derive(Clone)]
pub(super) struct Guard {
    token: Token,
    failures: Arc<Mutex<Failures>>,
    metrics: Metrics,
}

impl Guard {
    pub(super) fn new(token: Token, metrics: Metrics) -> Self {
        let failures = Failures {
            left: BURST,
            filled_at: Instant::now(),
        };
        Self {
            token,
            failures: Arc::new(Mutex::new(failures)),
            metrics,
        }
    }

    /// Refuses a request whose token is wrong, missing or duplicate: all get the same answer.
    fn refuse(&self) -> Response {
        let now = Instant::now();
        let wait = self
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .count(now);
        match wait {
            None => {
                self.metrics.refused(Refused::Unauthorized);
                tracing::warn!("refused a pinhole request without the token");
                let challenge = (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                (StatusCode::UNAUTHORIZED, [challenge]).into_response()
            }
            Some(wait) => {
                self.metrics.refused(Refused::Limited);
                // Whole seconds (RFC 9110, section 10.2.3), and never too early.
                let seconds = wait.as_millis().div_ceil(1000).max(1).to_string();
                (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, seconds)]).into_response()
            }
        }
    }
}

/// Passes requests with the token on, and refuses the others without a reason (RFC 6750, section
/// 3.1).
pub(super) async fn authorized(
    State(guard): State<Guard>,
    request: Request,
    next: Next,
) -> Response {
    match credentials(request.headers()) {
        Some(given) if guard.token.matches(given) => next.run(request).await,
        _ => guard.refuse(),
    }
}

/// Returns the bearer token of a request, if it has exactly one.
fn credentials(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(AUTHORIZATION).into_iter();
    match (all.next(), all.next()) {
        (Some(value), None) => bearer(value.as_bytes()),
        _ => None,
    }
}

/// Returns the token of `Bearer TOKEN`. The scheme ignores case (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

/// A bucket of [`BURST`] failures; one more fits in every [`REFILL`].
struct Failures {
    left: u32,
    filled_at: Instant,
}

impl Failures {
    /// Counts one failure. Returns the time until the bucket has room, or `None` if it has some.
    fn count(&mut self, now: Instant) -> Option<Duration> {
        let since = now.saturating_duration_since(self.filled_at);
        let refills = u32::try_from(since.as_nanos() / REFILL.as_nanos()).unwrap_or(u32::MAX);
        if refills >= BURST - self.left {
            (self.left, self.filled_at) = (BURST, now);
        } else {
            self.left += refills;
            self.filled_at += REFILL * refills;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                None
            }
            None => Some(REFILL.saturating_sub(now.saturating_duration_since(self.filled_at))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_needs_the_bearer_scheme() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer abc "), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
        assert_eq!(bearer(b"Bearer"), None);
        assert_eq!(bearer(b""), None);
    }

    #[test]
    fn duplicate_token_is_refused() {
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer abc"));
        assert_eq!(credentials(&headers), Some(&b"abc"[..]));
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer abc"));
        assert_eq!(credentials(&headers), None);
    }

    #[test]
    fn failures_pass_in_burst_then_one_per_second() {
        let start = Instant::now();
        let mut failures = Failures {
            left: BURST,
            filled_at: start,
        };
        let mut at = |millis: u64| failures.count(start + Duration::from_millis(millis));
        for number in 1..=BURST {
            assert_eq!(at(0), None, "failure {number} is in the burst");
        }
        assert_eq!(at(0), Some(REFILL));
        assert_eq!(at(400), Some(Duration::from_millis(600)));
        assert_eq!(at(1000), None, "a second makes room for one");
        assert_eq!(at(1000), Some(REFILL), "and for one only");
        assert_eq!(at(3500), None);
        assert_eq!(at(3500), None, "what was not used is kept");
        assert_eq!(at(3500), Some(Duration::from_millis(500)));
        for number in 1..=BURST {
            assert_eq!(at(3_600_000), None, "failure {number} after an hour");
        }
        assert_eq!(
            at(3_600_000),
            Some(REFILL),
            "an hour makes no more room than there is"
        );
    }
}
