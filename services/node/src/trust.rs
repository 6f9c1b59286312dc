//! Verifies trails while messages travel, against the roots that `wosp` publishes.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use messages::{
    Message, WorkloadName, env,
    signature::{TrailError, TrailVerifier},
};

use tokio::time::Instant;

use crate::{
    config::Config,
    connections::roles_fit,
    preamble::Peer,
    ready::{Pending, Ready},
};

/// Time between two lines in the log about refused trails.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// The trusted roots in the identity folder. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Roots(Arc<Shared>);

struct Shared {
    file: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last file that could be used.
    text: Option<Arc<str>>,
    /// The entry on `/ready` until there are roots.
    pending: Option<Pending>,
    /// Why the file could not be used; logged once.
    error: Option<String>,
}

impl Roots {
    /// Reads the roots of the pod. Missing ones show on `ready`.
    pub(crate) fn new(config: &Config, ready: Ready) -> Self {
        let roots = Self(Arc::new(Shared {
            file: config.identity_dir.join(env::ROOTS_FILE),
            state: Mutex::new(State {
                pending: Some(ready.pending("the trusted roots; is `wosp` running?")),
                ..State::default()
            }),
        }));
        roots.reload();
        roots
    }

    /// Reads the file, and takes its roots if the content changed. While a file cannot be used, the
    /// roots before it stay.
    pub(crate) fn reload(&self) {
        let text = fs::read_to_string(&self.0.file).map_err(|error| error.to_string());
        let mut state = self.state();
        let usable = text.and_then(|text| {
            if state.text.as_deref() == Some(&text) {
                return Ok(None);
            }
            TrailVerifier::from_roots_file(&text).map_err(|error| error.to_string())?;
            Ok(Some(text))
        });
        match usable {
            Ok(None) => state.error = None,
            Ok(Some(text)) => {
                if state.text.is_some() {
                    tracing::info!("took new trusted roots");
                }
                state.text = Some(text.into());
                state.error = None;
                state.pending = None;
            }
            Err(cause) if state.error.as_ref() == Some(&cause) => {}
            Err(cause) => {
                if state.text.is_some() {
                    let file = self.0.file.display();
                    tracing::warn!("trusted roots: {file}: {cause}; the last ones stay");
                }
                state.error = Some(cause);
            }
        }
    }

    fn current(&self) -> Option<Arc<str>> {
        self.state().text.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A trail that is not what the message's way must have left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RefusedTrail {
    /// In one word, as `docs/signature.md` has it, or one of those below.
    pub(crate) reason: &'static str,
    pub(crate) cause: String,
}

/// Logs refused trails, at most one a second: a peer can send as many as it likes.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<(Option<Instant>, u64)>);

impl Refusals {
    pub(crate) fn warn(&self, Peer(peer): &Peer, refused: &RefusedTrail) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, unsaid) = &mut *last;
        if at.is_some_and(|at| at.elapsed() < LOG_INTERVAL) {
            *unsaid += 1;
            return;
        }
        *at = Some(Instant::now());
        let unsaid = std::mem::take(unsaid);
        let RefusedTrail { reason, cause } = refused;
        tracing::warn!(%peer, reason, cause, unsaid, "a trail was refused, its session ended");
    }
}

/// The last hop is not that of the session's peer.
const OTHER_PEER: &str = "other-peer";
/// The signers are no route of the blueprint to this pod.
const OTHER_ROUTE: &str = "other-route";
const TOO_LONG: &str = "too-long";
/// The pod has no roots to verify against.
const NO_ROOTS: &str = "no-roots";

/// Verifies the trails of one session. It keeps the certificate chains that it has verified.
pub(crate) struct TrailCheck {
    roots: Roots,
    peer: Peer,
    /// Made of this text of the roots' file.
    verifier: Option<(Arc<str>, TrailVerifier)>,
}

impl TrailCheck {
    pub(crate) fn new(roots: Roots, peer: Peer) -> Self {
        Self {
            roots,
            peer,
            verifier: None,
        }
    }

    /// Verifies that each hop was signed by a pod on a way to this one, and the last by the peer of
    /// this session. Hops are judged at their own times, so clocks of two pods are not compared.
    pub(crate) fn verify(
        &mut self,
        config: &Config,
        message: &Message,
    ) -> Result<(), RefusedTrail> {
        let names = match self.signers(message) {
            Err(refused) if refused.reason == "other-root" => {
                // The roots may have been replaced since the last read.
                self.roots.reload();
                self.signers(message)?
            }
            other => other?,
        };
        let Peer(peer) = &self.peer;
        if names.last() != Some(peer) {
            let by = names
                .last()
                .map_or("no pod".into(), WorkloadName::to_string);
            return Err(RefusedTrail {
                reason: OTHER_PEER,
                cause: format!("its last hop is signed by {by}, the session is that of {peer}"),
            });
        }
        if !config.connections.lead_to(&config.name, &names) || !roles_fit(&message.trail) {
            let route: Vec<_> = names.iter().map(WorkloadName::pod).collect();
            return Err(RefusedTrail {
                reason: OTHER_ROUTE,
                cause: format!("`{}` is no route to this pod", route.join(" → ")),
            });
        }
        Ok(())
    }

    fn signers(&mut self, message: &Message) -> Result<Vec<WorkloadName>, RefusedTrail> {
        let verifier = self.verifier()?;
        verifier
            .verify(message.id, &message.trail)
            .map_err(|error| RefusedTrail {
                reason: match &error {
                    TrailError::Hop { problem, .. } => problem.word(),
                    TrailError::TooLong { .. } => TOO_LONG,
                    _ => NO_ROOTS,
                },
                cause: error.to_string(),
            })
    }

    /// Returns a verifier by the current roots.
    fn verifier(&mut self) -> Result<&mut TrailVerifier, RefusedTrail> {
        let no_roots = |cause: String| RefusedTrail {
            reason: NO_ROOTS,
            cause,
        };
        let text = self.roots.current();
        let text = text.ok_or_else(|| no_roots("the pod has no trusted roots".into()))?;
        let made = match self.verifier.take() {
            Some((of, verifier)) if Arc::ptr_eq(&of, &text) => verifier,
            _ => TrailVerifier::from_roots_file(&text)
                .map_err(|error| no_roots(error.to_string()))?,
        };
        Ok(&mut self.verifier.insert((text, made)).1)
    }
}
