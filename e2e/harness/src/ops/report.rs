//! Writes `report.html`: what was proven or why not, the pods, and the duration of each step,
//! on one page without scripts or secrets.

use std::path::Path;

use anyhow::Context as _;
use blueprint::failure::Failure;
use host::{
    environment::{PodRecord, Record, RuntimeKind, replace_file},
    timeline::Entry,
};
use jiff::Timestamp;
use minijinja::{AutoEscape, Environment as Templates, value::Serde};
use serde::Serialize;

use crate::proof::{SinkVerdict, Verdict};

#[cfg(test)]
mod tests;

/// Name of the page in a state folder.
pub const REPORT: &str = "report.html";

/// What the page tells.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    pub record: &'a Record,
    /// What was proven, as far as it came.
    pub verdicts: &'a [Verdict],
    pub failure: Option<&'a anyhow::Error>,
    pub steps: &'a [Entry],
    /// States and ends of logs, as text.
    pub evidence: Option<&'a str>,
}

impl<'a> Report<'a> {
    /// Of what was proven.
    pub const fn of(record: &'a Record, verdicts: &'a [Verdict], steps: &'a [Entry]) -> Self {
        Self {
            record,
            verdicts,
            failure: None,
            steps,
            evidence: None,
        }
    }

    /// Writes the page into `folder`.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let page = self.html(Timestamp::now())?;
        replace_file(&folder.join(REPORT), page.as_bytes(), 0o600)
    }

    /// The page: every text in it is escaped, from any source.
    pub fn html(&self, now: Timestamp) -> anyhow::Result<String> {
        let mut templates = Templates::new();
        templates.set_auto_escape_callback(|_| AutoEscape::Html);
        let record = self.record;
        let page = Page {
            environment: &record.name,
            runtime: record.runtime,
            verdict: if self.failure.is_some() {
                "failed"
            } else {
                "passed"
            },
            created_at: seconds(record.created_at),
            written_at: seconds(now),
            failure: self.failure.map(Cause::of),
            verdicts: self.verdicts.iter().map(Proven::of).collect(),
            pods: record.pods.iter().map(Place::of).collect(),
            steps: bars(self.steps),
            evidence: self.evidence,
        };
        templates
            .render_str(include_str!("report/report.html"), Serde(page))
            .context("cannot write the report")
    }
}

#[derive(Serialize)]
struct Page<'a> {
    environment: &'a str,
    runtime: RuntimeKind,
    verdict: &'static str,
    created_at: String,
    written_at: String,
    failure: Option<Cause>,
    verdicts: Vec<Proven<'a>>,
    pods: Vec<Place<'a>>,
    steps: Vec<Bar<'a>>,
    evidence: Option<&'a str>,
}

fn seconds(time: Timestamp) -> String {
    format!("{time:.0}")
}

#[derive(Serialize)]
struct Cause {
    cause: String,
    next_step: Option<String>,
    chain: Vec<String>,
}

impl Cause {
    fn of(error: &anyhow::Error) -> Self {
        let failure = Failure::of(error);
        let cause = failure.map_or_else(|| error.to_string(), ToString::to_string);
        let chain = error.chain().map(ToString::to_string);
        Self {
            next_step: failure.and_then(Failure::next_step).map(str::to_owned),
            chain: chain.filter(|line| *line != cause).collect(),
            cause,
        }
    }
}

#[derive(Serialize)]
struct Proven<'a> {
    blueprint: &'a str,
    expected: u64,
    delivered: u64,
    sinks: Vec<Stored<'a>>,
}

impl<'a> Proven<'a> {
    fn of(verdict: &'a Verdict) -> Self {
        Self {
            blueprint: &verdict.blueprint,
            expected: verdict.expected,
            delivered: verdict.delivered,
            sinks: verdict.sinks.iter().map(Stored::of).collect(),
        }
    }
}

#[derive(Serialize)]
struct Stored<'a> {
    sink: &'a str,
    cluster: &'a str,
    messages: Vec<Crossed<'a>>,
}

#[derive(Serialize)]
struct Crossed<'a> {
    #[serde(flatten)]
    crossing: &'a crate::trail::Crossing,
    took: String,
}

impl<'a> Stored<'a> {
    fn of(sink: &'a SinkVerdict) -> Self {
        let messages = sink.proof.messages.iter();
        let crossed = messages.map(|crossing| Crossed {
            crossing,
            took: crossing.took_text(),
        });
        Self {
            sink: &sink.sink,
            cluster: &sink.cluster,
            messages: crossed.collect(),
        }
    }
}

#[derive(Serialize)]
struct Place<'a> {
    blueprint: &'a str,
    pod: &'a str,
    role: &'a str,
    cluster: &'a str,
    pod_name: &'a str,
    node: &'a str,
    load_balancer: Option<&'a str>,
    peer_address: Option<String>,
    ready_at: Option<String>,
}

impl<'a> Place<'a> {
    fn of(pod: &'a PodRecord) -> Self {
        Self {
            blueprint: pod.name.blueprint(),
            pod: pod.name.pod(),
            role: pod.role.as_str(),
            cluster: pod.name.cluster(),
            pod_name: &pod.pod_name,
            node: &pod.node,
            load_balancer: pod.load_balancer.as_deref(),
            peer_address: pod.peer_address.as_ref().map(ToString::to_string),
            ready_at: pod.ready_at.map(seconds),
        }
    }
}

/// A step as a bar: its place and length are per cent of the whole.
#[derive(Serialize)]
struct Bar<'a> {
    name: &'a str,
    failed: bool,
    last: Option<&'a str>,
    left: String,
    width: String,
    start: String,
    took: String,
}

fn bars(steps: &[Entry]) -> Vec<Bar<'_>> {
    let end = |step: &Entry| step.started_ms + step.took_ms.unwrap_or(0);
    let whole = steps.iter().map(end).max().unwrap_or(0).max(1);
    steps.iter().map(|step| Bar::of(step, whole)).collect()
}

impl<'a> Bar<'a> {
    fn of(step: &'a Entry, whole_ms: u64) -> Self {
        let rest = whole_ms.saturating_sub(step.started_ms);
        Self {
            name: &step.name,
            failed: step.failed,
            last: step.last.as_deref(),
            left: per_cent(step.started_ms, whole_ms),
            width: per_cent(step.took_ms.unwrap_or(rest), whole_ms),
            start: tenths(step.started_ms),
            took: step.took_ms.map_or_else(|| "runs".into(), tenths),
        }
    }
}

/// `12.5`: per cent with one digit.
fn per_cent(part: u64, whole: u64) -> String {
    let per_mille = part.saturating_mul(1000) / whole.max(1);
    format!("{}.{}", per_mille / 10, per_mille % 10)
}

/// `12.5s` of milliseconds.
fn tenths(ms: u64) -> String {
    format!("{}.{}s", ms / 1000, ms % 1000 / 100)
}
