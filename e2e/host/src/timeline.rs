//! Records steps with start, duration and failure. The harness never prints; the command line
//! shows what an [`Observer`] receives.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Serialize;

/// Receives every event as it happens. Called from any thread; must not block.
pub trait Observer: Send + Sync {
    fn observe(&self, event: &Event<'_>);
}

/// Something that happened to step number `step`, or beside all steps.
#[derive(Debug)]
pub enum Event<'a> {
    Started {
        step: usize,
        name: &'a str,
    },
    Progress {
        step: usize,
        name: &'a str,
        text: &'a str,
    },
    Finished {
        step: usize,
        name: &'a str,
        took: Duration,
    },
    Failed {
        step: usize,
        name: &'a str,
        took: Duration,
    },
    /// A line for the reader that belongs to no step.
    Note {
        text: &'a str,
    },
    /// Something is wrong but the run goes on, such as a leftover that could not be deleted.
    Warning {
        text: &'a str,
    },
}

/// One step as `timeline.json` has it. Milliseconds count from the start of the timeline.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    pub name: String,
    pub started_ms: u64,
    /// Absent while it runs.
    pub took_ms: Option<u64>,
    pub failed: bool,
    /// The last progress text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

struct Inner {
    began: Instant,
    began_at: Timestamp,
    entries: Mutex<Vec<Entry>>,
    observer: Box<dyn Observer>,
}

/// A shared record of steps; clones write to the same one.
#[derive(Clone)]
pub struct Timeline(Arc<Inner>);

struct Silent;

impl Observer for Silent {
    fn observe(&self, _event: &Event<'_>) {}
}

/// Records, and reports nothing.
impl Default for Timeline {
    fn default() -> Self {
        Self::new(Silent)
    }
}

impl Timeline {
    pub fn new(observer: impl Observer + 'static) -> Self {
        Self(Arc::new(Inner {
            began: Instant::now(),
            began_at: Timestamp::now(),
            entries: Mutex::default(),
            observer: Box::new(observer),
        }))
    }

    /// When the timeline began.
    pub fn began_at(&self) -> Timestamp {
        self.0.began_at
    }

    /// Opens a step; it counts as failed if dropped before [`Step::done`].
    pub fn step(&self, name: impl Into<String>) -> Step {
        let name = name.into();
        let number = self.with(|entries| {
            entries.push(Entry {
                name: name.clone(),
                started_ms: millis(self.0.began.elapsed()),
                took_ms: None,
                failed: false,
                last: None,
            });
            entries.len() - 1
        });
        self.0.observer.observe(&Event::Started {
            step: number,
            name: &name,
        });
        Step {
            timeline: self.clone(),
            number,
            name,
            started: Instant::now(),
            open: true,
        }
    }

    /// Runs `work` as a step.
    pub async fn run<T, W, F>(&self, name: impl Into<String>, work: W) -> anyhow::Result<T>
    where
        W: FnOnce(Arc<Step>) -> F,
        F: Future<Output = anyhow::Result<T>>,
    {
        let step = Arc::new(self.step(name));
        let result = work(step.clone()).await;
        if result.is_ok() {
            step.close(true);
        }
        result
    }

    pub fn note(&self, text: impl AsRef<str>) {
        self.0.observer.observe(&Event::Note {
            text: text.as_ref(),
        });
    }

    pub fn warning(&self, text: impl AsRef<str>) {
        self.0.observer.observe(&Event::Warning {
            text: text.as_ref(),
        });
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.with(|entries| entries.clone())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Vec<Entry>) -> T) -> T {
        work(
            &mut self
                .0
                .entries
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

impl fmt::Debug for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeline")
            .field("entries", &self.entries())
            .finish_non_exhaustive()
    }
}

/// A step that is under way.
pub struct Step {
    timeline: Timeline,
    number: usize,
    name: String,
    started: Instant,
    open: bool,
}

impl Step {
    /// Says what the step is at.
    pub fn progress(&self, text: impl Into<String>) {
        let text = text.into();
        self.timeline.0.observer.observe(&Event::Progress {
            step: self.number,
            name: &self.name,
            text: &text,
        });
        self.timeline
            .with(|entries| entries[self.number].last = Some(text));
    }

    pub fn done(mut self) {
        self.close(true);
        self.open = false;
    }

    fn close(&self, success: bool) {
        let took = self.started.elapsed();
        let first = self.timeline.with(|entries| {
            let entry = &mut entries[self.number];
            let first = entry.took_ms.is_none();
            if first {
                entry.took_ms = Some(millis(took));
                entry.failed = !success;
            }
            first
        });
        if first {
            let (step, name) = (self.number, self.name.as_str());
            self.timeline.0.observer.observe(&if success {
                Event::Finished { step, name, took }
            } else {
                Event::Failed { step, name, took }
            });
        }
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if self.open {
            self.close(false);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_step_that_is_left_early_has_failed() {
        let timeline = Timeline::default();
        timeline.step("good").done();
        drop(timeline.step("left"));
        timeline.run("ran", |_| async { Ok(()) }).await.unwrap();
        timeline
            .run("broke", |step| async move {
                step.progress("half");
                Err::<(), _>(anyhow::anyhow!("no"))
            })
            .await
            .unwrap_err();
        let seen: Vec<_> = timeline
            .entries()
            .into_iter()
            .map(|entry| (entry.name, entry.failed, entry.took_ms.is_some()))
            .collect();
        assert_eq!(
            seen,
            [
                ("good".into(), false, true),
                ("left".into(), true, true),
                ("ran".into(), false, true),
                ("broke".into(), true, true)
            ]
        );
    }
}
