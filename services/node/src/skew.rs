//! How far a peer's clock is ahead of this pod's, as it is measured when a session begins: for people who look for the reason
//! of a trouble. Nothing is decided by it.
//!
//! The server says its time with the head of its answer, in the header [`messages::TIME_HEADER`]. Where it is of an earlier version, or
//! another's, it may say none.

use std::time::Duration;

use messages::Timestamp;
use tokio::time::Instant;

/// The moment at which a peer was asked.
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

    /// How many seconds the peer's clock is ahead of this pod's, by what it said in its answer; negative where it is behind. The
    /// peer is taken to have said it half-way between question and answer, so the error is at most half of the time between.
    pub(crate) fn skew(self, said: Option<&[u8]>) -> Option<f64> {
        self.skew_after(said, self.moment.elapsed())
    }

    fn skew_after(self, said: Option<&[u8]>, passed: Duration) -> Option<f64> {
        let said: Timestamp = std::str::from_utf8(said?).ok()?.parse().ok()?;
        let ahead = said.as_jiff().duration_since(self.wall.as_jiff());
        Some(ahead.as_secs_f64() - passed.as_secs_f64() / 2.0)
    }
}

/// What this pod says of its clock: the value of [`messages::TIME_HEADER`].
pub(crate) fn time() -> String {
    Timestamp::now().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_ahead_by_what_it_says_less_half_the_way() {
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
    fn a_peer_that_says_no_time_is_not_measured() {
        let asked = Asked::now();
        assert_eq!(asked.skew(None), None);
        for said in [&b""[..], b"noon", b"1767323045", b"\xff\xfe"] {
            assert_eq!(asked.skew(Some(said)), None, "{said:?}");
        }
    }
}
