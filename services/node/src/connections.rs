//! The connections of the blueprint: which pods may have carried a message that is here.

use std::{collections::BTreeSet, str::FromStr};

use messages::{Hop, Role, WorkloadName};

/// The connections that lead to and from this pod, over any number of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connections(BTreeSet<(WorkloadName, WorkloadName)>);

impl FromIterator<(WorkloadName, WorkloadName)> for Connections {
    fn from_iter<I: IntoIterator<Item = (WorkloadName, WorkloadName)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl FromStr for Connections {
    type Err = String;

    /// Parses `<name>><name>`, comma separated: the sender before the receiver.
    fn from_str(text: &str) -> Result<Self, String> {
        let pair = |entry: &str| {
            let (from, to) = entry
                .split_once('>')
                .ok_or_else(|| format!("invalid connection `{entry}`"))?;
            let name = |text: &str| text.trim().parse().map_err(|error| format!("{error}"));
            Ok((name(from)?, name(to)?))
        };
        text.split(',').map(pair).collect()
    }
}

impl Connections {
    /// Returns true if a message that `names` signed, in this order, may be at `here`: from a
    /// gateway on, each has a connection to the next, and the last one to `here`.
    pub(crate) fn lead_to(&self, here: &WorkloadName, names: &[WorkloadName]) -> bool {
        let Some(first) = names.first() else {
            return false;
        };
        let next = names.iter().skip(1).chain([here]);
        !self.0.iter().any(|(_, to)| to == first)
            && names
                .iter()
                .zip(next)
                .all(|(from, to)| self.0.contains(&(from.clone(), to.clone())))
    }
}

/// Returns true if the hops of a message in transit have the roles of their places.
pub(crate) fn roles_fit(trail: &[Hop]) -> bool {
    trail.iter().enumerate().all(|(index, hop)| match index {
        0 => hop.role == Role::Gateway,
        _ => hop.role == Role::Processor,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pods: &str) -> Vec<WorkloadName> {
        let name = |pod| WorkloadName::new("test-ferry", "cluster-a", pod).unwrap();
        pods.split_whitespace().map(name).collect()
    }

    #[test]
    fn only_routes_of_the_blueprint_lead_here() {
        let pairs = ["g>n", "g>s", "n>sink", "s>sink"].map(|pair| {
            let pair = names(&pair.replace('>', " "));
            format!("{}>{}", pair[0], pair[1])
        });
        let connections: Connections = pairs.join(", ").parse().unwrap();
        let here = &names("sink")[0];
        for route in ["g n", "g s"] {
            assert!(connections.lead_to(here, &names(route)), "{route}");
        }
        for route in ["", "g", "n", "n g", "g n s", "g g n", "g sink", "x n"] {
            assert!(!connections.lead_to(here, &names(route)), "{route:?}");
        }
    }

    #[test]
    fn invalid_connection_is_named() {
        for text in ["", "a", "a.b.c.ferry.internal>x", "a>b>c"] {
            assert!(text.parse::<Connections>().is_err(), "{text}");
        }
    }
}
