//! Reads the identities that a pod currently serves.

use std::collections::BTreeSet;

use anyhow::Context as _;
use identity::Authority;
use messages::IdentityReport;
use serde::Serialize;

/// One running pod's identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Live {
    /// The (Kubernetes) pod's own name.
    pub runs_as: String,
    #[serde(flatten)]
    pub report: IdentityReport,
    /// When Envoy last took the identity and the roots from their files; milliseconds since 1970.
    #[serde(skip)]
    taken: Option<(i64, i64)>,
}

impl Live {
    /// From the answer of `wosp` and from Envoy's statistics.
    pub(crate) fn read(runs_as: String, report: &str, statistics: &str) -> anyhow::Result<Self> {
        let report =
            serde_json::from_str(report).context("cannot parse the identity report of `wosp`")?;
        // https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/security/secret#statistics
        let taken = |secret: &str| {
            let name = format!("envoy_xds_resource_name=\"{secret}\"");
            let line = statistics.lines().find_map(|line| {
                let (labels, value) = line
                    .strip_prefix("envoy_sds_update_time{")?
                    .rsplit_once('}')?;
                labels.contains(&name).then_some(value)
            })?;
            line.trim().parse().ok()
        };
        Ok(Self {
            runs_as,
            report,
            taken: taken("identity").zip(taken("roots")),
        })
    }
}

/// The identity that the pod must serve.
#[derive(Debug)]
pub(super) struct Wanted {
    authority: String,
    roots: BTreeSet<String>,
}

impl Wanted {
    pub(super) fn of(authority: &Authority) -> anyhow::Result<Self> {
        let roots = authority.root_reports()?;
        Ok(Self {
            authority: authority.report()?.fingerprint,
            roots: roots.into_iter().map(|root| root.fingerprint).collect(),
        })
    }

    /// Returns what is served instead; `None` once `wosp` and Envoy serve all of it.
    pub(super) fn obstacle(&self, live: &Live) -> Option<String> {
        let Live {
            runs_as, report, ..
        } = live;
        if report.authority.fingerprint != self.authority {
            return Some(format!(
                "the identity of {runs_as} is still of authority {}",
                report.authority.serial
            ));
        }
        let roots: BTreeSet<_> = report
            .roots
            .iter()
            .map(|root| root.fingerprint.clone())
            .collect();
        if roots != self.roots {
            return Some(format!("{runs_as} still trusts other roots"));
        }
        let published = report.published_at.as_jiff().as_millisecond();
        match live.taken {
            Some((identity, roots)) if identity >= published && roots >= published => None,
            _ => Some(format!("the Envoy of {runs_as} has not taken it yet")),
        }
    }
}

#[cfg(test)]
mod tests {
    use messages::{CertificateReport, WorkloadName};

    use super::*;
    use identity::Root;

    fn sink() -> WorkloadName {
        WorkloadName::new("b", "c", "sink").unwrap()
    }

    fn report(authority: &Authority) -> IdentityReport {
        IdentityReport {
            name: sink(),
            published_at: jiff::Timestamp::from_millisecond(2_000).unwrap().into(),
            clock: None,
            identity: authority.report().unwrap(),
            authority: authority.report().unwrap(),
            roots: authority.root_reports().unwrap(),
        }
    }

    fn live(report: &IdentityReport, taken: i64) -> Live {
        let statistics = ["identity", "roots"].map(|secret| {
            format!("envoy_sds_update_time{{envoy_xds_resource_name=\"{secret}\"}} {taken}")
        });
        Live::read(
            "sink-1".into(),
            &serde_json::to_string(report).unwrap(),
            &statistics.join("\n"),
        )
        .unwrap()
    }

    #[test]
    fn authority_is_active_in_wosp_and_envoy() {
        let root = Root::create("test").unwrap();
        let authority = root.authority(&sink()).unwrap();
        let wanted = Wanted::of(&authority).unwrap();
        let good = report(&authority);
        assert_eq!(wanted.obstacle(&live(&good, 2_000)), None);

        let early = wanted.obstacle(&live(&good, 1_999)).unwrap();
        assert!(early.contains("has not taken it yet"), "{early}");
        let silent = Live::read("sink-1".into(), &serde_json::to_string(&good).unwrap(), "");
        assert!(wanted.obstacle(&silent.unwrap()).is_some());

        let other = report(&root.authority(&sink()).unwrap());
        let other = wanted.obstacle(&live(&other, 2_000)).unwrap();
        assert!(other.contains("still of authority"), "{other}");

        let mut more = good.clone();
        let second = Root::create("second").unwrap();
        more.roots
            .push(CertificateReport::of(second.certificate_der()).unwrap());
        let more = wanted.obstacle(&live(&more, 2_000)).unwrap();
        assert!(more.contains("still trusts other roots"), "{more}");
    }

    #[test]
    fn an_answer_that_is_no_report_is_an_error() {
        assert!(Live::read("sink-1".into(), "{}", "").is_err());
    }
}
