//! The loop: read the authority, mint, publish, wait, again; at once where the authority was replaced.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use messages::IdentityReport;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::CertificateDer;
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
/// How often the authority's files are looked at, so that one which was replaced is used before the next rotation.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How often the log repeats that the authority must be replaced.
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
    /// The files that were read last.
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
        let mut retry = FIRST_RETRY;
        loop {
            let pause = if self.rotate(Timestamp::now()) {
                retry = FIRST_RETRY;
                self.config.rotation
            } else {
                let pause = retry.min(self.config.rotation);
                retry = pause * 2;
                pause
            };
            let seen = self.stamp.clone();
            changed_or(jittered(pause, random()), &self.config.authority_dir, &seen).await;
        }
    }

    /// One rotation at `now`: true if a new identity was published. Status, metrics and log are told either way.
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
        // Read each time, so that an authority which was replaced is taken without a restart.
        // The stamp first: files that are replaced in between look new the next time.
        self.stamp = Stamp::of(&self.config.authority_dir);
        let authority = Authority::read(&self.config.authority_dir, &self.config.name)?;
        self.look_at(&authority, now);
        let identity = mint(&authority, &self.config.name, self.config.lifetime, now)?;
        // The roots first: should they be new, peers with identities of the new root are trusted before they come.
        self.publisher.roots(authority.roots_pem())?;
        let published_at = Timestamp::now().into();
        self.publisher.identity(&identity)?;
        if let Some((authority, roots)) = authority.report() {
            self.status.reports(IdentityReport {
                name: self.config.name.clone(),
                published_at,
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
            .is_some_and(|last| now.duration_since(last) < REMINDER);
        if due && !reminded_lately {
            self.reminded = Some(now);
            tracing::warn!(
                expires = %authority.not_after(),
                "less than a fifth of the authority's life is left; replace it, or this pod has no identity from {} on",
                authority.not_after()
            );
        }
    }
}

/// Tells the authority's files from those that replaced them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Stamp([Option<(u64, u64, i64, i64)>; 3]);

impl Stamp {
    /// Of the files as they are now; one that cannot be looked at counts as absent.
    fn of(folder: &Path) -> Self {
        let look = |name: &str| -> io::Result<_> {
            let file = fs::metadata(folder.join(name))?;
            Ok((file.dev(), file.ino(), file.mtime(), file.mtime_nsec()))
        };
        Self([CERTIFICATE, KEY, ROOTS].map(|name| look(name).ok()))
    }
}

/// Waits for `pause`, or until the files in `folder` are others than `seen`.
async fn changed_or(pause: Duration, folder: &Path, seen: &Stamp) {
    let end = Instant::now() + pause;
    while Instant::now() < end {
        sleep_until(end.min(Instant::now() + LOOK_INTERVAL)).await;
        if Stamp::of(folder) != *seen {
            return;
        }
    }
}

/// `pause` ± 10 %, so that pods that started together do not rotate together.
fn jittered(pause: Duration, random: u16) -> Duration {
    pause.mul_f64(0.9 + 0.2 * f64::from(random) / f64::from(u16::MAX))
}

fn random() -> u16 {
    let mut bytes = [0; 2];
    // Without randomness there would be no keys either, and the next try says so; here the middle will do.
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => u16::from_ne_bytes(bytes),
        Err(_) => u16::MAX / 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_jittered_by_a_tenth() {
        let pause = Duration::from_secs(10);
        assert_eq!(jittered(pause, 0), Duration::from_secs(9));
        assert_eq!(jittered(pause, u16::MAX), Duration::from_secs(11));
    }
}
