//! The only way to wait: a description, a deadline, progress, and an early end on a state that
//! cannot recover.

use std::{future::Future, time::Duration};

use blueprint::failure::Failure;
use futures_util::{Stream, StreamExt as _};
use tokio::time::Instant;

use crate::timeline::Step;

/// What one look at the thing waited for has shown.
#[derive(Debug)]
pub enum Seen<T> {
    Ready(T),
    /// Not there yet; the text describes the current state and becomes part of the time-out
    /// message.
    Waiting(String),
}

/// A wait in the making.
///
/// A probe that returns `Err` ends the wait immediately: the rule for states that cannot recover.
#[derive(Debug)]
pub struct Wait<'a> {
    what: String,
    limit: Duration,
    longest_pause: Duration,
    hint: Option<String>,
    step: Option<&'a Step>,
}

impl<'a> Wait<'a> {
    /// `what` completes "waiting for …".
    pub fn until(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            limit: Duration::from_secs(30),
            longest_pause: Duration::from_millis(200),
            hint: None,
            step: None,
        }
    }

    /// The deadline; 30 s unless set.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Longest pause between two looks; pauses start at 5 ms and double up to this, 200 ms unless set.
    #[must_use]
    pub fn looking_every(mut self, pause: Duration) -> Self {
        self.longest_pause = pause;
        self
    }

    /// What to do next if the deadline passes.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Shows each state that was seen as progress of `step`.
    #[must_use]
    pub fn showing(mut self, step: &'a Step) -> Self {
        self.step = Some(step);
        self
    }

    /// Looks until the probe is ready, fails, or the deadline passes; a single look is cut at the deadline too.
    pub async fn poll<T, P, F>(self, mut probe: P) -> anyhow::Result<T>
    where
        P: FnMut() -> F,
        F: Future<Output = anyhow::Result<Seen<T>>>,
    {
        let deadline = Instant::now() + self.limit;
        let mut pause = Duration::from_millis(5);
        let mut last = "nothing yet".to_owned();
        loop {
            match tokio::time::timeout_at(deadline, probe()).await {
                Ok(Ok(Seen::Ready(value))) => return Ok(value),
                Ok(Ok(Seen::Waiting(state))) => {
                    if state != last {
                        if let Some(step) = self.step {
                            step.progress(format!("waiting for {}: {state}", self.what));
                        }
                        last = state;
                    }
                }
                Ok(Err(error)) => {
                    return Err(error.context(format!("while waiting for {}", self.what)));
                }
                Err(_) => return Err(self.timed_out(&last)),
            }
            if Instant::now() + pause >= deadline {
                tokio::time::sleep_until(deadline).await;
                // One last look, so that a state reached during the last pause still counts.
                match tokio::time::timeout(Duration::from_secs(1), probe()).await {
                    Ok(Ok(Seen::Ready(value))) => return Ok(value),
                    Ok(Ok(Seen::Waiting(state))) => last = state,
                    Ok(Err(error)) => {
                        return Err(error.context(format!("while waiting for {}", self.what)));
                    }
                    Err(_) => {}
                }
                return Err(self.timed_out(&last));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.longest_pause);
        }
    }

    /// Follows a stream of events until `look` is ready or fails, or the deadline passes. A stream that ends early is an error.
    pub async fn follow<T, S, L>(self, mut events: S, mut look: L) -> anyhow::Result<T>
    where
        S: Stream + Unpin,
        L: FnMut(S::Item) -> anyhow::Result<Seen<T>>,
    {
        let deadline = Instant::now() + self.limit;
        let mut last = "nothing yet".to_owned();
        loop {
            let event = match tokio::time::timeout_at(deadline, events.next()).await {
                Ok(Some(event)) => event,
                Ok(None) => {
                    return Err(Failure::infrastructure(format!(
                        "the events of {} ended; last seen: {last}",
                        self.what
                    ))
                    .into());
                }
                Err(_) => return Err(self.timed_out(&last)),
            };
            match look(event) {
                Ok(Seen::Ready(value)) => return Ok(value),
                Ok(Seen::Waiting(state)) => {
                    if state != last {
                        if let Some(step) = self.step {
                            step.progress(format!("waiting for {}: {state}", self.what));
                        }
                        last = state;
                    }
                }
                Err(error) => return Err(error.context(format!("while waiting for {}", self.what))),
            }
        }
    }

    fn timed_out(&self, last: &str) -> anyhow::Error {
        let failure = Failure::infrastructure(format!(
            "{} did not come within {:.0?}; last seen: {last}",
            self.what, self.limit
        ));
        match &self.hint {
            Some(hint) => failure.hint(hint).into(),
            None => failure.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn wait_ends_at_deadline_with_last_state() {
        let error = Wait::until("the ferry")
            .within(Duration::from_secs(5))
            .hint("look at the timetable")
            .poll(|| async { Ok(Seen::<()>::Waiting("fog".into())) })
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the ferry did not come within 5s; last seen: fog"
        );
        assert_eq!(
            Failure::of(&error).unwrap().next_step(),
            Some("look at the timetable")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn wait_ends_early_on_permanent_failure() {
        let started = Instant::now();
        let error = Wait::until("the ferry")
            .poll(|| async { Err::<Seen<()>, _>(anyhow::anyhow!("sunk")) })
            .await
            .unwrap_err();
        assert_eq!(format!("{error:#}"), "while waiting for the ferry: sunk");
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn stream_is_followed_to_end_or_deadline() {
        let look = |number: u32| {
            Ok(if number == 2 {
                Seen::Ready(number)
            } else {
                Seen::Waiting(number.to_string())
            })
        };
        assert_eq!(
            Wait::until("two")
                .follow(futures_util::stream::iter([1, 2, 3]), look)
                .await
                .unwrap(),
            2
        );
        let error = Wait::until("two")
            .follow(futures_util::stream::iter([1]), look)
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "the events of two ended; last seen: 1");
        let silent = futures_util::stream::iter([1]).chain(futures_util::stream::pending());
        let error = Wait::until("two")
            .within(Duration::from_secs(3))
            .follow(Box::pin(silent), look)
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "two did not come within 3s; last seen: 1"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_probe_is_cut_at_the_deadline() {
        let error = Wait::until("the ferry")
            .within(Duration::from_secs(2))
            .poll(std::future::pending::<anyhow::Result<Seen<()>>>)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("within 2s"), "{error}");
    }
}
