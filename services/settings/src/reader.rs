//! Reads environment variables and collects every problem, not only the first.

use std::{
    ffi::OsString, fmt, net::SocketAddr, ops::RangeInclusive, path::PathBuf, str::FromStr,
    time::Duration,
};

use jiff::SignedDuration;
use messages::{WorkloadName, env, is_dns_label};

/// Characters of a wrong value that a problem repeats.
const SHOWN_CHARS: usize = 100;

/// Every problem of the settings, one line each: `VARIABLE: cause; fix`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}", .0.join("\n"))]
pub struct InvalidSettings(pub Vec<String>);

/// Returns the value of a variable.
type Lookup<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

/// Reads variables through a lookup. A method that returns `None` has noted a problem, unless its
/// documentation excludes it.
pub struct Reader<'a> {
    lookup: Box<Lookup<'a>>,
    problems: Vec<String>,
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("problems", &self.problems)
            .finish_non_exhaustive()
    }
}

impl<'a> Reader<'a> {
    /// Returns a reader of what `lookup` gives for the name of a variable.
    pub fn new(lookup: impl Fn(&str) -> Option<OsString> + 'a) -> Self {
        Self {
            lookup: Box::new(lookup),
            problems: Vec::new(),
        }
    }

    /// Ends the reading.
    ///
    /// # Errors
    ///
    /// Returns all problems if there is any, or if `settings` is `None`.
    pub fn finish<T>(self, settings: Option<T>) -> Result<T, InvalidSettings> {
        match settings {
            Some(settings) if self.problems.is_empty() => Ok(settings),
            _ => Err(InvalidSettings(self.problems)),
        }
    }

    /// Notes a problem of `variable`.
    pub fn problem(&mut self, variable: &str, cause: impl fmt::Display, fix: impl fmt::Display) {
        self.problems.push(format!("{variable}: {cause}; {fix}"));
    }

    /// Returns the value of `parsed`; an error is noted as a problem.
    pub fn check<T>(
        &mut self,
        variable: &str,
        parsed: Result<T, impl fmt::Display>,
        fix: impl fmt::Display,
    ) -> Option<T> {
        parsed
            .map_err(|error| self.problem(variable, error, fix))
            .ok()
    }

    /// Returns the text of `variable`. `None` without a problem if it is absent or empty.
    pub fn optional(&mut self, variable: &str) -> Option<String> {
        let text = (self.lookup)(variable)?.into_string();
        let text = text.map_err(|_| "it is not UTF-8");
        self.check(variable, text, "set it to plain text")
            .filter(|text| !text.is_empty())
    }

    /// Returns the text of `variable`. `meaning` completes "set it to …".
    pub fn required(&mut self, variable: &str, meaning: &str) -> Option<String> {
        if (self.lookup)(variable).is_none_or(|text| text.is_empty()) {
            let fix = format_args!("set it to {meaning}");
            self.problem(variable, "it is not set", fix);
            return None;
        }
        self.optional(variable)
    }

    /// Returns the path in `variable`. `meaning` completes "set it to …".
    pub fn folder(&mut self, variable: &str, meaning: &str) -> Option<PathBuf> {
        self.required(variable, meaning).map(PathBuf::from)
    }

    /// Returns the address in `variable`, written as `IP:PORT`.
    pub fn address(&mut self, variable: &str) -> Option<SocketAddr> {
        let text = self.required(variable, "IP:PORT, such as `127.0.0.1:8000`")?;
        let parsed = text
            .parse::<SocketAddr>()
            .map_err(|_| format!("invalid address `{}`: expected IP:PORT", cut(&text)));
        self.check(variable, parsed, "set one such as `127.0.0.1:8000`")
    }

    /// Returns the number in `variable`, or `default` if it is not set.
    pub fn number<N: FromStr + PartialOrd + fmt::Display>(
        &mut self,
        variable: &str,
        default: N,
        range: RangeInclusive<N>,
    ) -> Option<N> {
        let Some(text) = self.optional(variable) else {
            return Some(default);
        };
        let (least, most) = (range.start(), range.end());
        let parsed = text
            .parse::<N>()
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("`{}` is not a number from {least} to {most}", cut(&text)));
        let fix = format_args!("set such a number, or remove it for {default}");
        self.check(variable, parsed, fix)
    }

    /// Returns the duration in `variable`, or `default` if it is not set.
    ///
    /// The grammar is the one of `jiff`: `500ms`, `90s`, `10m`, `1m30s`, `1h 30m`.
    pub fn duration(
        &mut self,
        variable: &str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let Some(text) = self.optional(variable) else {
            return Some(default);
        };
        let parsed = text
            .parse::<SignedDuration>()
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok())
            .filter(|duration| range.contains(duration))
            .ok_or_else(|| {
                let (least, most) = (shown(*range.start()), shown(*range.end()));
                format!("`{}` is not a duration from {least} to {most}", cut(&text))
            });
        let default = shown(default);
        let fix = format_args!("set one such as `500ms` or `1m30s`, or remove it for {default}");
        self.check(variable, parsed, fix)
    }

    /// Returns the pod's name in its blueprint, from three variables that are DNS labels each.
    pub fn workload_name(&mut self) -> Option<WorkloadName> {
        let blueprint = self.label(env::BLUEPRINT, "the blueprint's name");
        let cluster = self.label(env::CLUSTER, "the cluster's name in the blueprint");
        let workload = self.label(env::WORKLOAD, "the pod's name in the blueprint");
        let name = WorkloadName::new(&blueprint?, &cluster?, &workload?);
        self.check(env::WORKLOAD, name, "use DNS labels")
    }

    fn label(&mut self, variable: &str, meaning: &str) -> Option<String> {
        let text = self.required(variable, meaning)?;
        if is_dns_label(&text) {
            return Some(text);
        }
        let cause = format!("`{}` is not a DNS label", cut(&text));
        self.problem(variable, cause, "use 1 to 63 of a-z, 0-9 and `-`");
        None
    }
}

/// Returns the beginning of a wrong value, enough to recognise it.
fn cut(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}

/// Returns a duration as it would be written in a variable.
pub(crate) fn shown(duration: Duration) -> String {
    SignedDuration::try_from(duration).map_or_else(
        |_| format!("{duration:?}"),
        |duration| format!("{duration:#}"),
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const LIMITS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);

    fn duration(text: &'static str) -> Result<Duration, InvalidSettings> {
        let mut reader = Reader::new(|_| Some(text.into()));
        let duration = reader.duration("FERRY_TEST", Duration::from_secs(600), LIMITS);
        reader.finish(duration)
    }

    #[rstest]
    #[case("500ms", 500)]
    #[case("1500ms", 1500)]
    #[case("5s", 5_000)]
    #[case("90s", 90_000)]
    #[case("010s", 10_000)]
    #[case("2m", 120_000)]
    #[case("24h", 86_400_000)]
    #[case("1m30s", 90_000)]
    #[case("1h 30m", 5_400_000)]
    #[case("1.5s", 1_500)]
    #[case("PT1M30S", 90_000)]
    #[case("", 600_000)]
    fn duration_grammar(#[case] text: &'static str, #[case] millis: u64) {
        assert_eq!(duration(text), Ok(Duration::from_millis(millis)));
    }

    #[rstest]
    #[case("10")]
    #[case("soon")]
    #[case("0s")]
    #[case("-5s")]
    #[case("25h")]
    #[case("999999999999999999999s")]
    fn wrong_durations_are_reported(#[case] text: &'static str) {
        let expected = format!(
            "FERRY_TEST: `{text}` is not a duration from 1ms to 24h; \
             set one such as `500ms` or `1m30s`, or remove it for 10m"
        );
        assert_eq!(duration(text), Err(InvalidSettings(vec![expected])));
    }

    #[test]
    fn all_problems_are_collected() {
        let mut reader = Reader::new(|name| match name {
            env::CLUSTER => Some("Cluster B".into()),
            env::HTTP_LISTEN => Some("localhost:8000".into()),
            env::WINDOW => Some("0".into()),
            _ => None,
        });
        assert_eq!(reader.workload_name(), None);
        assert_eq!(reader.address(env::HTTP_LISTEN), None);
        assert_eq!(reader.number(env::WINDOW, 8, 1..=16), None);
        assert_eq!(reader.number(env::AUTO_TRIGGER, 8, 1..=16), Some(8));

        let problems = reader.finish(Some(())).unwrap_err().0;
        assert_eq!(
            problems,
            [
                "FERRY_BLUEPRINT: it is not set; set it to the blueprint's name",
                "FERRY_CLUSTER: `Cluster B` is not a DNS label; use 1 to 63 of a-z, 0-9 and `-`",
                "FERRY_WORKLOAD: it is not set; set it to the pod's name in the blueprint",
                "FERRY_HTTP_LISTEN: invalid address `localhost:8000`: expected IP:PORT; \
                 set one such as `127.0.0.1:8000`",
                "FERRY_WINDOW: `0` is not a number from 1 to 16; \
                 set such a number, or remove it for 8",
            ]
        );
    }

    #[cfg(unix)]
    #[test]
    fn values_that_are_not_utf_8_are_reported() {
        use std::os::unix::ffi::OsStringExt as _;
        let mut reader = Reader::new(|_| Some(OsString::from_vec(vec![0xff])));
        assert_eq!(reader.required("FERRY_TEST", "a word"), None);
        let problems = reader.finish(Some(())).unwrap_err().0;
        assert_eq!(
            problems,
            ["FERRY_TEST: it is not UTF-8; set it to plain text"]
        );
    }
}
