use std::collections::{BTreeMap, BTreeSet};

use messages::env;

use super::ENVIRONMENT_VARIABLE;
use crate::{environment::Record, failure::Failure};

/// Identities and sessions that change every few seconds, for tests of what that costs.
pub const QUICK_IDENTITIES: [(&str, &str); 3] = [
    (env::IDENTITY_LIFETIME, "6s"),
    (env::ROTATION_INTERVAL, "2s"),
    (env::SESSION_LIFETIME, "5s"),
];

/// Whether a test with these settings may run on an environment; the differences where it may not.
pub(super) fn fit(record: &Record, wanted: &BTreeMap<String, String>) -> Result<(), Failure> {
    let there = &record.settings;
    let text =
        |value: Option<&String>| value.map_or("not set".into(), |value| format!("`{value}`"));
    let names: BTreeSet<_> = there.keys().chain(wanted.keys()).collect();
    let differences: Vec<_> = names
        .into_iter()
        .map(|name| (name, there.get(name), wanted.get(name)))
        .filter(|(_, there, wanted)| there != wanted)
        .map(|(name, there, wanted)| {
            format!("{name} is {} there, {} here", text(there), text(wanted))
        })
        .collect();
    if differences.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "environment `{}` has other settings than this test: {}",
        record.name,
        differences.join(", ")
    ))
    .hint(format!(
        "attach to one with the settings of the test, or unset {ENVIRONMENT_VARIABLE}: then the test makes its own"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        let all = all
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        all.collect()
    }

    fn record(all: &[(&str, &str)]) -> Record {
        let record = serde_json::json!({
            "schema_version": 1, "name": "local", "runtime": "embedded", "created_at": "2026-01-01T00:00:00Z",
            "owner": null, "blueprints": {}, "settings": settings(all), "clusters": [], "pods": [],
        });
        serde_json::from_value(record).unwrap()
    }

    #[test]
    fn a_test_runs_on_an_environment_with_its_own_settings_only() {
        let quick = settings(&QUICK_IDENTITIES);
        fit(&record(&QUICK_IDENTITIES), &quick).unwrap();
        fit(&record(&[]), &settings(&[])).unwrap();
        for (there, here, difference) in [
            (
                &[][..],
                &QUICK_IDENTITIES[..],
                "FERRY_SESSION_LIFETIME is not set there, `5s` here",
            ),
            (
                &QUICK_IDENTITIES[..],
                &[][..],
                "FERRY_SESSION_LIFETIME is `5s` there, not set here",
            ),
            (
                &[(env::SESSION_LIFETIME, "6s")],
                &[(env::SESSION_LIFETIME, "5s")],
                "FERRY_SESSION_LIFETIME is `6s` there, `5s` here",
            ),
        ] {
            let error = fit(&record(there), &settings(here)).unwrap_err();
            assert!(
                error.to_string().contains(difference),
                "`{difference}` must be in: {error}"
            );
        }
    }
}
