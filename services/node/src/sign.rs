//! The pod's workload identity, as `wosp` renews it, and the hops that are signed with it.
//!
//! An identity that is not renewed ends in two steps. With less than a quarter of its life left the pod is no longer ready,
//! so that whoever chooses among pods leaves it alone while it still works. Once it has expired no hop can be signed: new
//! sessions are refused, messages on the running ones wait, and all goes on with the next identity.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use messages::{Hop, Timestamp, WorkloadName, env, signature::Signer};
use ring::digest::{SHA256, digest};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use uuid::Uuid;

use crate::{
    config::Config,
    ready::{Pending, Ready},
    relay::Later,
};

/// How often the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How often somebody who waits for an identity looks.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// This part of its life before its end an identity should long have been replaced: `wosp` does so before half of it is
/// over (`FERRY_ROTATION_INTERVAL`).
const LAST_PART: u32 = 4;

/// The newest identity in the identity folder. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Identity(Arc<Shared>);

struct Shared {
    file: PathBuf,
    owner: WorkloadName,
    ready: Ready,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the file held that was read last, good or bad.
    seen: Option<Content>,
    signer: Option<Arc<Signer>>,
    /// With less than this left the identity should have been replaced.
    low: Duration,
    standing: Standing,
    /// There while the identity is not good, with what it says.
    pending: Option<(String, Pending)>,
    /// Why the file was no use, to be logged once.
    trouble: Option<String>,
}

/// How well the pod is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    /// There was none yet.
    #[default]
    Awaited,
    Good,
    /// Valid, and not replaced in time.
    Low,
    Expired,
}

/// The hash of a file's content, which holds a key. What a file says tells whether it is another one: its times are of a
/// clock that may be set back, and its inode may be used again.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Content([u8; 32]);

impl Content {
    fn of(text: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self(hash)
    }
}

impl Identity {
    /// Looks for the identity of the pod; what is missing shows on `ready`.
    pub(crate) fn new(config: &Config, ready: Ready) -> Self {
        let identity = Self(Arc::new(Shared {
            file: config.identity_dir.join(env::IDENTITY_FILE),
            owner: config.name.clone(),
            state: Mutex::default(),
            ready,
        }));
        identity.look();
        identity
    }

    /// Follows the file. Runs until it is dropped.
    pub(crate) async fn follow(self) {
        let mut tick = interval(LOOK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let identity = self.clone();
            // Blocking only as long as a memory-backed volume is slow, but that volume need not be one.
            if tokio::task::spawn_blocking(move || identity.look())
                .await
                .is_err()
            {
                return;
            }
        }
    }

    /// How long the identity is still valid; zero without one.
    pub(crate) fn remaining(&self) -> Duration {
        self.state().signer.as_deref().map_or(Duration::ZERO, left)
    }

    /// Waits for a valid identity, at most `limit`: where the clock was just set there is soon one for the time of now.
    pub(crate) async fn awaited(&self, limit: Duration) -> Result<(), Later> {
        let end = Instant::now() + limit;
        loop {
            match self.signer() {
                Ok(_) => return Ok(()),
                Err(later) if Instant::now() >= end => return Err(later),
                Err(_) => sleep(RETRY_INTERVAL).await,
            }
        }
    }

    /// This pod's own entry for message `id`, signed, as it follows the trail `before`. Waits for a valid identity: what
    /// cannot be signed now, whatever a clock says, can be signed later.
    pub(crate) async fn sign_hop(&self, config: &Config, id: Uuid, before: &[Hop]) -> Hop {
        loop {
            match self.try_sign_hop(config, id, before) {
                Ok(hop) => return hop,
                Err(Later(reason)) => {
                    tracing::debug!(%id, reason, "a message waits for the workload identity");
                    sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }

    fn try_sign_hop(&self, config: &Config, id: Uuid, before: &[Hop]) -> Result<Hop, Later> {
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
            .map_err(|error| Later(error.to_string()))
    }

    fn signer(&self) -> Result<Arc<Signer>, Later> {
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
        // There may be a new one since the last look.
        self.look();
        let state = self.state();
        let valid = |signer: &Arc<Signer>| left(signer) > Duration::ZERO;
        state.signer.clone().filter(valid).ok_or_else(|| {
            let trouble = state.trouble.as_deref().unwrap_or("it has expired");
            Later(format!("no valid workload identity: {trouble}"))
        })
    }

    /// Takes the identity of the file if that says something else than before, and says on `/ready` what is wrong with it.
    fn look(&self) {
        let mut state = self.state();
        match fs::read_to_string(&self.0.file) {
            Ok(text) if state.seen == Some(Content::of(&text)) => {}
            Ok(text) => {
                state.seen = Some(Content::of(&text));
                match self.parse(&text) {
                    Ok(signer) => {
                        tracing::debug!(not_after = %signer.not_after(), "workload identity taken");
                        state.low = signer.life() / LAST_PART;
                        state.signer = Some(Arc::new(signer));
                        state.trouble = None;
                    }
                    Err(cause) => self.trouble(&mut state, cause),
                }
            }
            Err(error) => self.trouble(&mut state, self.unreadable(&error)),
        }
        self.judge(&mut state);
    }

    /// Says on `/ready` what is wrong with the identity, and in the log when that changes.
    fn judge(&self, state: &mut State) {
        let (standing, what) = standing(state);
        if state.pending.as_ref().map(|(said, _)| said) != what.as_ref() {
            let ready = &self.0.ready;
            // The new entry is made before the old one goes, so the pod never looks ready in between.
            state.pending = what.map(|what| match standing {
                Standing::Low => (what.clone(), ready.runs_out(what)),
                _ => (what.clone(), ready.pending(what)),
            });
        }
        let before = std::mem::replace(&mut state.standing, standing);
        if before == standing {
            return;
        }
        let what = state
            .pending
            .as_ref()
            .map(|(what, _)| what.as_str())
            .unwrap_or_default();
        match standing {
            Standing::Low => tracing::warn!("the pod is not ready, and works on: it needs {what}"),
            Standing::Expired => {
                tracing::error!("the pod takes no session, and its messages wait: it needs {what}")
            }
            Standing::Good if before != Standing::Awaited => {
                tracing::info!("there is a new workload identity")
            }
            Standing::Awaited | Standing::Good => {}
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

    /// Keeps a cause, and logs it the first time. A file that is not there yet is no news.
    fn trouble(&self, state: &mut State, cause: String) {
        if state.trouble.as_ref() != Some(&cause) {
            if state.seen.is_some() {
                tracing::warn!("workload identity: {cause}");
            }
            state.trouble = Some(cause);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long an identity is still valid. One that is not valid yet counts as expired.
fn left(signer: &Signer) -> Duration {
    let now = Timestamp::now();
    if now < signer.not_before() {
        return Duration::ZERO;
    }
    let left = signer.not_after().as_jiff().duration_since(now.as_jiff());
    Duration::try_from(left).unwrap_or(Duration::ZERO)
}

/// How well the pod is off, and what it needs.
fn standing(state: &State) -> (Standing, Option<String>) {
    let Some(signer) = state.signer.as_deref() else {
        return (Standing::Awaited, Some("workload identity".into()));
    };
    let (left, until) = (left(signer), signer.not_after());
    if left > state.low {
        (Standing::Good, None)
    } else if left > Duration::ZERO {
        let seconds = left.as_secs();
        let what = format!(
            "a new workload identity: this one is valid for {seconds} s more, until {until}; is `wosp` running?"
        );
        (Standing::Low, Some(what))
    } else {
        let what = format!(
            "a new workload identity: the last one was valid until {until}; is `wosp` running?"
        );
        (Standing::Expired, Some(what))
    }
}
