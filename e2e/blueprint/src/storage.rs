//! Where a sink keeps its messages on Kubernetes, and how large that is.

use messages::limits::MAX_STORED_BYTES;
use schemars::JsonSchema;

/// Least bytes of a claim: what a sink keeps at most, twice, since a store is larger than its records.
pub const LEAST_BYTES: u64 = 2 * MAX_STORED_BYTES;

/// Bytes of a claim where the blueprint gives no `size`: a quarter more than [`LEAST_BYTES`], for the file system itself.
const DEFAULT_BYTES: u64 = LEAST_BYTES + LEAST_BYTES / 4;

const GIBIBYTE: u64 = 1024 * 1024 * 1024;

/// Where a sink keeps its messages on Kubernetes: on a volume claim, which outlives its pod, or with the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Storage {
    /// Size of the claim, a Kubernetes quantity; `5Gi` unless given.
    #[schemars(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Storage class of the claim; the cluster's default class unless given.
    #[schemars(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Whether the messages end with the pod, on its node's disk, instead of lying on a claim.
    #[schemars(default)]
    pub ephemeral: bool,
}

impl Storage {
    /// The size as Kubernetes takes it.
    pub fn quantity(&self) -> String {
        self.size.clone().unwrap_or_else(default_size)
    }
}

/// The size where the blueprint gives none, in whole GiB.
fn default_size() -> String {
    gibibytes(DEFAULT_BYTES)
}

/// The least size, as messages write it.
pub(super) fn least_size() -> String {
    gibibytes(LEAST_BYTES)
}

fn gibibytes(bytes: u64) -> String {
    format!("{}Gi", bytes.div_ceil(GIBIBYTE))
}

/// The bytes of a Kubernetes quantity, rounded up; `None` where it is none, or more than an API server takes.
/// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>
pub fn bytes(quantity: &str) -> Option<u64> {
    let split = quantity.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let (number, suffix) = quantity.split_at(split.unwrap_or(quantity.len()));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // More digits than any disk has bytes would be a slip.
    if whole.is_empty() || whole.len() + fraction.len() > 18 {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let bytes = (digits * factor(suffix)?).div_ceil(10u128.pow(fraction.len().try_into().ok()?));
    u64::try_from(bytes)
        .ok()
        .filter(|bytes| i64::try_from(*bytes).is_ok())
}

fn factor(suffix: &str) -> Option<u128> {
    if let Some(exponent) = suffix
        .strip_prefix(['e', 'E'])
        .filter(|rest| !rest.is_empty())
        && suffix != "Ei"
    {
        let exponent: u32 = exponent.parse().ok()?;
        return (exponent <= 18).then(|| 10u128.pow(exponent));
    }
    let (base, power) = match suffix {
        "" => (1, 0),
        "k" => (1000, 1),
        "M" => (1000, 2),
        "G" => (1000, 3),
        "T" => (1000, 4),
        "P" => (1000, 5),
        "E" => (1000, 6),
        "Ki" => (1024, 1),
        "Mi" => (1024, 2),
        "Gi" => (1024, 3),
        "Ti" => (1024, 4),
        "Pi" => (1024, 5),
        "Ei" => (1024, 6),
        _ => return None,
    };
    Some(u128::from(base as u32).pow(power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_has_the_bytes_that_kubernetes_sees() {
        for (text, expected) in [
            ("5Gi", 5 * GIBIBYTE),
            ("5G", 5_000_000_000),
            ("5e9", 5_000_000_000),
            ("5E9", 5_000_000_000),
            ("1.5Gi", GIBIBYTE * 3 / 2),
            ("1.", 1),
            ("0.1k", 100),
            ("0.0001k", 1),
            ("7Ei", 7 * (1 << 60)),
            ("12", 12),
        ] {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "Gi",
            ".5Gi",
            "5 Gi",
            "5gi",
            "5GiB",
            "-5Gi",
            "+5Gi",
            "8Ei",
            "5e",
            "5e99",
            "1.2.3",
            "ten",
            "1234567890123456789",
        ] {
            assert_eq!(bytes(text), None, "`{text}`");
        }
    }

    #[test]
    fn the_default_size_holds_twice_what_is_kept() {
        assert_eq!(Storage::default().quantity(), "5Gi");
        assert!(bytes(&default_size()).unwrap() >= 2 * MAX_STORED_BYTES);
        assert_eq!(bytes(&least_size()), Some(LEAST_BYTES));
    }
}
