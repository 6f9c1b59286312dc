//! Which runtime is taken, and why.

use serde::Serialize;

use super::k3d;
use crate::{docker, environment::RuntimeKind, failure::Failure};

/// Which runtime the user wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuntimeChoice {
    /// The best that this machine can do.
    #[default]
    Auto,
    Embedded,
    K3d,
    Existing,
}

impl std::str::FromStr for RuntimeChoice {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        match text {
            "auto" => Ok(Self::Auto),
            "embedded" => Ok(Self::Embedded),
            "k3d" => Ok(Self::K3d),
            "existing" => Ok(Self::Existing),
            _ => Err(Failure::usage(format!(
                "`{text}` is no runtime: use `auto`, `embedded`, `k3d` or `existing`"
            ))),
        }
    }
}

/// The runtime that is taken, and why: the first line that a command shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chosen {
    pub kind: RuntimeKind,
    /// Completes "because …".
    pub why: String,
}

/// Settles which runtime is taken: `Auto` takes k3d where a Docker engine and `k3d` answer, else the embedded one.
pub async fn choose(choice: RuntimeChoice) -> Chosen {
    let (kind, why) = match choice {
        RuntimeChoice::Embedded => (RuntimeKind::Embedded, "it was asked for".to_owned()),
        RuntimeChoice::K3d => (RuntimeKind::K3d, "it was asked for".to_owned()),
        RuntimeChoice::Existing => (RuntimeKind::Existing, "it was asked for".to_owned()),
        RuntimeChoice::Auto => match tokio::join!(docker::info(), k3d::version()) {
            (Ok(_), Ok(_)) => (
                RuntimeKind::K3d,
                "a Docker engine and k3d answer".to_owned(),
            ),
            (Err(_), _) => (RuntimeKind::Embedded, "no Docker engine answers".to_owned()),
            (_, Err(_)) => (RuntimeKind::Embedded, "`k3d` does not answer".to_owned()),
        },
    };
    Chosen { kind, why }
}
