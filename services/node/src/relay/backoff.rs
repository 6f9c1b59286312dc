//! How long to wait before the next attempt: exponential, with full jitter above a floor.

use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};

/// Shortest wait, and the floor of every later one: an attempt is never a busy loop.
pub(crate) const FLOOR: Duration = Duration::from_millis(50);
/// Longest wait.
pub(crate) const CEILING: Duration = Duration::from_secs(5);

/// Delays of 50 ms to 5 s. The range doubles with each attempt, and the delay is anywhere in it, so that many pods
/// that lost the same peer do not come back in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    attempts: u32,
    random: fn() -> f64,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self::with_random(fraction)
    }

    /// `random` gives numbers from 0 to 1.
    pub(crate) fn with_random(random: fn() -> f64) -> Self {
        Self {
            attempts: 0,
            random,
        }
    }

    pub(crate) fn next_delay(&mut self) -> Duration {
        let doubled = FLOOR.saturating_mul(2_u32.saturating_pow(self.attempts.saturating_add(1)));
        self.attempts = self.attempts.saturating_add(1);
        let range = doubled.min(CEILING).saturating_sub(FLOOR);
        FLOOR + range.mul_f64((self.random)().clamp(0.0, 1.0))
    }

    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// A random number from 0 to 1; 1 when the system has no randomness, which only makes waits longer.
pub(crate) fn fraction() -> f64 {
    let mut bytes = [0; 4];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn delays_double_up_to_the_ceiling_and_start_again_after_a_success() {
        let mut backoff = Backoff::with_random(|| 1.0);
        let seen: Vec<_> = (0..8).map(|_| backoff.next_delay().as_millis()).collect();
        assert_eq!(seen, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.next_delay().as_millis(), 100);
    }

    #[test]
    fn no_delay_is_under_the_floor() {
        let mut backoff = Backoff::with_random(|| 0.0);
        assert!((0..100).all(|_| backoff.next_delay() == FLOOR));
    }

    proptest! {
        #[test]
        fn every_delay_is_within_its_limits(attempts in 0_u32..200) {
            let mut backoff = Backoff::new();
            for _ in 0..attempts {
                let delay = backoff.next_delay();
                prop_assert!((FLOOR..=CEILING).contains(&delay), "{delay:?}");
            }
        }
    }
}
