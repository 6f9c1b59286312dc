//! How far the clocks of clusters are from this machine's, and so from each other's: measured, so that a failure can say it.
//! Whether messages and trails are right never depends on it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimeParser};
use messages::{env, limits::MAX_CLOCK_SKEW};
use serde::{Deserialize, Serialize};

use crate::{
    environment::Environment, failure::Failure, identity::CLOCK_SKEW as CERTIFICATES_BACKDATE,
};

/// What to do about clocks that are apart.
pub const FIX: &str = "let NTP set the clocks of all machines, then try again: `sudo timedatectl set-ntp true` \
    (systemd-timesyncd), or `sudo chronyc makestep` (chrony)";

/// How long an identity lives and how often it is replaced, unless [`env::IDENTITY_LIFETIME`] and
/// [`env::ROTATION_INTERVAL`] say otherwise.
const LIFETIME: SignedDuration = SignedDuration::from_secs(60);
const ROTATION: SignedDuration = SignedDuration::from_secs(10);

/// `HTTP-date` has whole seconds, cut off.
const HTTP_RESOLUTION: Duration = Duration::from_secs(1);

/// What this machine's clock says, as if it had not been set since this program started.
pub fn now() -> Timestamp {
    static START: OnceLock<(Timestamp, Instant)> = OnceLock::new();
    let (wall, moment) = *START.get_or_init(|| (Timestamp::now(), Instant::now()));
    wall.saturating_add(moment.elapsed())
        .unwrap_or(Timestamp::MAX)
}

/// How far pods' clocks may differ with these settings: an identity that is about to be replaced must still be valid at a peer
/// whose clock is ahead.
pub fn tolerance(settings: &BTreeMap<String, String>) -> SignedDuration {
    let set = |name: &str, default| {
        let text = settings.get(name);
        // What cannot be read the pod itself refuses.
        text.and_then(|text| text.parse::<SignedDuration>().ok())
            .unwrap_or(default)
    };
    let rotation = set(env::ROTATION_INTERVAL, ROTATION);
    let bearable = set(env::IDENTITY_LIFETIME, LIFETIME) - rotation * 3 / 2;
    let most = SignedDuration::try_from(MAX_CLOCK_SKEW).unwrap_or(SignedDuration::ZERO);
    bearable.clamp(SignedDuration::ZERO, most)
}

/// How far a clock is ahead of this machine's: between these two; negative where it is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    least: SignedDuration,
    most: SignedDuration,
}

impl Offset {
    /// Of a clock that said `said`, cut to a whole `resolution`, between two moments of [`now`].
    pub fn new(
        said: Timestamp,
        resolution: Duration,
        asked: Timestamp,
        answered: Timestamp,
    ) -> Self {
        let resolution = SignedDuration::try_from(resolution).unwrap_or(SignedDuration::ZERO);
        Self {
            least: said.duration_since(answered),
            most: said.duration_since(asked).saturating_add(resolution),
        }
    }

    /// From the answer of a pod to `GET /ready`; `None` from one of an earlier version, which does not say its time.
    pub fn of_ready(body: &[u8], asked: Timestamp, answered: Timestamp) -> Option<Self> {
        #[derive(Deserialize)]
        struct Ready {
            clock: Timestamp,
        }
        let ready: Ready = serde_json::from_slice(body).ok()?;
        let resolution = Duration::from_micros(1);
        Some(Self::new(ready.clock, resolution, asked, answered))
    }

    /// From the header `Date` (RFC 9110, section 6.6.1) of an answer.
    pub fn of_date(date: &str, asked: Timestamp, answered: Timestamp) -> anyhow::Result<Self> {
        let said = DateTimeParser::new().parse_timestamp(date);
        let said = said.with_context(|| format!("`{date}` is no date of HTTP"))?;
        Ok(Self::new(said, HTTP_RESOLUTION, asked, answered))
    }

    /// The middle, in seconds.
    pub fn seconds(self) -> f64 {
        (self.least.saturating_add(self.most) / 2).as_secs_f64()
    }

    /// By how much [`Self::seconds`] may be wrong.
    pub fn uncertainty(self) -> f64 {
        (self.most - self.least).as_secs_f64() / 2.0
    }

    /// How far this clock is ahead of `other`.
    fn ahead_of(self, other: Self) -> Self {
        Self {
            least: self.least - other.most,
            most: self.most - other.least,
        }
    }
}

/// A clock that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The cluster's name in the blueprints.
    pub cluster: String,
    /// The pod's; `None` for the cluster's API server.
    pub pod: Option<String>,
    pub offset: Offset,
}

impl Serialize for Seen {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'a> {
            cluster: &'a str,
            pod: Option<&'a str>,
            ahead_seconds: f64,
            uncertainty_seconds: f64,
        }
        Fields {
            cluster: &self.cluster,
            pod: self.pod.as_deref(),
            ahead_seconds: self.offset.seconds(),
            uncertainty_seconds: self.offset.uncertainty(),
        }
        .serialize(serializer)
    }
}

/// Two clocks that are further apart than identities bear.
#[derive(Clone, Debug, PartialEq)]
pub struct TooFar {
    ahead: String,
    behind: String,
    seconds: f64,
    uncertainty: f64,
    tolerance: SignedDuration,
}

impl fmt::Display for TooFar {
    /// `the clock of cluster-a is 120.0 s ahead of cluster-b's; …`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            ahead,
            behind,
            seconds,
            uncertainty,
            tolerance,
        } = self;
        write!(f, "the clock of {ahead} is {seconds:.1} s ")?;
        if *uncertainty >= 0.1 {
            write!(f, "(± {uncertainty:.1} s) ")?;
        }
        let bearable = tolerance.as_secs_f64();
        write!(f, "ahead of {behind}; Ferry works up to {bearable:.0} s")
    }
}

impl From<TooFar> for Failure {
    fn from(far: TooFar) -> Self {
        Self::infrastructure(far.to_string()).hint(FIX)
    }
}

/// Clocks of an environment, as they were seen last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Clocks(Vec<Seen>);

impl fmt::Display for Clocks {
    /// `cluster-a +0.0 s, cluster-b -45.0 s against this machine's`: of each cluster the clock that is furthest off.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (cluster, offset)) in self.clusters().into_iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            // A little less than nothing is nothing.
            let tenths = (offset.seconds() * 10.0).round() / 10.0 + 0.0;
            write!(f, "{comma}{cluster} {tenths:+.1} s")?;
            if offset.uncertainty() >= 0.1 {
                write!(f, " (± {:.1} s)", offset.uncertainty())?;
            }
        }
        match self.0.is_empty() {
            true => f.write_str("not known"),
            false => f.write_str(" against this machine's"),
        }
    }
}

impl Clocks {
    /// Takes a clock in; one of the same pod, or API server, that was seen before is replaced.
    pub fn see(&mut self, seen: Seen) {
        self.0
            .retain(|old| (&old.cluster, &old.pod) != (&seen.cluster, &seen.pod));
        self.0.push(seen);
    }

    pub fn all(&self) -> &[Seen] {
        &self.0
    }

    /// Of each cluster the clock that is surely furthest from this machine's, by the clusters' names; of those that may agree
    /// with it the one that is known best.
    pub fn clusters(&self) -> BTreeMap<&str, Offset> {
        let surely = |offset: Offset| (offset.seconds().abs() - offset.uncertainty()).max(0.0);
        let mut all = BTreeMap::<&str, Offset>::new();
        for seen in &self.0 {
            let (known, seen) = (all.entry(&seen.cluster).or_insert(seen.offset), seen.offset);
            let further = surely(seen).total_cmp(&surely(*known));
            let better = known.uncertainty().total_cmp(&seen.uncertainty());
            if further.then(better).is_gt() {
                *known = seen;
            }
        }
        all
    }

    /// Compares the clocks of each two clusters of `connections`, and each clock with this machine's, which dates certificates.
    /// What is not known passes. How long a certificate is still valid is no matter of clocks.
    pub fn check<'a>(
        &self,
        connections: impl IntoIterator<Item = (&'a str, &'a str)>,
        tolerance: SignedDuration,
    ) -> Result<(), TooFar> {
        for (from, to) in connections {
            let of = |cluster: &str| {
                let all = self.0.iter();
                all.filter(move |seen| seen.cluster == *cluster)
                    .map(|seen| seen.offset)
                    .collect::<Vec<_>>()
            };
            for one in of(from) {
                for other in of(to) {
                    far(from, &format!("{to}'s"), one.ahead_of(other), tolerance)?;
                    far(to, &format!("{from}'s"), other.ahead_of(one), tolerance)?;
                }
            }
        }
        let backdate =
            SignedDuration::try_from(CERTIFICATES_BACKDATE).unwrap_or(SignedDuration::ZERO);
        for seen in &self.0 {
            let behind = Offset {
                least: -seen.offset.most,
                most: -seen.offset.least,
            };
            far(
                "this machine",
                &format!("{}'s", seen.cluster),
                behind,
                backdate,
            )?;
        }
        Ok(())
    }
}

/// Clocks of an environment that are too far apart.
pub fn apart(environment: &Environment, clocks: &Clocks) -> Option<TooFar> {
    let record = &environment.record;
    let checked = clocks.check(record.connections(), tolerance(&record.settings));
    checked.err()
}

fn far(ahead: &str, behind: &str, by: Offset, tolerance: SignedDuration) -> Result<(), TooFar> {
    if by.least <= tolerance {
        return Ok(());
    }
    Err(TooFar {
        ahead: ahead.into(),
        behind: behind.into(),
        seconds: by.seconds(),
        uncertainty: by.uncertainty(),
        tolerance,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// A clock so many milliseconds ahead, looked at for so long.
    fn offset(ahead: i64, looked: i64) -> Offset {
        let said = at(0) + SignedDuration::from_millis(ahead);
        let until = at(0) + SignedDuration::from_millis(looked);
        Offset::new(said, Duration::ZERO, at(0), until)
    }

    fn clocks(all: &[(&str, i64)]) -> Clocks {
        let mut clocks = Clocks::default();
        for (cluster, ahead) in all {
            clocks.see(Seen {
                cluster: (*cluster).into(),
                pod: Some("pod".into()),
                offset: offset(*ahead, 2),
            });
        }
        clocks
    }

    const FERRY: [(&str, &str); 1] = [("cluster-a", "cluster-b")];
    const TOUR: [(&str, &str); 2] = [("cluster-a", "cluster-b"), ("cluster-b", "cluster-c")];

    fn check(all: &[(&str, i64)], connections: &[(&str, &str)]) -> Option<String> {
        let tolerance = tolerance(&BTreeMap::new());
        let checked = clocks(all).check(connections.iter().copied(), tolerance);
        checked.err().map(|far| far.to_string())
    }

    #[test]
    fn clocks_may_differ_by_45_seconds_either_way() {
        for ahead in [-45_000, -9_000, -5, 0, 5, 9_000, 45_000] {
            let seen = check(&[("cluster-a", ahead), ("cluster-b", 0)], &FERRY);
            assert_eq!(seen, None, "{ahead}");
        }
    }

    #[test]
    fn clocks_further_apart_are_named_with_the_difference() {
        let words = |ahead, behind| {
            format!("the clock of {ahead} is 120.0 s ahead of {behind}'s; Ferry works up to 45 s")
        };
        for (ahead, expected) in [
            (120_000, words("cluster-a", "cluster-b")),
            (-120_000, words("cluster-b", "cluster-a")),
        ] {
            let seen = check(&[("cluster-a", ahead), ("cluster-b", 0)], &FERRY);
            assert_eq!(seen, Some(expected));
        }
    }

    #[test]
    fn clusters_that_do_not_speak_to_each_other_are_not_compared() {
        let ends = [("cluster-a", 44_000), ("cluster-c", -44_000)];
        let all = |middle| [ends[0], ("cluster-b", middle), ends[1]];
        assert_eq!(check(&all(0), &TOUR), None);
        let seen = check(&all(40_000), &TOUR).unwrap();
        assert!(
            seen.starts_with("the clock of cluster-b is 84.0 s ahead of cluster-c's"),
            "{seen}"
        );
        assert_eq!(check(&ends, &TOUR), None, "what is not known passes");
    }

    #[test]
    fn a_clock_behind_the_certificates_is_named_beside_this_machines() {
        let seen = check(&[("cluster-b", -86_400_000)], &FERRY).unwrap();
        assert!(
            seen.starts_with("the clock of this machine is 86400.0 s ahead of cluster-b's"),
            "{seen}"
        );
        assert_eq!(check(&[("cluster-b", 86_400_000)], &FERRY), None);
    }

    #[test]
    fn a_slow_answer_accuses_no_clock() {
        let mut clocks = clocks(&[("cluster-a", 0)]);
        clocks.see(Seen {
            cluster: "cluster-b".into(),
            pod: None,
            offset: offset(50_000, 20_000),
        });
        let tolerance = tolerance(&BTreeMap::new());
        assert_eq!(clocks.check(FERRY, tolerance), Ok(()));
    }

    #[test]
    fn clocks_are_shown_beside_this_machines() {
        let clocks = clocks(&[("cluster-a", 12_340), ("cluster-b", -9_000)]);
        assert_eq!(
            clocks.to_string(),
            "cluster-a +12.3 s, cluster-b -9.0 s against this machine's"
        );
        assert_eq!(Clocks::default().to_string(), "not known");
        let json = serde_json::to_value(&clocks).unwrap();
        assert_eq!(json[0]["cluster"], "cluster-a");
        assert_eq!(json[0]["ahead_seconds"], 12.339);
    }

    #[test]
    fn of_clocks_that_may_agree_the_one_known_best_is_shown() {
        let mut clocks = clocks(&[("cluster-a", 0)]);
        clocks.see(Seen {
            cluster: "cluster-a".into(),
            pod: None,
            offset: Offset::new(at(0), HTTP_RESOLUTION, at(0), at(0)),
        });
        assert_eq!(
            clocks.to_string(),
            "cluster-a +0.0 s against this machine's"
        );
    }

    #[test]
    fn a_clock_that_is_seen_again_is_replaced() {
        let mut clocks = clocks(&[("cluster-a", 0), ("cluster-b", 5_000)]);
        for ahead in [1_000, -2_000] {
            clocks.see(Seen {
                cluster: "cluster-a".into(),
                pod: Some("pod".into()),
                offset: offset(ahead, 0),
            });
        }
        assert_eq!(clocks.all().len(), 2);
        assert!((clocks.clusters()["cluster-a"].seconds() + 2.0).abs() < 1e-9);
    }

    #[test]
    fn the_header_date_is_exact_to_a_second() {
        let offset = Offset::of_date("Fri, 15 Jan 2027 08:00:45 GMT", at(0), at(0)).unwrap();
        assert!((offset.seconds() - 45.5).abs() < 1e-9, "{offset:?}");
        assert!((offset.uncertainty() - 0.5).abs() < 1e-9, "{offset:?}");
        assert!(Offset::of_date("yesterday", at(0), at(0)).is_err());
    }

    #[test]
    fn a_pod_says_its_time_with_what_it_waits_for() {
        let body = br#"{"ready":false,"waiting_for":["x"],"clock":"2027-01-15T08:00:02.000000Z"}"#;
        let offset = Offset::of_ready(body, at(0), at(0)).unwrap();
        assert!((offset.seconds() - 2.0).abs() < 1e-3, "{offset:?}");
        let earlier = br#"{"ready":true,"waiting_for":[]}"#;
        assert_eq!(Offset::of_ready(earlier, at(0), at(0)), None);
    }

    #[test]
    fn identities_that_live_shorter_bear_less() {
        let bears = |all: &[(&str, &str)]| {
            let all = all
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()));
            tolerance(&all.collect()).as_secs()
        };
        assert_eq!(bears(&[]), 45);
        assert_eq!(bears(&crate::testing::QUICK_IDENTITIES), 21);
        assert_eq!(bears(&[(env::IDENTITY_LIFETIME, "1h")]), 45);
        assert_eq!(bears(&[(env::IDENTITY_LIFETIME, "soon")]), 45);
    }
}
