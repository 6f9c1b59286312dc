//! Formats records and messages as text. Does no I/O.

mod banner;
mod bench;
mod identity;
mod swept;

use std::fmt::Write as _;

use blueprint::plan::PeerAddress;
use harness::{
    ops::{
        doctor::{Check, Outcome as CheckOutcome},
        sweep::Condition,
    },
    proof::Verdict,
    trail::{Proof, StoredMessage},
};
use host::{
    environment::{PodRecord, Record, RuntimeKind},
    pods::{Liveness, PodState, Readiness},
    timeline::Entry,
};
use messages::{Ack, Outcome};

use crate::{
    interrupt::Interrupted,
    output::{Colour, Style, Table, seconds},
};

pub(crate) use banner::{banner, kept};
pub(crate) use bench::measured;
pub(crate) use identity::overview;
pub(crate) use swept::swept;

/// Formats the pods of an environment with their clusters and addresses.
pub(crate) fn pods(record: &Record, style: Style) -> String {
    let mut table = Table::new([
        "blueprint",
        "pod",
        "role",
        "cluster",
        "address",
        "runs as",
        "node",
    ]);
    for pod in &record.pods {
        table.row([
            pod.name.blueprint(),
            pod.name.pod(),
            pod.role.as_str(),
            pod.name.cluster(),
            &address(pod.local_address.as_ref()),
            &pod.pod_name,
            &pod.node,
        ]);
    }
    table.text(style)
}

/// Returns a pod's name on the command line, `blueprint/pod`.
pub(crate) fn pod_name(pod: &PodRecord) -> String {
    format!("{}/{}", pod.name.blueprint(), pod.name.pod())
}

/// Formats an address, or `none`.
pub(crate) fn address(address: Option<&PeerAddress>) -> String {
    address.map_or_else(|| "none".into(), ToString::to_string)
}

/// Returns a runtime's name on the command line.
pub(crate) const fn runtime(kind: RuntimeKind) -> &'static str {
    match kind {
        RuntimeKind::Embedded => "embedded",
        RuntimeKind::K3d => "k3d",
        RuntimeKind::Existing => "existing",
    }
}

/// Returns the verdict on a run: `passed`, `interrupted` or `failed`.
pub(crate) fn verdict(result: &anyhow::Result<()>) -> &'static str {
    match result {
        Ok(()) => "passed",
        Err(error) if error.is::<Interrupted>() => "interrupted",
        Err(_) => "failed",
    }
}

/// Formats a blueprint's verdict, `Fast International Ferry (fast-international-ferry): 5/5`, and the
/// trails of its messages.
pub(crate) fn verdict_table(title: &str, verdict: &Verdict, style: Style) -> String {
    let count = format!("{}/{}", verdict.delivered, verdict.expected);
    let mut text = format!(
        "{title} ({}): {}",
        verdict.blueprint,
        style.paint(Colour::Green, &count)
    );
    for sink in &verdict.sinks {
        let _ = write!(
            text,
            "\n{}",
            heading(&sink.sink, &sink.cluster, sink.proof.messages.len())
        );
        let mut table = Table::new(Proof::COLUMNS);
        for row in sink.proof.rows() {
            table.row(row);
        }
        let _ = write!(text, "\n{}", table.text(style));
    }
    text
}

fn heading(sink: &str, cluster: &str, count: usize) -> String {
    match count {
        0 => format!("no message at {sink} in {cluster}"),
        1 => format!("1 message at {sink} in {cluster}:"),
        count => format!("{count} messages at {sink} in {cluster}:"),
    }
}

/// Formats the last line of a passed run.
pub(crate) fn summary(verdicts: &[Verdict], kind: RuntimeKind, took: &str, style: Style) -> String {
    let parts: Vec<_> = verdicts
        .iter()
        .map(|verdict| {
            format!(
                "{} {}/{}",
                verdict.blueprint, verdict.delivered, verdict.expected
            )
        })
        .collect();
    format!(
        "{} on the {} runtime in {took}: {}",
        style.paint(Colour::Green, "passed"),
        runtime(kind),
        parts.join(", ")
    )
}

/// Formats the steps of a run as a bar chart with start and duration.
pub(crate) fn timeline(entries: &[Entry], style: Style) -> String {
    /// Width of the chart in characters.
    const WIDTH: u64 = 32;
    let end = |entry: &Entry| entry.started_ms + entry.took_ms.unwrap_or(0);
    let whole = entries.iter().map(end).max().unwrap_or(0).max(1);
    let mut table = Table::new(["timeline", "start", "took", "step"]);
    for entry in entries {
        let column = |ms: u64| usize::try_from(ms * WIDTH / whole).unwrap_or(0);
        let (from, to) = (column(entry.started_ms), column(end(entry)));
        let bar = format!("{}{}", " ".repeat(from), "=".repeat((to - from).max(1)));
        let took = match entry.took_ms {
            Some(took) => seconds(std::time::Duration::from_millis(took)),
            None => "open".into(),
        };
        let failed = if entry.failed { " (failed)" } else { "" };
        table.row([
            bar,
            seconds(std::time::Duration::from_millis(entry.started_ms)),
            took,
            format!("{}{failed}", entry.name),
        ]);
    }
    table.text(style)
}

/// Formats the results of `doctor`: one row per check, then the fix of each failed one.
pub(crate) fn checks(checks: &[Check], style: Style) -> String {
    let mut table = Table::new(["check", "verdict", "found"]);
    for check in checks {
        table.row([
            check.name.as_str(),
            outcome(check.outcome).0,
            &check.detail.replace('\n', " "),
        ]);
    }
    let mut text = table.text(style);
    for check in checks {
        if let Some(fix) = &check.fix {
            let (word, colour) = outcome(check.outcome);
            let _ = write!(
                text,
                "\n{} {}: {}",
                style.paint(colour, word),
                check.name,
                fix
            );
        }
    }
    text
}

fn outcome(outcome: CheckOutcome) -> (&'static str, Colour) {
    match outcome {
        CheckOutcome::Ok => ("ok", Colour::Green),
        CheckOutcome::Warn => ("warn", Colour::Yellow),
        CheckOutcome::Fail => ("fail", Colour::Red),
    }
}

/// Formats the condition of an environment, such as `up, owned by process 12`.
pub(crate) fn condition(condition: &Condition) -> String {
    match condition {
        Condition::Owned(owner) => format!("up, owned by {owner}"),
        Condition::Stays => "up".into(),
        Condition::Stopped => "stopped".into(),
        Condition::Abandoned => {
            "left behind by a killed command; run `cargo xtask sweep` to remove it".into()
        }
        Condition::Elsewhere(place) => format!("runs elsewhere, {place}"),
    }
}

/// Formats an environment with the state of its pods.
pub(crate) fn status(
    record: &Record,
    state: &Condition,
    pods: &[PodState],
    style: Style,
) -> String {
    let mut text = format!(
        "{} on the {} runtime: {}\n",
        style.paint(Colour::Bold, &record.name),
        runtime(record.runtime),
        condition(state)
    );
    let mut table = Table::new([
        "blueprint",
        "pod",
        "role",
        "cluster",
        "address",
        "state",
        "runs as",
    ]);
    for pod in pods {
        table.row([
            pod.name.blueprint(),
            pod.name.pod(),
            pod.role.as_str(),
            pod.name.cluster(),
            &address(pod.local_address.as_ref()),
            &pod_state(pod),
            &pod.pod_name,
        ]);
    }
    text.push_str(&table.text(style));
    for pod in pods {
        for container in &pod.containers {
            if let Liveness::Crashed { log_tail } = &container.state {
                let _ = write!(
                    text,
                    "\n{} of {} has crashed; end of its log:\n{log_tail}",
                    container.container,
                    pod.name.pod()
                );
            }
        }
    }
    text
}

fn pod_state(pod: &PodState) -> String {
    let ended: Vec<_> = pod
        .containers
        .iter()
        .filter_map(|container| match container.state {
            Liveness::Running => None,
            Liveness::Stopped => Some(format!("{} stopped", container.container)),
            Liveness::Crashed { .. } => Some(format!("{} crashed", container.container)),
        })
        .collect();
    match &pod.readiness {
        _ if !ended.is_empty() => ended.join(", "),
        Readiness::Ready => "ready".into(),
        Readiness::Waiting(missing) => format!("waiting for {}", missing.join(", ")),
        Readiness::Elsewhere(_) => "runs elsewhere".into(),
    }
}

/// Formats acknowledgements.
pub(crate) fn acks(acks: &[Ack], style: Style) -> String {
    let mut table = Table::new(["message", "outcome", "trail"]);
    for ack in acks {
        let outcome = match &ack.outcome {
            Outcome::Delivered => "delivered".into(),
            Outcome::Rejected { reason } => format!("rejected: {reason}"),
        };
        let trail: Vec<_> = ack
            .trail
            .iter()
            .map(|hop| format!("{}@{}", hop.pod, hop.cluster))
            .collect();
        table.row([ack.id.to_string(), outcome, trail.join(" -> ")]);
    }
    table.text(style)
}

/// Returns the reason of the first rejected message.
pub(crate) fn first_reason(acks: &[Ack]) -> Option<&str> {
    acks.iter().find_map(|ack| match &ack.outcome {
        Outcome::Rejected { reason } => Some(reason.as_str()),
        Outcome::Delivered => None,
    })
}

/// Formats the messages stored at a sink with their trails.
pub(crate) fn stored(sink: &PodRecord, output: &[StoredMessage], style: Style) -> String {
    let (pod, cluster) = (sink.name.pod(), sink.name.cluster());
    let mut text = format!(
        "{}: {}",
        sink.name.blueprint(),
        heading(pod, cluster, output.len())
    );
    if output.is_empty() {
        return text;
    }
    let mut table = Table::new(["no.", "seq", "message", "stored at", "payload", "trail"]);
    for stored in output {
        let message = &stored.message;
        let trail: Vec<_> = message
            .trail
            .iter()
            .map(|hop| format!("{}@{}", hop.pod, hop.cluster))
            .collect();
        table.row([
            stored.index.to_string(),
            message.seq.to_string(),
            message.id.to_string(),
            stored.stored_at.to_string(),
            head(message.payload.as_str(), 32),
            trail.join(" -> "),
        ]);
    }
    let _ = write!(text, "\n{}", table.text(style));
    text
}

/// Cuts a text to one line of at most `characters`.
fn head(text: &str, characters: usize) -> String {
    let line: String = text
        .chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .take(characters + 1)
        .collect();
    if line.chars().count() > characters {
        let cut: String = line.chars().take(characters - 1).collect();
        format!("{cut}…")
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_shows_what_ran_side_by_side() {
        let entry = |name: &str, started_ms, took_ms| Entry {
            name: name.into(),
            started_ms,
            took_ms,
            failed: name == "broken",
            last: None,
        };
        let text = timeline(
            &[
                entry("build", 0, Some(1000)),
                entry("broken", 500, Some(1500)),
                entry("hung", 2000, None),
            ],
            Style::Plain,
        );
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[1],
            format!("  {:<33}  0.0s   1.0s  build", "=".repeat(16))
        );
        assert!(lines[2].ends_with("0.5s   1.5s  broken (failed)"), "{text}");
        assert!(lines[3].ends_with("open  hung"), "{text}");
    }

    #[test]
    fn failed_checks_show_fix() {
        let check = |name: &str, outcome, fix: Option<&str>| Check {
            name: name.into(),
            outcome,
            detail: "seen".into(),
            fix: fix.map(Into::into),
        };
        let text = checks(
            &[
                check("Docker", CheckOutcome::Ok, None),
                check("disk", CheckOutcome::Warn, Some("free some")),
                check("port 30200", CheckOutcome::Fail, Some("end it")),
            ],
            Style::Plain,
        );
        assert_eq!(
            text,
            "  check       verdict  found\n  Docker      ok       seen\n  disk        warn     seen\n  \
             port 30200  fail     seen\nwarn disk: free some\nfail port 30200: end it"
        );
    }

    #[test]
    fn a_payload_is_cut_to_one_short_line() {
        assert_eq!(head("{\"a\":\n1}", 32), "{\"a\": 1}");
        assert_eq!(head("äöüäöü", 4), "äöü…");
    }
}
