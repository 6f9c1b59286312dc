//! Formats identities as tables.

use std::fmt::Write as _;

use harness::ops::rotate::{Live, Overview, PodIdentity, Standing};
use identity::CertificateReport;
use jiff::{SignedDuration, Timestamp};
use messages::WorkloadName;

use crate::output::{Colour, Style, Table};

/// Formats permitted connections, identities, authorities and roots, with ages as of `now`.
pub(crate) fn overview(overview: &Overview, now: Timestamp, style: Style) -> String {
    let mut table = Table::new([
        "blueprint",
        "pod",
        "cluster",
        "admits",
        "connects to",
        "authority",
        "age",
        "expires in",
        "identity",
        "age",
        "expires in",
    ]);
    for pod in &overview.pods {
        let rows: Vec<_> = pod.live.iter().map(Some).collect();
        for live in if rows.is_empty() { vec![None] } else { rows } {
            table.row(row(pod, live, now));
        }
    }
    let mut text = table.text(style);
    for pod in &overview.pods {
        if let Some(trouble) = &pod.trouble {
            let _ = write!(
                text,
                "\n{} {}: {}",
                style.paint(Colour::Yellow, "unknown"),
                pod.pod.pod(),
                trouble.replace('\n', " ")
            );
        }
    }
    let mut roots = Table::new(["root", "state", "key", "created", "expires in"]);
    for root in &overview.roots {
        let state = match root.standing {
            Standing::Current => "current",
            Standing::Next => "next",
            Standing::Retired => "retired, for earlier trails",
        };
        roots.row([
            short(&root.certificate.serial),
            state.into(),
            if root.key_is_here { "here" } else { "not here" }.into(),
            root.certificate
                .not_before
                .as_jiff()
                .strftime("%Y-%m-%d")
                .to_string(),
            left(&root.certificate, now),
        ]);
    }
    let _ = write!(text, "\n\n{}", roots.text(style));
    text
}

fn row(pod: &PodIdentity, live: Option<&Live>, now: Timestamp) -> [String; 11] {
    // The authority that the pod serves, or that of the state folder if the pod does not answer.
    let authority = live.map_or(&pod.authority, |live| &live.report.authority);
    let unknown = || "unknown".to_owned();
    [
        pod.pod.blueprint().into(),
        pod.pod.pod().into(),
        pod.pod.cluster().into(),
        names(&pod.admits),
        names(&pod.connects_to),
        short(&authority.serial),
        since(authority.not_before.as_jiff(), now),
        left(authority, now),
        live.map_or_else(unknown, |live| short(&live.report.identity.serial)),
        live.map_or_else(unknown, |live| {
            since(live.report.published_at.as_jiff(), pod_time(live, now))
        }),
        live.map_or_else(unknown, |live| {
            left(&live.report.identity, pod_time(live, now))
        }),
    ]
}

/// Returns the time of the pod's clock, which dates its identities, or this machine's if unknown.
fn pod_time(live: &Live, now: Timestamp) -> Timestamp {
    live.report.clock.map_or(now, |clock| clock.as_jiff())
}

fn names(names: &[WorkloadName]) -> String {
    let names: Vec<_> = names.iter().map(WorkloadName::pod).collect();
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}

/// Returns the first eight digits of a serial number, enough to recognise it.
fn short(serial: &str) -> String {
    serial.chars().take(8).collect()
}

fn since(start: Timestamp, now: Timestamp) -> String {
    span(now.duration_since(start))
}

fn left(certificate: &CertificateReport, now: Timestamp) -> String {
    let left = certificate.not_after.as_jiff().duration_since(now);
    if left.is_positive() {
        span(left)
    } else {
        "expired".into()
    }
}

/// Formats a span in whole units, rounded down: `12s`, `5m`, `3h`, `89d`.
fn span(span: SignedDuration) -> String {
    let seconds = span.as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use harness::ops::rotate::RootState;

    use super::*;

    #[test]
    fn a_span_is_one_number_with_its_unit() {
        let shown = |seconds| span(SignedDuration::from_secs(seconds));
        assert_eq!(
            [-1, 119, 120, 7_200, 172_800, 7_776_000].map(shown),
            ["0s", "119s", "2m", "2h", "2d", "90d"]
        );
    }

    #[test]
    fn silent_pod_is_shown_with_reason() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let certificate = |serial: &str, days: i64| CertificateReport {
            serial: serial.into(),
            fingerprint: String::new(),
            not_before: now.into(),
            not_after: (now + SignedDuration::from_hours(24 * days)).into(),
        };
        let pod = |name: &str| WorkloadName::new("ferry", "cluster-a", name).unwrap();
        let text = overview(
            &Overview {
                environment: "local".into(),
                unfinished: false,
                roots: vec![RootState {
                    standing: Standing::Current,
                    key_is_here: true,
                    certificate: certificate("0102030405", 365),
                }],
                pods: vec![PodIdentity {
                    pod: pod("sink"),
                    admits: vec![pod("gateway")],
                    connects_to: vec![],
                    authority: certificate("aabbccddee", 90),
                    live: vec![],
                    trouble: Some("no answer".into()),
                }],
            },
            now,
            Style::Plain,
        );
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[1].contains("gateway") && lines[1].contains("aabbccdd   0s   90d"),
            "{text}"
        );
        assert_eq!(lines[2], "unknown sink: no answer");
        assert!(
            lines[5].contains("01020304") && lines[5].ends_with("365d"),
            "{text}"
        );
    }
}
