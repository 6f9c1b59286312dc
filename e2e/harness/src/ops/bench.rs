//! Measures latency and throughput. Each scenario is compared with the first one of the same
//! run, since absolute numbers of two machines or two days are not comparable.

use std::{collections::BTreeMap, time::Instant};

use anyhow::Context as _;
use blueprint::failure::Failure;
use hdrhistogram::Histogram;
use host::{environment::Environment, select, timeline::Timeline};
use messages::{Ack, env};
use serde::Serialize;

use crate::pinhole::{Pinhole, Trigger, payload};

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub blueprint: &'static str,
    /// Variables of [`messages::env`] for every pod.
    pub settings: &'static [(&'static str, &'static str)],
    pub payload_bytes: usize,
}

/// The first one is what the others are held against.
pub const SCENARIOS: [Scenario; 5] = [
    Scenario {
        name: "WebSocket, 1 KiB",
        blueprint: "fast-international-ferry",
        settings: &[],
        payload_bytes: 1024,
    },
    Scenario {
        name: "gRPC, 1 KiB",
        blueprint: "international-ferry",
        settings: &[],
        payload_bytes: 1024,
    },
    Scenario {
        name: "WebSocket, 64 KiB",
        blueprint: "fast-international-ferry",
        settings: &[],
        payload_bytes: 64 * 1024,
    },
    Scenario {
        name: "identities and sessions replaced every few seconds",
        blueprint: "fast-international-ferry",
        settings: &[
            (env::IDENTITY_LIFETIME, "6s"),
            (env::ROTATION_INTERVAL, "2s"),
            (env::SESSION_LIFETIME, "5s"),
        ],
        payload_bytes: 1024,
    },
    Scenario {
        name: "over a processor, three clusters",
        blueprint: "grand-tour-ferry",
        settings: &[],
        payload_bytes: 1024,
    },
];

impl Scenario {
    pub fn settings(&self) -> BTreeMap<String, String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.settings.iter().map(owned).collect()
    }
}

/// What came of a scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub scenario: &'static str,
    /// Number of messages that were sent one after the other; and concurrently.
    pub messages: u32,
    /// From `/trigger` to the acknowledgement on this side of the gateway, one message at a time, in microseconds.
    pub median_us: u64,
    pub p99_us: u64,
    /// Acknowledged messages per second, all sent concurrently.
    pub per_second: f64,
}

impl Measured {
    /// Its rate as a share of another's.
    pub fn rate_to(&self, other: &Self) -> f64 {
        self.per_second / other.per_second
    }

    /// Its median as a multiple of another's.
    pub fn median_to(&self, other: &Self) -> f64 {
        let microseconds = |value: u64| f64::from(u32::try_from(value).unwrap_or(u32::MAX));
        microseconds(self.median_us) / microseconds(other.median_us.max(1))
    }
}

/// Sends `count` messages concurrently through the only gateway of an environment, and a tenth of
/// them one at a time.
///
/// # Errors
///
/// A [`Failure::product`] where one is not acknowledged as delivered.
pub async fn measure(
    environment: &Environment,
    scenario: &Scenario,
    count: u32,
    timeline: &Timeline,
) -> anyhow::Result<Measured> {
    let gateway = select::gateways(&environment.record, scenario.blueprint).next();
    let gateway = gateway.with_context(|| format!("`{}` has no gateway", scenario.blueprint))?;
    let pinhole = Pinhole::of(gateway)?;
    let text = serde_json::to_string(&"x".repeat(scenario.payload_bytes.saturating_sub(2)))?;
    let payload = payload(text)?;
    let of = |count| Trigger::Same {
        payload: payload.clone(),
        count,
    };
    timeline
        .run(format!("measure {}", scenario.name), |step| async move {
            let single = (count / 10).max(1);
            step.progress("warming up");
            delivered(&pinhole.trigger_all(&of(single)).await?, single)?;
            let mut times = Histogram::<u64>::new(3).context("make a histogram")?;
            step.progress(format!("{single} messages, one at a time"));
            for _ in 0..single {
                let began = Instant::now();
                delivered(&pinhole.trigger_all(&of(1)).await?, 1)?;
                let took = u64::try_from(began.elapsed().as_micros())?;
                times.record(took).context("record a time")?;
            }
            step.progress(format!("{count} messages at once"));
            let began = Instant::now();
            delivered(&pinhole.trigger_all(&of(count)).await?, count)?;
            let seconds = began.elapsed().as_secs_f64();
            Ok(Measured {
                scenario: scenario.name,
                messages: count,
                median_us: times.value_at_quantile(0.5),
                p99_us: times.value_at_quantile(0.99),
                per_second: f64::from(count) / seconds,
            })
        })
        .await
}

fn delivered(acks: &[Ack], count: u32) -> anyhow::Result<()> {
    let good = acks.iter().filter(|ack| ack.outcome.is_delivered()).count();
    if u32::try_from(good) == Ok(count) {
        return Ok(());
    }
    Err(
        Failure::product(format!("{good} of {count} messages were delivered"))
            .hint("run `cargo xtask e2e` to check that the ferry works")
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(median_us: u64, per_second: f64) -> Measured {
        Measured {
            scenario: "any",
            messages: 10,
            median_us,
            p99_us: median_us,
            per_second,
        }
    }

    #[test]
    fn a_scenario_is_held_against_another() {
        let (base, other) = (measured(1000, 500.0), measured(3000, 250.0));
        assert!((other.rate_to(&base) - 0.5).abs() < 1e-9);
        assert!((other.median_to(&base) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn lost_messages_fail_measurement() {
        assert_eq!(Failure::exit_code(&delivered(&[], 1).unwrap_err()), 1);
        assert!(delivered(&[], 0).is_ok());
    }
}
