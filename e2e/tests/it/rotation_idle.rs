//! An environment that nobody uses keeps its identities fresh, and delivers whenever somebody comes. Runs for as long as
//! `FERRY_TEST_IDLE` says; an environment that is attached to needs default settings.

use std::time::Duration;

use anyhow::Context as _;
use e2e::testing::{Ferry, Setup, assert_delivered, payloads, show};
use host::wait::{Seen, Wait};
use rstest::rstest;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How long, such as `30m` or `90s`.
const VARIABLE: &str = "FERRY_TEST_IDLE";
/// Oldest identity at default settings, in seconds: the rotation of 10 s, its jitter of a tenth, and a second to do it.
const OLDEST: f64 = 12.0;
/// Between two looks at each pod: often enough that no identity gets older unseen.
const LOOK: Duration = Duration::from_secs(1);

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|character: char| !character.is_ascii_digit())?);
    let number: u64 = number.parse().ok()?;
    match unit {
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        _ => None,
    }
}

#[test]
fn durations_have_a_number_and_a_unit() {
    assert_eq!(duration("30m"), Some(Duration::from_secs(1800)));
    assert_eq!(duration("90s"), Some(Duration::from_secs(90)));
    for text in ["", "30", "m", "1h", "-1s", "1.5m"] {
        assert_eq!(duration(text), None, "`{text}` must be refused");
    }
}

#[rstest]
#[case::websocket("fast-international-ferry")]
#[case::grpc("international-ferry")]
#[tokio::test]
#[ignore = "takes its time: FERRY_TEST_IDLE=30m"]
async fn idle_environment_stays_fresh_and_delivers(#[case] blueprint: &str) -> anyhow::Result<()> {
    let idle = std::env::var(VARIABLE)
        .with_context(|| format!("{VARIABLE} says how long, such as `30m`: set it"))?;
    let idle = duration(&idle).with_context(|| {
        format!("{VARIABLE} is `{idle}`: write a number and `s` or `m`, such as `30m`")
    })?;
    Setup::of(blueprint)
        .no_other_settings()
        .beside_others()
        .run(|ferry| async move {
            let pods = [ferry.gateway()?.name, ferry.sink()?.name];
            let end = Instant::now() + idle;
            let mut look = interval(LOOK);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut oldest, mut looks) = (0.0, 0);
            while Instant::now() < end {
                look.tick().await;
                for pod in &pods {
                    let age = identity_age(&ferry, pod.pod()).await?;
                    assert!(
                        age < OLDEST,
                        "the identity of {pod} must be younger than {OLDEST} s: {age} s"
                    );
                    oldest = f64::max(oldest, age);
                }
                looks += 1;
            }
            show(&format!(
                "{blueprint}: idle for {idle:?}, at {looks} looks the oldest identity was {oldest:.1} s old"
            ));
            assert_delivered(&ferry.messages().deliver(payloads(5)).await?, 5);
            Ok(())
        })
        .await
}

/// On clusters the way to a pod's `wosp` is a port that the API server forwards, which may break off.
async fn identity_age(ferry: &Ferry, pod: &str) -> anyhow::Result<f64> {
    Wait::until(format!("the age of the identity of {pod}"))
        .poll(|| async {
            Ok(match ferry.pod(pod).identity_age().await {
                Ok(age) => Seen::Ready(age),
                Err(error) => Seen::Waiting(format!("{error:#}")),
            })
        })
        .await
}
