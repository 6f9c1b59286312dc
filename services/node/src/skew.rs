//! Measures how far a peer's clock is ahead of this pod's when a session begins. It is a metric for
//! operators; no decision depends on it.
//!
//! The server sends its time in the header [`messages::TIME_HEADER`]. Earlier versions and other
//! implementations may omit it.

use std::time::Duration;

use messages::Timestamp;
use tokio::time::Instant;

/// The moment at which a request was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    wall: Timestamp,
    moment: Instant,
}

impl Asked {
    pub(crate) fn now() -> Self {
        Self {
            wall: Timestamp::now(),
            moment: Instant::now(),
        }
    }

    /// Returns how many seconds the peer's clock is ahead of this pod's; negative if it is behind.
    /// The answer counts as sent half-way between request and answer, so the error is at most half
    /// the round trip.
    pub(crate) fn skew(self, said: Option<&[u8]>) -> Option<f64> {
        self.skew_after(said, self.moment.elapsed())
    }

    fn skew_after(self, said: Option<&[u8]>, passed: Duration) -> Option<f64> {
        let said: Timestamp = std::str::from_utf8(said?).ok()?.parse().ok()?;
        let ahead = said.as_jiff().duration_since(self.wall.as_jiff());
        Some(ahead.as_secs_f64() - passed.as_secs_f64() / 2.0)
    }
}

/// Returns this pod's time: the value of [`messages::TIME_HEADER`].
pub(crate) fn time() -> String {
    Timestamp::now().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_subtracts_half_the_round_trip() {
        let asked = Asked {
            wall: "2026-01-02T03:04:05.000000Z".parse().unwrap(),
            moment: Instant::now(),
        };
        let skew = |said: &str| asked.skew_after(Some(said.as_bytes()), Duration::from_secs(2));
        assert_eq!(skew("2026-01-02T03:04:06.000000Z"), Some(0.0));
        assert_eq!(skew("2026-01-02T03:04:51.500000Z"), Some(45.5));
        assert_eq!(skew("2026-01-02T03:03:21.000000Z"), Some(-45.0));
    }

    #[test]
    fn peer_without_a_time_is_not_measured() {
        let asked = Asked::now();
        assert_eq!(asked.skew(None), None);
        for said in [&b""[..], b"noon", b"1767323045", b"\xff\xfe"] {
            assert_eq!(asked.skew(Some(said)), None, "{said:?}");
        }
    }
}
