//! The pod's workload identity, as `wosp` renews it, and the hops that are signed with it.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use messages::{
    Hop, Timestamp, WorkloadName, env,
    signature::{SignError, Signer},
};
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use crate::{
    config::Config,
    ready::{Pending, Ready},
    relay::Later,
};

/// How often the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// An identity with less left than this is looked after on demand as well, not only once a second.
const SOON: Duration = Duration::from_secs(5);
/// What the pod waits for while it has none.
const MISSING: &str = "workload identity";

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
    /// Which file was read last, good or bad.
    seen: Option<Stamp>,
    signer: Option<Arc<Signer>>,
    /// There while there is no valid identity.
    pending: Option<Pending>,
    /// Why the file was no use, to be logged once.
    trouble: Option<String>,
}

/// Tells one file from the one that replaced it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    length: u64,
}

impl From<&Metadata> for Stamp {
    fn from(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            modified: (file.mtime(), file.mtime_nsec()),
            length: file.len(),
        }
    }
}

/// Why a hop was not signed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unsigned {
    /// This pod cannot sign now.
    Later(Later),
    /// No pod could sign this.
    Never(String),
}

impl Identity {
    /// Looks for the identity of the pod; what is missing shows on `ready`.
    pub(crate) fn new(config: &Config, ready: Ready) -> Self {
        let identity = Self(Arc::new(Shared {
            file: config.identity_dir.join(env::IDENTITY_FILE),
            owner: config.name.clone(),
            state: Mutex::new(State {
                pending: Some(ready.pending(MISSING)),
                ..State::default()
            }),
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

    /// Whether there is a valid identity now.
    pub(crate) fn check(&self) -> Result<(), Later> {
        self.signer().map(drop)
    }

    /// This pod's own entry for message `id`, signed, as it follows the trail `before`.
    pub(crate) fn sign_hop(
        &self,
        config: &Config,
        id: Uuid,
        before: &[Hop],
    ) -> Result<Hop, Unsigned> {
        let signer = self.signer().map_err(Unsigned::Later)?;
        let hop = Hop {
            pod: config.pod_name.clone(),
            role: config.role,
            cluster: config.name.cluster().to_owned(),
            namespace: config.namespace(),
            node: config.node.clone(),
            at: Timestamp::now(),
            signature: String::new(),
        };
        signer.sign(id, before, hop).map_err(|error| match error {
            // The signer is valid now, so it is the trail that lies in its future: sending it again would not help.
            SignError::NotValidAt { at, .. } => Unsigned::Never(format!(
                "the last hop's time {at} is further ahead than clocks may differ"
            )),
            other => Unsigned::Later(Later(other.to_string())),
        })
    }

    /// The first hop of a message that begins here. Waits for a valid identity.
    pub(crate) async fn sign_first_hop(&self, config: &Config, id: Uuid) -> Hop {
        let mut tick = interval(LOOK_INTERVAL);
        loop {
            tick.tick().await;
            match self.sign_hop(config, id, &[]) {
                Ok(hop) => return hop,
                Err(unsigned) => {
                    tracing::debug!(?unsigned, "a message waits for the workload identity")
                }
            }
        }
    }

    fn signer(&self) -> Result<Arc<Signer>, Later> {
        let newest = |state: &State| {
            state
                .signer
                .clone()
                .filter(|signer| left(signer) > Duration::ZERO)
        };
        let known = newest(&self.state());
        match known {
            Some(signer) if left(&signer) > SOON => return Ok(signer),
            _ => self.look(),
        }
        let state = self.state();
        newest(&state).ok_or_else(|| {
            let trouble = state.trouble.as_deref().unwrap_or("it has expired");
            Later(format!("no valid workload identity: {trouble}"))
        })
    }

    /// Reads the file if it is another one than before, and says on `/ready` whether there is a valid identity.
    fn look(&self) {
        let mut state = self.state();
        match fs::metadata(&self.0.file).map(|file| Stamp::from(&file)) {
            Ok(stamp) if state.seen == Some(stamp) => {}
            Ok(stamp) => {
                state.seen = Some(stamp);
                match self.read() {
                    Ok(signer) => {
                        tracing::debug!(not_after = %signer.not_after(), "workload identity taken");
                        state.signer = Some(Arc::new(signer));
                        state.trouble = None;
                    }
                    Err(cause) => self.trouble(&mut state, cause),
                }
            }
            Err(error) => self.trouble(&mut state, self.unreadable(&error)),
        }
        let valid = state
            .signer
            .as_deref()
            .is_some_and(|signer| left(signer) > Duration::ZERO);
        if valid {
            state.pending = None;
        } else if state.pending.is_none() {
            tracing::error!(
                file = %self.0.file.display(),
                "the workload identity has expired; the pod takes nothing until `wosp` writes a new one"
            );
            state.pending = Some(self.0.ready.pending(MISSING));
        }
    }

    fn read(&self) -> Result<Signer, String> {
        let text = fs::read_to_string(&self.0.file).map_err(|error| self.unreadable(&error))?;
        let signer = Signer::from_identity_file(&text)
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
