//! The containers of a pod, by name.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// A container of a pod, under the same name in every runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Container {
    App,
    Wosp,
    Envoy,
}

impl Container {
    pub const ALL: [Self; 3] = [Self::App, Self::Wosp, Self::Envoy];

    /// Where it shows what it counts.
    pub const fn metrics_path(self) -> &'static str {
        match self {
            Self::App | Self::Wosp => "/metrics",
            Self::Envoy => "/stats/prometheus",
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Wosp => "wosp",
            Self::Envoy => "envoy",
        }
    }
}

impl std::fmt::Display for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Container {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        Self::ALL
            .into_iter()
            .find(|container| container.as_str() == text)
            .ok_or_else(|| {
                Failure::usage(format!("unknown container `{text}`"))
                    .hint("use `app`, `wosp` or `envoy`")
            })
    }
}
