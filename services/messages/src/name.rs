//! Names of pods, and the identifiers that follow from them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Last labels of every workload's DNS name and of every trust domain.
const DOMAIN: &str = "ferry.internal";

/// Returns true for an RFC 1123 DNS label: 1 to 63 of `a-z`, `0-9`, `-`, starting and ending with a
/// letter or digit.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names>
pub fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The name of a pod: `<pod>.<cluster>.<blueprint>.ferry.internal`.
///
/// `pod` is the pod's name in its blueprint (`sink`), not that of the Kubernetes pod
/// (`sink-6d4f…`). Each part is a DNS label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadName {
    blueprint: String,
    cluster: String,
    pod: String,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "invalid workload name `{0}`: expected `<pod>.<cluster>.<blueprint>.{DOMAIN}` of DNS labels"
)]
/// A text that is not the name of a pod, at most 300 characters of it.
pub struct InvalidName(String);

impl WorkloadName {
    /// Returns the name of a pod.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidName`] if a part is not a DNS label.
    pub fn new(blueprint: &str, cluster: &str, pod: &str) -> Result<Self, InvalidName> {
        if [blueprint, cluster, pod].into_iter().all(is_dns_label) {
            Ok(Self {
                blueprint: blueprint.into(),
                cluster: cluster.into(),
                pod: pod.into(),
            })
        } else {
            Err(InvalidName(
                format!("{pod}.{cluster}.{blueprint}.{DOMAIN}")
                    .chars()
                    .take(300)
                    .collect(),
            ))
        }
    }

    /// Returns the name of the blueprint.
    pub fn blueprint(&self) -> &str {
        &self.blueprint
    }

    /// Returns the name of the cluster in the blueprint.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Returns the name of the pod in the blueprint.
    pub fn pod(&self) -> &str {
        &self.pod
    }

    /// `<blueprint>.ferry.internal`
    pub fn trust_domain(&self) -> String {
        format!("{}.{DOMAIN}", self.blueprint)
    }

    /// `spiffe://<blueprint>.ferry.internal/<cluster>/<pod>`
    /// <https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md>
    pub fn spiffe_id(&self) -> String {
        format!(
            "spiffe://{}/{}/{}",
            self.trust_domain(),
            self.cluster,
            self.pod
        )
    }

    /// `<blueprint>-<pod>-ns`: the Kubernetes namespace of the pod.
    pub fn namespace(&self) -> String {
        format!("{}-{}-ns", self.blueprint, self.pod)
    }
}

impl fmt::Display for WorkloadName {
    /// The DNS name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{}.{}.{DOMAIN}",
            self.pod, self.cluster, self.blueprint
        )
    }
}

impl FromStr for WorkloadName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidName(text.chars().take(300).collect());
        let labels = text
            .strip_suffix(DOMAIN)
            .and_then(|rest| rest.strip_suffix('.'))
            .ok_or_else(invalid)?;
        match labels.split('.').collect::<Vec<_>>()[..] {
            [pod, cluster, blueprint] => Self::new(blueprint, cluster, pod).map_err(|_| invalid()),
            _ => Err(invalid()),
        }
    }
}

impl Serialize for WorkloadName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WorkloadName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workload_name_round_trips() {
        let text = "sink.cluster-b.international-ferry.ferry.internal";
        let name: WorkloadName = text.parse().unwrap();
        assert_eq!(name.to_string(), text);
        assert_eq!(
            name.spiffe_id(),
            "spiffe://international-ferry.ferry.internal/cluster-b/sink"
        );
        assert_eq!(name.namespace(), "international-ferry-sink-ns");
    }

    #[test]
    fn invalid_workload_names_are_rejected() {
        for text in [
            "",
            "ferry.internal",
            "sink.ferry.internal",
            "a.b.c.d.ferry.internal",
            "A.b.c.ferry.internal",
            "a.b.cferry.internal",
            "-a.b.c.ferry.internal",
        ] {
            assert!(
                text.parse::<WorkloadName>().is_err(),
                "`{text}` must be refused"
            );
        }
    }
}
