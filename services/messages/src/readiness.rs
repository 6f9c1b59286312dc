//! The answer of `GET /ready`, for the services that give it and the harness that reads it.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Whether a container is ready, and what it waits for: 200 if it is, otherwise 503.
///
/// `{"ready": false, "waiting_for": ["…"], "clock": "2026-11-22T18:53:44.000001Z"}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// True if `waiting_for` is empty.
    pub ready: bool,
    /// What is missing, oldest first.
    pub waiting_for: Vec<String>,
    /// The time by the pod's own clock, so that the reader can tell how far two clocks differ.
    /// Absent from answers of `wosp` and of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Timestamp>,
}

impl Readiness {
    /// Returns the answer of a container that waits for `waiting_for`.
    pub fn new(waiting_for: Vec<String>, clock: Option<Timestamp>) -> Self {
        Self {
            ready: waiting_for.is_empty(),
            waiting_for,
            clock,
        }
    }

    /// Returns what is missing as one text, or `None` if nothing is.
    pub fn obstacle(&self) -> Option<String> {
        (!self.waiting_for.is_empty()).then(|| self.waiting_for.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_round_trips_without_a_clock() {
        let text = r#"{"ready":false,"waiting_for":["identity","sink"]}"#;
        let readiness: Readiness = serde_json::from_str(text).unwrap();
        assert_eq!(readiness.obstacle().unwrap(), "identity, sink");
        assert_eq!(serde_json::to_string(&readiness).unwrap(), text);
    }

    #[test]
    fn nothing_missing_is_ready() {
        let readiness = Readiness::new(Vec::new(), Some(Timestamp::MIN));
        assert!(readiness.ready && readiness.obstacle().is_none());
    }
}
