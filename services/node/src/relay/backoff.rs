//! Delays between two attempts to connect: exponential, with jitter.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// Shortest delay: an attempt is never a busy loop.
pub(crate) const FLOOR: Duration = Duration::from_millis(50);
/// Longest delay.
pub(crate) const CEILING: Duration = Duration::from_secs(5);

/// Delays of 50 ms to 5 s that double with each attempt. Jitter adds up to the delay itself, so
/// that many pods that lost the same peer do not come back in step.
#[derive(Debug)]
pub(crate) struct Backoff(ExponentialBackoff);

impl Backoff {
    pub(crate) fn new() -> Self {
        // Half of the ceiling, since jitter doubles a delay at most.
        let delays = ExponentialBuilder::new()
            .with_min_delay(FLOOR)
            .with_max_delay(CEILING / 2)
            .without_max_times()
            .with_jitter();
        Self(delays.build())
    }

    pub(crate) fn next_delay(&mut self) -> Duration {
        self.0.next().unwrap_or(CEILING)
    }

    /// Starts again with the shortest delay, after a success.
    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least and the most that each delay can be, in milliseconds.
    const RANGES: [(u64, u64); 8] = [
        (50, 100),
        (100, 200),
        (200, 400),
        (400, 800),
        (800, 1600),
        (1600, 3200),
        (2500, 5000),
        (2500, 5000),
    ];

    #[test]
    fn delays_double_to_the_ceiling_and_reset() {
        // Jitter is random: many runs, each within the ranges.
        for _ in 0..200 {
            let mut backoff = Backoff::new();
            for _ in 0..2 {
                for (least, most) in RANGES {
                    let delay = backoff.next_delay();
                    let range = Duration::from_millis(least)..=Duration::from_millis(most);
                    assert!(range.contains(&delay), "{delay:?} is not in {range:?}");
                }
                backoff.reset();
            }
        }
    }

    #[test]
    fn delays_stay_within_limits_for_ever() {
        let mut backoff = Backoff::new();
        for attempt in 0..10_000 {
            let delay = backoff.next_delay();
            assert!((FLOOR..=CEILING).contains(&delay), "{attempt}: {delay:?}");
        }
    }

    #[test]
    fn delays_of_two_pods_differ() {
        let (mut one, mut other) = (Backoff::new(), Backoff::new());
        let all =
            |backoff: &mut Backoff| -> Vec<_> { (0..8).map(|_| backoff.next_delay()).collect() };
        assert_ne!(all(&mut one), all(&mut other));
    }
}
