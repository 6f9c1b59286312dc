//! Chooses the runtime and gives the reason.

use blueprint::failure::Failure;
use cluster::{image, k3d};
use host::{
    docker::{self, Found, Place},
    environment::RuntimeKind,
};
use serde::Serialize;

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
                "unknown runtime `{text}`: use `auto`, `embedded`, `k3d` or `existing`"
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

/// Settles which runtime is taken: `Auto` takes k3d where `k3d` and a Docker engine of this machine answer and fit, else the
/// embedded one.
pub async fn choose(choice: RuntimeChoice) -> Chosen {
    let (kind, why) = match choice {
        RuntimeChoice::Embedded => (RuntimeKind::Embedded, "it was asked for".to_owned()),
        RuntimeChoice::K3d => (RuntimeKind::K3d, "it was asked for".to_owned()),
        RuntimeChoice::Existing => (RuntimeKind::Existing, "it was asked for".to_owned()),
        RuntimeChoice::Auto => match no_clusters().await {
            None => (
                RuntimeKind::K3d,
                "a Docker engine and k3d answer".to_owned(),
            ),
            Some(why) => (RuntimeKind::Embedded, why),
        },
    };
    Chosen { kind, why }
}

/// Why clusters cannot be made here; `None` where nothing is known to be against it.
async fn no_clusters() -> Option<String> {
    let (found, k3d) = tokio::join!(docker::find(), k3d::version());
    let engine = match found {
        Ok(Found::Docker(engine)) => engine,
        Ok(Found::Podman(version)) => return Some(format!("`docker` is Podman {version}")),
        Err(_) => return Some("no Docker engine answers".into()),
    };
    let Ok(k3d) = k3d else {
        return Some("`k3d` does not answer".into());
    };
    if let Some(why) = k3d::too_old_for(k3d, &engine) {
        return Some(format!("k3d {why}"));
    }
    match docker::place(&engine.info, image::REPOSITORY).await {
        Place::Here => None,
        Place::Elsewhere(why) | Place::Unknown(why) => Some(why),
    }
}
