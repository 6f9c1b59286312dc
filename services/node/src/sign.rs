//! Signs hops with the pod's workload identity, which `wosp` renews.
//!
//! An identity that is not renewed ends in two steps. With less than a quarter of its life left,
//! the pod is no longer ready, so that load balancers prefer other pods while it still works. Once
//! it has expired, no hop can be signed: new sessions are refused, and messages on running ones
//! wait for the next identity.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use messages::{Hop, Timestamp, WorkloadName, env, signature::Signer};
use settings::ContentHash;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use uuid::Uuid;

use crate::{
    config::Config,
    ready::{Pending, Ready},
    trust::Roots,
    unavailable::Unavailable,
};

/// Time between two reads of the file.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Time between two reads of the file while a message waits for an identity.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// The part of an identity's life, before its end, in which the pod counts as degraded. `wosp`
/// replaces an identity before half of its life is over (`FERRY_ROTATION_INTERVAL`).
const LAST_PART: u32 = 4;

/// The newest identity in the identity folder. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Identity(Arc<Shared>);

struct Shared {
    file: PathBuf,
    owner: WorkloadName,
    ready: Ready,
    roots: Roots,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The file that was read last, valid or not.
    seen: Option<ContentHash>,
    signer: Option<Arc<Signer>>,
    /// With less than this left, the identity counts as low.
    low: Duration,
    validity: Validity,
    /// The entry on `/ready` while the identity is not good, with its text.
    pending: Option<(String, Pending)>,
    /// Why the file could not be used; logged once.
    error: Option<String>,
}

/// Validity of the pod's signing identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Validity {
    /// No identity was read yet.
    #[default]
    Awaited,
    Good,
    /// Valid, but not replaced in time.
    Low,
    Expired,
}

impl Identity {
    /// Reads the identity of the pod. A missing one shows on `ready`.
    pub(crate) fn new(config: &Config, ready: Ready) -> Self {
        let identity = Self(Arc::new(Shared {
            file: config.identity_dir.join(env::IDENTITY_FILE),
            owner: config.name.clone(),
            state: Mutex::default(),
            roots: Roots::new(config, ready.clone()),
            ready,
        }));
        identity.reload();
        identity
    }

    /// Follows the file until it is dropped.
    pub(crate) async fn follow(self) {
        let mut tick = interval(LOOK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let identity = self.clone();
            // A read from a memory-backed volume does not block, but the folder may be on a disk.
            if tokio::task::spawn_blocking(move || {
                identity.reload();
                identity.0.roots.reload();
            })
            .await
            .is_err()
            {
                return;
            }
        }
    }

    /// Returns the roots that `wosp` publishes beside the identity.
    pub(crate) fn roots(&self) -> Roots {
        self.0.roots.clone()
    }

    /// Returns how long the identity is still valid; zero without one.
    pub(crate) fn remaining(&self) -> Duration {
        self.state().signer.as_deref().map_or(Duration::ZERO, left)
    }

    /// Waits for a valid identity, at most `limit`. After the clock was set, `wosp` soon writes
    /// one.
    pub(crate) async fn awaited(&self, limit: Duration) -> Result<(), Unavailable> {
        let end = Instant::now() + limit;
        loop {
            match self.signer() {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => sleep(RETRY_INTERVAL).await,
            }
        }
    }

    /// Returns this pod's signed entry for message `id`, which follows the trail `before`. Waits
    /// for a valid identity, so it never fails.
    pub(crate) async fn sign_hop(&self, config: &Config, id: Uuid, before: &[Hop]) -> Hop {
        loop {
            match self.try_sign_hop(config, id, before) {
                Ok(hop) => return hop,
                Err(Unavailable(reason)) => {
                    tracing::debug!(%id, reason, "a message waits for the workload identity");
                    sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }

    fn try_sign_hop(&self, config: &Config, id: Uuid, before: &[Hop]) -> Result<Hop, Unavailable> {
        let signer = self.signer()?;
        let hop = Hop {
            pod: config.pod_name.clone(),
            role: config.role,
            cluster: config.name.cluster().to_owned(),
            namespace: config.namespace(),
            node: config.node.clone(),
            at: Timestamp::now(),
            signature: String::new(),
        };
        signer
            .sign(id, before, hop)
            .map_err(|error| Unavailable(error.to_string()))
    }

    fn signer(&self) -> Result<Arc<Signer>, Unavailable> {
        {
            let state = self.state();
            if let Some(signer) = state
                .signer
                .as_ref()
                .filter(|signer| left(signer) > state.low)
            {
                return Ok(signer.clone());
            }
        }
        // A new one may have been written since the last read.
        self.reload();
        let state = self.state();
        let valid = |signer: &Arc<Signer>| left(signer) > Duration::ZERO;
        state.signer.clone().filter(valid).ok_or_else(|| {
            let cause = state.error.as_deref().unwrap_or("it has expired");
            Unavailable(format!("no valid workload identity: {cause}"))
        })
    }

    /// Reads the file, takes its identity if the content changed, and updates `/ready`.
    fn reload(&self) {
        let mut state = self.state();
        match fs::read_to_string(&self.0.file) {
            Ok(text) if state.seen == Some(ContentHash::of(text.as_bytes())) => {}
            Ok(text) => {
                state.seen = Some(ContentHash::of(text.as_bytes()));
                match self.parse(&text) {
                    Ok(signer) => {
                        tracing::debug!(not_after = %signer.not_after(), "workload identity read");
                        state.low = signer.life() / LAST_PART;
                        state.signer = Some(Arc::new(signer));
                        state.error = None;
                    }
                    Err(cause) => self.record_error(&mut state, cause),
                }
            }
            Err(error) => self.record_error(&mut state, self.unreadable(&error)),
        }
        self.update_readiness(&mut state);
    }

    /// Shows on `/ready` what is wrong with the identity, and logs every change.
    fn update_readiness(&self, state: &mut State) {
        let (validity, what) = validity(state);
        if state.pending.as_ref().map(|(said, _)| said) != what.as_ref() {
            let ready = &self.0.ready;
            // The new entry is made before the old one is dropped, so the pod never looks ready in
            // between.
            state.pending = what.map(|what| match validity {
                Validity::Low => (what.clone(), ready.degraded(what)),
                _ => (what.clone(), ready.pending(what)),
            });
        }
        let before = std::mem::replace(&mut state.validity, validity);
        if before == validity {
            return;
        }
        let what = state
            .pending
            .as_ref()
            .map(|(what, _)| what.as_str())
            .unwrap_or_default();
        match validity {
            Validity::Low => {
                tracing::warn!("the pod is not ready but keeps working; it needs {what}")
            }
            Validity::Expired => {
                tracing::error!(
                    "the pod accepts no sessions, and its messages wait; it needs {what}"
                )
            }
            Validity::Good if before != Validity::Awaited => {
                tracing::info!("took a new workload identity")
            }
            Validity::Awaited | Validity::Good => {}
        }
    }

    fn parse(&self, text: &str) -> Result<Signer, String> {
        let signer = Signer::from_identity_file(text)
            .map_err(|error| format!("{}: {error}", self.0.file.display()))?;
        if *signer.name() != self.0.owner {
            return Err(format!(
                "{} is the identity of {}, this pod is {}",
                self.0.file.display(),
                signer.name(),
                self.0.owner
            ));
        }
        Ok(signer)
    }

    fn unreadable(&self, error: &io::Error) -> String {
        format!("{}: {error}; is `wosp` running?", self.0.file.display())
    }

    /// Records why the file could not be used, and logs it the first time. A file that is not there
    /// yet is not logged.
    fn record_error(&self, state: &mut State, cause: String) {
        if state.error.as_ref() != Some(&cause) {
            if state.seen.is_some() {
                tracing::warn!("workload identity: {cause}");
            }
            state.error = Some(cause);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how long an identity is still valid. One that is not valid yet counts as expired.
fn left(signer: &Signer) -> Duration {
    let now = Timestamp::now();
    if now < signer.not_before() {
        return Duration::ZERO;
    }
    let left = signer.not_after().as_jiff().duration_since(now.as_jiff());
    Duration::try_from(left).unwrap_or(Duration::ZERO)
}

/// Returns the validity of the identity, and what the pod needs.
fn validity(state: &State) -> (Validity, Option<String>) {
    let Some(signer) = state.signer.as_deref() else {
        return (Validity::Awaited, Some("workload identity".into()));
    };
    let (left, until) = (left(signer), signer.not_after());
    if left > state.low {
        (Validity::Good, None)
    } else if left > Duration::ZERO {
        let seconds = left.as_secs();
        let what = format!(
            "a new workload identity: this one is valid for {seconds} s more, until {until}; \
             is `wosp` running?"
        );
        (Validity::Low, Some(what))
    } else {
        let what = format!(
            "a new workload identity: the last one was valid until {until}; \
             is `wosp` running?"
        );
        (Validity::Expired, Some(what))
    }
}
