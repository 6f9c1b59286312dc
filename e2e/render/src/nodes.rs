//! Selects the nodes that can run a pod's images.

use std::{collections::BTreeMap, fmt, str::FromStr};

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
};

/// Labels that each kubelet gives its node.
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-os>
const OS_LABEL: &str = "kubernetes.io/os";
const ARCHITECTURE_LABEL: &str = "kubernetes.io/arch";

/// The architecture of a node and of an image, by the name that Go has for it, as Kubernetes and registries use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Architecture {
    Amd64,
    Arm,
    Arm64,
    Ppc64le,
    Riscv64,
    S390x,
}

/// A text that names no architecture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no architecture; use one of amd64, arm, arm64, ppc64le, riscv64, s390x")]
pub struct UnknownArchitecture(String);

impl Architecture {
    const ALL: [(Self, &str, &str); 6] = [
        (Self::Amd64, "amd64", "x86_64"),
        (Self::Arm, "arm", "arm"),
        (Self::Arm64, "arm64", "aarch64"),
        (Self::Ppc64le, "ppc64le", "powerpc64"),
        (Self::Riscv64, "riscv64", "riscv64"),
        (Self::S390x, "s390x", "s390x"),
    ];

    /// The one that programs are built for here, and so the image that is made of them; `None` where Kubernetes has no name for it.
    pub fn here() -> Option<Self> {
        let all = Self::ALL.into_iter();
        all.into_iter()
            .find(|(_, _, rust)| *rust == std::env::consts::ARCH)
            .map(|(architecture, ..)| architecture)
    }

    pub fn as_str(self) -> &'static str {
        let found = Self::ALL.into_iter().find(|(one, ..)| *one == self);
        found.map_or("", |(_, name, _)| name)
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Architecture {
    type Err = UnknownArchitecture;

    /// By the name of Kubernetes, or by the one that `uname -m` has.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|(_, name, rust)| *name == text || *rust == text)
            .map(|(architecture, ..)| architecture)
            .ok_or_else(|| UnknownArchitecture(text.chars().take(50).collect()))
    }
}

/// Images of Ferry and Envoy are for Linux; a cluster may have nodes of Windows beside.
pub fn node_selector() -> BTreeMap<String, String> {
    [(OS_LABEL.to_owned(), "linux".to_owned())].into()
}

/// To nodes of one of these; to any where none is named.
pub fn node_affinity(architectures: &[Architecture]) -> Option<Affinity> {
    if architectures.is_empty() {
        return None;
    }
    let expression = NodeSelectorRequirement {
        key: ARCHITECTURE_LABEL.into(),
        operator: "In".into(),
        values: Some(architectures.iter().map(Architecture::to_string).collect()),
    };
    let term = NodeSelectorTerm {
        match_expressions: Some(vec![expression]),
        match_fields: None,
    };
    Some(Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![term],
            }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_architecture_has_its_names() {
        for (text, expected) in [
            ("amd64", "amd64"),
            ("x86_64", "amd64"),
            ("aarch64", "arm64"),
        ] {
            assert_eq!(text.parse::<Architecture>().unwrap().to_string(), expected);
        }
        for text in ["", "AMD64", "i386", "linux/amd64"] {
            assert!(text.parse::<Architecture>().is_err(), "`{text}`");
        }
        assert!(Architecture::here().is_some());
    }
}
