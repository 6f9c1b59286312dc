//! Parses a gateway's response to `/trigger`: one acknowledgement per line.

use std::time::Duration;

use anyhow::Context as _;
use blueprint::failure::Failure;
use host::http::Lines;
use messages::Ack;
use serde::{Deserialize, Serialize};

/// A line of a gateway's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    #[serde(flatten)]
    pub ack: Ack,
    /// From the gateway's taking the message to the acknowledgement of all its branches, by the gateway's own clock, in
    /// microseconds; `None` from a gateway that does not tell.
    pub took_us: Option<u64>,
}

impl Answered {
    pub fn took(&self) -> Option<Duration> {
        self.took_us.map(Duration::from_micros)
    }
}

/// Acknowledgements as they arrive.
#[derive(Debug)]
pub struct Acks {
    pub(super) who: String,
    pub(super) lines: Lines,
}

impl Acks {
    /// The next one; `None` once all are there.
    pub async fn next(&mut self) -> anyhow::Result<Option<Ack>> {
        let answered = self.next_answered().await?;
        Ok(answered.map(|answered| answered.ack))
    }

    /// [`Self::next`], with how long its message took.
    pub async fn next_answered(&mut self) -> anyhow::Result<Option<Answered>> {
        loop {
            let line = self.lines.next().await.with_context(|| {
                Failure::product(format!(
                    "{} stopped before every message was acknowledged",
                    self.who
                ))
                .hint(
                    "run `cargo xtask status` for the pods' state and `cargo xtask logs` for \
                     their logs",
                )
            })?;
            let Some(line) = line else { return Ok(None) };
            if line.trim().is_empty() {
                continue;
            }
            let answered = serde_json::from_str(&line).with_context(|| {
                let head: String = line.chars().take(120).collect();
                Failure::product(format!(
                    "invalid acknowledgement from {}: `{head}`",
                    self.who
                ))
            })?;
            return Ok(Some(answered));
        }
    }
}
