//! Parses Prometheus metrics.

use std::{collections::BTreeMap, fmt};

/// A metric, or those of its series that have all of these labels, as the statistics port of an Envoy shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub labels: &'static [(&'static str, &'static str)],
}

impl Metric {
    /// Every series of this name.
    pub const fn named(name: &'static str) -> Self {
        Self { name, labels: &[] }
    }

    /// Those with these labels too.
    #[must_use]
    pub const fn with(self, labels: &'static [(&'static str, &'static str)]) -> Self {
        Self { labels, ..self }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if self.labels.is_empty() {
            return Ok(());
        }
        let labels = self.labels.iter();
        let labels: Vec<_> = labels
            .map(|(name, value)| format!("{name}=\"{value}\""))
            .collect();
        write!(f, "{{{}}}", labels.join(","))
    }
}

/// What an Envoy counts, in Prometheus' text format: the same on every runtime, and what an operator sees.
/// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>
#[derive(Clone, Debug, Default)]
pub struct Samples(BTreeMap<String, u64>);

impl Samples {
    /// Whole numbers only; the rest is histograms' sums.
    pub(super) fn parse(text: &str) -> Self {
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        };
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(lines.filter_map(sample).collect())
    }

    /// The sum of the metric's series; 0 where nothing has been counted.
    pub fn sum(&self, metric: &Metric) -> u64 {
        let series = self.0.iter().filter(|(series, _)| {
            let (name, labels) = series.split_once('{').unwrap_or((series.as_str(), ""));
            name == metric.name
                && metric
                    .labels
                    .iter()
                    .all(|(name, value)| labels.contains(&format!("{name}=\"{value}\"")))
        });
        series.map(|(_, value)| value).sum()
    }

    /// What has risen since `before`, for the message of a failed check; not how long things took.
    pub fn risen_since(&self, before: &Self) -> BTreeMap<&str, u64> {
        let counts = self.0.iter().filter(|(series, _)| {
            !["_bucket{", "_sum{", "\"stats\"", "\"admin\""]
                .iter()
                .any(|part| series.contains(part))
        });
        let risen = counts.filter_map(|(series, value)| {
            let was = before.0.get(series).copied().unwrap_or_default();
            (*value > was).then(|| (series.as_str(), value - was))
        });
        risen.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE rq counter\n\
        rq{class=\"4\",prefix=\"ingress\"} 3\n\
        rq{class=\"4\",prefix=\"stats\"} 5\n\
        rq_more{} 7\n\
        handshakes 2\n\
        seconds_sum 0.25\n";

    #[test]
    fn series_are_summed_by_name_and_labels() {
        let samples = Samples::parse(TEXT);
        let rq = Metric::named("rq");
        assert_eq!(samples.sum(&rq), 8);
        assert_eq!(samples.sum(&rq.with(&[("prefix", "ingress")])), 3);
        assert_eq!(
            samples.sum(&rq.with(&[("prefix", "ingress"), ("class", "5")])),
            0
        );
        assert_eq!(samples.sum(&Metric::named("handshakes")), 2);
        assert_eq!(samples.sum(&Metric::named("seconds_sum")), 0);
    }

    #[test]
    fn what_has_risen_is_shown() {
        let before = Samples::parse("a 1\nb 2\n");
        let after = Samples::parse("a 1\nb 5\nc 1\n");
        assert_eq!(
            after.risen_since(&before),
            BTreeMap::from([("b", 3), ("c", 1)])
        );
    }

    #[test]
    fn a_metric_is_written_as_it_is_asked_for() {
        assert_eq!(Metric::named("rq").to_string(), "rq");
        let labelled = Metric::named("rq").with(&[("class", "4"), ("prefix", "ingress")]);
        assert_eq!(labelled.to_string(), r#"rq{class="4",prefix="ingress"}"#);
    }
}
