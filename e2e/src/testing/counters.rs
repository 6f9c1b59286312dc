//! Parses Envoy's counters and gauges.

use std::collections::BTreeMap;

/// Envoy's counters and gauges by name.
#[derive(Clone, Debug, Default)]
pub struct Counters(BTreeMap<String, u64>);

impl Counters {
    pub(super) fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// The sum of those whose name starts and ends so; 0 where there is none, as Envoy leaves out what never counted.
    pub fn sum(&self, start: &str, end: &str) -> u64 {
        let matching = self
            .0
            .iter()
            .filter(|(name, _)| name.starts_with(start) && name.ends_with(end));
        matching.map(|(_, value)| value).sum()
    }

    /// TLS sessions that came through the tunnel: those of the pinhole's HTTPS, on the same port, are not among them.
    pub fn tunnel_handshakes(&self) -> u64 {
        let all = self.sum("listener.ingress", ".ssl.handshake");
        all.saturating_sub(self.sum("http.pinhole.", ".downstream_cx_ssl_total"))
    }

    /// Those whose name holds `part`, for the message of a failed check.
    pub fn with(&self, part: &str) -> BTreeMap<&str, u64> {
        let matching = self.0.iter().filter(|(name, _)| name.contains(part));
        matching
            .map(|(name, value)| (name.as_str(), *value))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn counters_reader_takes_any_answer(text in "([a-z.]{0,5}|: |[0-9]{0,30}|\\PC|\n){0,40}") {
            let counters = Counters::parse(&text);
            proptest::prop_assert!(counters.with("").len() <= text.lines().count());
        }
    }

    #[test]
    fn counters_are_read_and_summed() {
        let counters = Counters::parse(
            "listener.a.ssl.handshake: 3\nlistener.b.ssl.handshake: 4\nserver.version: x\nh: P0(nan,1)\n",
        );
        assert_eq!(counters.sum("listener.", ".ssl.handshake"), 7);
        assert_eq!(counters.sum("cluster.", ".ssl.handshake"), 0);
        assert_eq!(counters.with("listener.a").len(), 1);
    }
}
