//! Names of environments.

use std::{fmt, str::FromStr};

use messages::is_dns_label;

/// The name of an environment: a DNS label, since it becomes part of cluster and host names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is no environment name: use 1 to 63 of `a-z`, `0-9` and `-`, starting and ending with a letter or digit"
)]
pub struct InvalidName(String);

impl Name {
    /// `<prefix>-<8 random hex digits>`, for an environment that shares the machine with others of its kind.
    pub fn unique(prefix: &str) -> Result<Self, InvalidName> {
        format!("{prefix}-{}", random_hex(8)).parse()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `digits` random hex digits, at most 12: the end of a UUIDv7 is random (RFC 9562, section 5.7).
pub fn random_hex(digits: usize) -> String {
    let all = uuid::Uuid::now_v7().simple().to_string();
    all[all.len() - digits.min(12)..].to_owned()
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_dns_label(text) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName(text.chars().take(100).collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dns_labels_name_an_environment() {
        assert_eq!("local".parse::<Name>().unwrap().to_string(), "local");
        for text in ["", ".", "..", "a/b", "-a", "a-", "A", &"a".repeat(64)] {
            assert!(text.parse::<Name>().is_err(), "`{text}` must be refused");
        }
    }

    #[test]
    fn unique_names_differ() {
        assert_ne!(Name::unique("e2e").unwrap(), Name::unique("e2e").unwrap());
    }
}
