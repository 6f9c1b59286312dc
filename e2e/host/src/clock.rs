//! Measures the clock skew between clusters and this machine, to explain failures. No verdict
//! on messages or trails depends on it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use blueprint::failure::Failure;
use identity::CLOCK_SKEW as CERTIFICATES_BACKDATE;
use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimeParser};
use messages::{Readiness, env, limits::MAX_CLOCK_SKEW};
use serde::Serialize;

use crate::environment::Environment;

/// What to do about clocks that are apart.
pub const FIX: &str = "let NTP set the clocks of all machines, then try again: `sudo timedatectl set-ntp true` \
    (systemd-timesyncd), or `sudo chronyc makestep` (chrony)";

/// How long an identity lives and how often it is replaced, unless [`env::IDENTITY_LIFETIME`] and
/// [`env::ROTATION_INTERVAL`] say otherwise.
const LIFETIME: SignedDuration = SignedDuration::from_secs(60);
const ROTATION: SignedDuration = SignedDuration::from_secs(10);

/// `HTTP-date` has whole seconds, cut off.
const HTTP_RESOLUTION: Duration = Duration::from_secs(1);

/// The time of this machine's clock, as if it had not been set since this program started.
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
        let ready: Readiness = serde_json::from_slice(body).ok()?;
        let resolution = Duration::from_micros(1);
        let clock = ready.clock?.as_jiff();
        Some(Self::new(clock, resolution, asked, answered))
    }

    /// From the header `Date` (RFC 9110, section 6.6.1) of an answer.
    pub fn of_date(date: &str, asked: Timestamp, answered: Timestamp) -> anyhow::Result<Self> {
        let said = DateTimeParser::new().parse_timestamp(date);
        let said = said.with_context(|| format!("invalid HTTP date `{date}`"))?;
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
mod tests;
