//! The loop of the agent: read the authority, mint, publish, wait. It wakes early if the authority
//! was replaced or the clock was set.

use std::{path::Path, sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use jiff::{SignedDuration, Timestamp};
use messages::IdentityReport;
use rustls_pki_types::CertificateDer;
use settings::ContentHash;
use tokio::time::{Instant, sleep_until};

use crate::{
    authority::{Authority, AuthorityError, CERTIFICATE, KEY, ROOTS},
    config::Config,
    metrics::Metrics,
    mint::{MintError, mint},
    publish::{PublishError, Publisher},
    status::{Failure, Published, Status},
};

/// First pause after a failure; doubled with each that follows, up to the rotation interval.
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// Time between two reads of the authority's files, so that a replaced one is used before the next
/// rotation.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// A difference between wall clock and monotonic clock that gradual correction cannot explain: the
/// clock was set.
const CLOCK_STEP: SignedDuration = SignedDuration::from_secs(1);
/// Time between two log lines about an authority that must be replaced.
const REMINDER: SignedDuration = SignedDuration::from_hours(1);

/// Mints and publishes the identities of one pod.
#[derive(Debug)]
pub struct Agent {
    config: Config,
    status: Arc<Status>,
    metrics: Arc<Metrics>,
    publisher: Publisher,
    /// The authority of the last rotation, to notice a new one.
    authority: Option<CertificateDer<'static>>,
    reminded: Option<Timestamp>,
    /// The files as they were read last.
    stamp: Stamp,
}

#[derive(Debug, thiserror::Error)]
enum RotateError {
    #[error(transparent)]
    Mint(#[from] MintError),
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl RotateError {
    const fn is_refusal(&self) -> bool {
        match self {
            Self::Mint(MintError::Authority(error)) => error.is_refusal(),
            _ => false,
        }
    }
}

impl From<AuthorityError> for RotateError {
    fn from(error: AuthorityError) -> Self {
        Self::Mint(error.into())
    }
}

impl Agent {
    /// Returns an agent that has not rotated yet.
    pub fn new(config: Config, status: Arc<Status>, metrics: Arc<Metrics>) -> Self {
        Self {
            publisher: Publisher::new(&config.identity_dir),
            config,
            status,
            metrics,
            authority: None,
            reminded: None,
            stamp: Stamp::default(),
        }
    }

    /// Rotates for ever.
    pub async fn run(mut self) {
        let mut retries = self.retries();
        loop {
            let pause = if self.rotate(Timestamp::now()) {
                retries = self.retries();
                self.config.rotation
            } else {
                retries.next().unwrap_or(self.config.rotation)
            };
            let seen = self.stamp;
            let pause = jittered(pause, fastrand::f64());
            let clock = Clock::now();
            wait_or(pause, || {
                clock.was_set() || stamp_of(&self.config.authority_dir) != seen
            })
            .await;
        }
    }

    /// Returns the pauses between failures in a row: doubled, up to the rotation interval.
    fn retries(&self) -> ExponentialBackoff {
        ExponentialBuilder::new()
            .with_min_delay(FIRST_RETRY.min(self.config.rotation))
            .with_max_delay(self.config.rotation)
            .without_max_times()
            .build()
    }

    /// Rotates once at `now`. Returns true if a new identity was published. Status, metrics and log
    /// record either outcome.
    pub fn rotate(&mut self, now: Timestamp) -> bool {
        match self.try_rotate(now) {
            Ok(published) => {
                if self.status.published().is_none() {
                    tracing::info!(expires = %published.not_after, "first identity published");
                } else {
                    tracing::debug!(expires = %published.not_after, "identity published");
                }
                self.status.succeeded(published);
                self.metrics.rotations.inc();
                true
            }
            Err(error) => {
                let text = error.to_string();
                self.metrics.failures.inc();
                let refused = error.is_refusal();
                tracing::error!(refused, "no new identity: {text}");
                self.status.failed(if refused {
                    Failure::Refused(text)
                } else {
                    Failure::Passing(text)
                });
                false
            }
        }
    }

    fn try_rotate(&mut self, now: Timestamp) -> Result<Published, RotateError> {
        // The authority is read each time, so that a replaced one is used without a restart. The
        // stamp is taken first: files that are replaced in between look new the next time.
        self.stamp = stamp_of(&self.config.authority_dir);
        let authority = Authority::read(&self.config.authority_dir, &self.config.name)?;
        self.look_at(&authority, now);
        let identity = mint(&authority, &self.config.name, self.config.lifetime, now)?;
        // Roots are published first, so that peers with identities of a new root are trusted before
        // they connect.
        self.publisher.roots(authority.roots_pem())?;
        let published_at = Timestamp::now().into();
        self.publisher.identity(&identity)?;
        if let Some((authority, roots)) = authority.report() {
            self.status.reports(IdentityReport {
                name: self.config.name.clone(),
                published_at,
                clock: None,
                identity: identity.certificate,
                authority,
                roots,
            });
        }
        Ok(Published {
            at: now,
            not_after: identity.not_after,
        })
    }

    fn look_at(&mut self, authority: &Authority, now: Timestamp) {
        let known = self
            .authority
            .as_ref()
            .is_some_and(|last| authority.is_same(last));
        if !known {
            let expires = authority.not_after();
            tracing::info!(%expires, "took the authority of `{}`", self.config.name);
            if let Some(warning) = authority.warning() {
                tracing::warn!("{warning}");
            }
            self.authority = Some(authority.certificate().clone());
            self.reminded = None;
        }
        let due = authority.is_renewal_due(now);
        self.metrics
            .authority_expiry
            .set(authority.not_after().as_second());
        self.metrics.renewal_due.set(i64::from(due));
        let reminded_lately = self
            .reminded
            .is_some_and(|last| now.duration_since(last).abs() < REMINDER);
        if due && !reminded_lately {
            self.reminded = Some(now);
            tracing::warn!(
                expires = %authority.not_after(),
                "less than a fifth of the authority's life is left; replace it, \
                 or this pod has no identity from {} on",
                authority.not_after()
            );
        }
    }
}

/// The hashes of the authority's files: certificate, key and roots.
type Stamp = [Option<ContentHash>; 3];

/// Returns the stamp of the files as they are now; one that cannot be read counts as absent.
fn stamp_of(folder: &Path) -> Stamp {
    [CERTIFICATE, KEY, ROOTS].map(|name| ContentHash::of_file(&folder.join(name)))
}

/// The wall clock at a moment of the monotonic clock.
#[derive(Clone, Copy)]
struct Clock {
    wall: Timestamp,
    moment: Instant,
}

impl Clock {
    fn now() -> Self {
        Self {
            wall: Timestamp::now(),
            moment: Instant::now(),
        }
    }

    /// Returns whether the wall clock was set since then. An identity that was minted before may be
    /// expired, or not yet valid, by the new time.
    fn was_set(&self) -> bool {
        self.is_other_than(Self::now())
    }

    fn is_other_than(&self, now: Self) -> bool {
        let passed = now.moment.saturating_duration_since(self.moment);
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        let by_wall = now.wall.duration_since(self.wall);
        by_wall.saturating_sub(passed).abs() > CLOCK_STEP
    }
}

/// Waits for `pause`, or until `is_due` returns true; it is called every [`LOOK_INTERVAL`].
async fn wait_or(pause: Duration, is_due: impl Fn() -> bool) {
    let end = Instant::now() + pause;
    while Instant::now() < end {
        sleep_until(end.min(Instant::now() + LOOK_INTERVAL)).await;
        if is_due() {
            return;
        }
    }
}

/// Returns `pause` ± 10 %, so that pods that started together do not rotate together. `random` is
/// from 0 to 1.
fn jittered(pause: Duration, random: f64) -> Duration {
    pause.mul_f64(0.9 + 0.2 * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_is_jittered_by_a_tenth() {
        let pause = Duration::from_secs(10);
        assert_eq!(jittered(pause, 0.0), Duration::from_secs(9));
        assert_eq!(jittered(pause, 1.0), Duration::from_secs(11));
    }

    #[test]
    fn set_clock_is_noticed_slow_one_is_not() {
        let then = Clock::now();
        let after = |passed: Duration, by_wall: i64| Clock {
            wall: then.wall + SignedDuration::from_millis(by_wall),
            moment: then.moment + passed,
        };
        let passed = Duration::from_secs(10);
        for by_wall in [10_000, 9_500, 10_900] {
            assert!(!then.is_other_than(after(passed, by_wall)), "{by_wall}");
        }
        for by_wall in [12_000, 55_000, 8_000, -35_000] {
            assert!(then.is_other_than(after(passed, by_wall)), "{by_wall}");
        }
    }
}
