//! One run: an environment owned by this command, from creation to evidence and tear-down.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use blueprint::container::Container;
use futures_util::TryStreamExt as _;
use host::{
    environment::{Damage, Environment, Found, Name, Store},
    pods::{Liveness, PodState, Readiness},
    process::{self, ProcessId},
    timeline::{Entry, Timeline},
};
use serde::Serialize;

use crate::{
    ops::{lifecycle, report::Report},
    proof::Verdict,
    runtime::{
        self, Follow,
        request::{State, UpRequest},
    },
};

/// Lines of each container's log that the evidence holds; the whole logs are beside it.
const EVIDENCE_LINES: usize = 50;

/// Name of the evidence in a state folder.
pub const EVIDENCE: &str = "evidence.txt";

/// Owns one environment until it is removed or given up. Dropped before, as in a panic, it ends
/// everything immediately, with
/// means of its own.
#[derive(Debug)]
pub struct Run {
    store: Store,
    name: Name,
    timeline: Timeline,
    armed: bool,
}

/// `timeline.json`
#[derive(Serialize)]
struct TimelineFile<'a> {
    began_at: jiff::Timestamp,
    steps: &'a [Entry],
}

impl Run {
    /// Nothing is made before [`Self::up`].
    pub fn new(store: Store, name: Name, timeline: Timeline) -> Self {
        Self {
            store,
            name,
            timeline,
            armed: false,
        }
    }

    pub fn name(&self) -> &Name {
        &self.name
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The state folder.
    pub fn folder(&self) -> PathBuf {
        self.store.root().join(self.name.as_str())
    }

    /// Brings the environment up; from here on it is this run's to remove.
    ///
    /// `request` must be for this command's lifetime, keep what a failure leaves, and carry the name of this run: it is the
    /// run that collects evidence and cleans up.
    pub async fn up(&mut self, request: UpRequest) -> anyhow::Result<Environment> {
        self.armed = true;
        lifecycle::up(&self.store, request, &self.timeline).await
    }

    /// Writes states, the ends of all logs and the timeline into the state folder; `None` where nothing was made.
    pub async fn evidence(&self, cause: &anyhow::Error) -> anyhow::Result<Option<PathBuf>> {
        let Some(Found::Environment(environment)) = own(&self.store, &self.name)? else {
            return Ok(None);
        };
        evidence(&environment, cause, &self.timeline)
            .await
            .map(Some)
    }

    /// Ends everything in good order.
    pub async fn end(&mut self, state: State) -> anyhow::Result<()> {
        if !self.armed {
            return Ok(());
        }
        let result = self.tear_down(state).await;
        // Even if it failed: the same again from a destructor would fail again, and its text would be lost.
        self.armed = false;
        result
    }

    /// Ends everything immediately, without draining or files.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if std::mem::take(&mut self.armed) {
            kill(&self.store, &self.name).await?;
        }
        Ok(())
    }

    /// Leaves the environment running, without an owner, beside a report of what was proven.
    pub fn release(
        mut self,
        environment: &mut Environment,
        verdicts: &[Verdict],
    ) -> anyhow::Result<()> {
        environment.record.owner = None;
        environment.save()?;
        self.armed = false;
        proven(environment, verdicts, &self.timeline)
    }

    /// The same of one that has failed, as it is.
    pub async fn release_failed(
        mut self,
        environment: &mut Environment,
        cause: &anyhow::Error,
    ) -> anyhow::Result<()> {
        environment.record.owner = None;
        environment.save()?;
        self.armed = false;
        evidence(environment, cause, &self.timeline).await.map(drop)
    }

    async fn tear_down(&self, state: State) -> anyhow::Result<()> {
        match own(&self.store, &self.name)? {
            None => Ok(()),
            // Ended before its record was written: there is nothing to drain.
            Some(Found::Broken { .. }) => kill(&self.store, &self.name).await,
            Some(Found::Environment(_)) => {
                lifecycle::down(&self.store, &self.name, state, &self.timeline).await?;
                match state {
                    State::Remove => Ok(()),
                    State::Keep | State::Messages => write_timeline(&self.timeline, &self.folder()),
                }
            }
        }
    }
}

/// Writes timeline and report of an environment that was proven; evidence of an earlier failure goes.
pub fn proven(
    environment: &Environment,
    verdicts: &[Verdict],
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let folder = environment.layout().root();
    let path = folder.join(EVIDENCE);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot delete `{}`", path.display()));
        }
        _ => {}
    }
    write_timeline(timeline, folder)?;
    Report::of(&environment.record, verdicts, &timeline.entries()).write(folder)
}

/// Writes `timeline.json`.
fn write_timeline(timeline: &Timeline, folder: &Path) -> anyhow::Result<()> {
    let path = folder.join("timeline.json");
    let file = TimelineFile {
        began_at: timeline.began_at(),
        steps: &timeline.entries(),
    };
    let text = serde_json::to_vec_pretty(&file)?;
    std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))
}

/// Writes states, the ends of all logs, the timeline and a report of an environment into its state folder, which is returned.
pub async fn evidence(
    environment: &Environment,
    cause: &anyhow::Error,
    timeline: &Timeline,
) -> anyhow::Result<PathBuf> {
    let folder = environment.layout().root().to_path_buf();
    let mut text = String::new();
    match lifecycle::status(environment).await {
        Ok(pods) => {
            for pod in pods {
                write_state(&mut text, &pod)?;
            }
        }
        Err(error) => writeln!(text, "\nthe states of the pods cannot be read: {error:#}")?,
    }
    for pod in &environment.record.pods {
        for container in Container::ALL {
            writeln!(text, "\n== {} {container}", pod.name)?;
            match log_tail(environment, pod, container).await {
                Ok(tail) => writeln!(text, "{tail}")?,
                Err(error) => writeln!(text, "({error:#})")?,
            }
        }
    }
    let path = folder.join(EVIDENCE);
    std::fs::write(&path, format!("{cause:#}\n{text}"))
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    write_timeline(timeline, &folder)?;
    let steps = timeline.entries();
    let report = Report {
        failure: Some(cause),
        evidence: Some(&text),
        ..Report::of(&environment.record, &[], &steps)
    };
    report.write(&folder)?;
    Ok(folder)
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let (store, name) = (self.store.clone(), self.name.clone());
        // A separate runtime on a separate thread, since this may run while the command's runtime
        // unwinds.
        let ended = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(kill(&store, &name))
        })
        .join();
        let problem = match ended {
            Ok(Ok(())) => return,
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "its end panicked".into(),
        };
        self.timeline.warning(format!(
            "environment `{}` is left behind: {problem}; `cargo xtask sweep` removes it",
            self.name
        ));
    }
}

/// The environment of this name if this very process made it. Another command may have one of the same name, and this
/// one then failed because of it.
fn own(store: &Store, name: &Name) -> anyhow::Result<Option<Found>> {
    let found = store.list()?.into_iter().find(|found| found.name() == name);
    Ok(found.filter(|found| match found {
        Found::Environment(environment) => {
            environment.record.owner.is_some() && environment.record.owner == ProcessId::current()
        }
        // Ended between its folder and its record, so there is nothing in it. Any other has an
        // owner.
        Found::Broken { layout, damage, .. } => {
            *damage == Damage::Unreadable && !layout.holds_what_is_kept()
        }
    }))
}

/// Kills what runs of an environment of this process and deletes its files.
async fn kill(store: &Store, name: &Name) -> anyhow::Result<()> {
    let Some(found) = own(store, name)? else {
        return Ok(());
    };
    // Without a record it has no owner, unless another command is just creating it.
    let _lock = match &found {
        Found::Broken { .. } => match store.try_lock(name)? {
            Ok(lock) => Some(lock),
            Err(_) => return Ok(()),
        },
        Found::Environment(environment) => {
            let recorded: Vec<_> = environment
                .record
                .processes()
                .map(|process| process.id)
                .collect();
            process::stop(&recorded, Duration::ZERO).await?;
            if runtime::of(environment.record.runtime).has_api_servers() {
                // Deleting clusters is killing them: there is no grace in it to leave out. Namespaces end by themselves.
                let ended = lifecycle::kill(environment, &Timeline::default()).await;
                return ended.map(drop);
            }
            None
        }
    };
    let unrecorded = process::processes_under(found.layout().root())?;
    process::stop(&unrecorded, Duration::ZERO).await?;
    found.layout().remove()
}

async fn log_tail(
    environment: &Environment,
    pod: &host::environment::PodRecord,
    container: Container,
) -> anyhow::Result<String> {
    let lines = runtime::of(environment.record.runtime)
        .pods()
        .logs(environment, &pod.name, container, Follow::No)
        .await?;
    let lines: Vec<_> = lines.try_collect().await?;
    Ok(process::tail(&lines.join("\n"), EVIDENCE_LINES))
}

fn write_state(text: &mut String, pod: &PodState) -> std::fmt::Result {
    write!(text, "\n{} ({}): ", pod.name, pod.pod_name)?;
    match &pod.readiness {
        Readiness::Ready => text.push_str("ready"),
        Readiness::Waiting(missing) => write!(text, "waiting for {}", missing.join(", "))?,
        Readiness::Elsewhere(place) => write!(text, "it runs elsewhere, {place}")?,
    }
    for container in &pod.containers {
        let state = match container.state {
            Liveness::Running => "running",
            Liveness::Stopped => "stopped",
            Liveness::Crashed { .. } => "crashed",
        };
        write!(text, "; {} {state}", container.container)?;
    }
    text.push('\n');
    Ok(())
}
