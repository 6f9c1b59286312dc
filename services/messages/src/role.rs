//! The roles of pods.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What a pod does with messages. WebSocket blueprints call their pods `initiator` and
/// `terminator`; the roles are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The source: makes messages from triggers.
    Gateway,
    /// A relay: receives and passes on.
    Processor,
    /// The end: stores and acknowledges.
    Sink,
}

impl Role {
    /// All roles, in the order of a route.
    pub const ALL: [Self; 3] = [Self::Gateway, Self::Processor, Self::Sink];

    /// Returns the name in a blueprint.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Processor => "processor",
            Self::Sink => "sink",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that is not a role, at most 64 characters of it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown role `{0}`: use `gateway`, `processor` or `sink`")]
pub struct InvalidRole(String);

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| InvalidRole(text.chars().take(64).collect()))
    }
}
