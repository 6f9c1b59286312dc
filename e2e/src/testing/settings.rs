//! Settings that a test gives its pods.

use std::collections::{BTreeMap, BTreeSet};

use blueprint::failure::Failure;
use host::environment::Record;
use messages::env;

use super::ENVIRONMENT_VARIABLE;

/// Identities and sessions that change every few seconds, for tests of what that costs. An identity lives much longer than it
/// takes to replace it, so that a busy machine is never without one.
pub const QUICK_IDENTITIES: [(&str, &str); 3] = [
    (env::IDENTITY_LIFETIME, "24s"),
    (env::ROTATION_INTERVAL, "2s"),
    (env::SESSION_LIFETIME, "5s"),
];

/// Identities that change as often, and live long enough that the last quarter of a life is seen on a busy machine.
pub const LASTING_IDENTITIES: [(&str, &str); 2] = [
    (env::IDENTITY_LIFETIME, "24s"),
    (env::ROTATION_INTERVAL, "2s"),
];

/// What a test needs the settings of its environment to be.
#[derive(Clone, Debug, Default)]
pub(super) struct Needs {
    pub(super) these: BTreeMap<String, String>,
    /// Settings that the test does not name must not be there either.
    pub(super) no_others: bool,
}

/// Whether a test may run on an environment; the differences where it may not.
pub(super) fn fit(record: &Record, needs: &Needs) -> Result<(), Failure> {
    let text =
        |value: Option<&String>| value.map_or("not set".into(), |value| format!("`{value}`"));
    let there = record.settings.keys().filter(|_| needs.no_others);
    let names: BTreeSet<_> = there.chain(needs.these.keys()).collect();
    let differences: Vec<_> = names
        .into_iter()
        .map(|name| (name, record.settings.get(name), needs.these.get(name)))
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
        "attach to one with the settings of the test, or unset {ENVIRONMENT_VARIABLE} to let the \
         test create one"
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

    fn needs(these: &[(&str, &str)], no_others: bool) -> Needs {
        Needs {
            these: settings(these),
            no_others,
        }
    }

    #[test]
    fn test_runs_on_matching_settings() {
        let quick = needs(&QUICK_IDENTITIES, false);
        fit(&record(&QUICK_IDENTITIES), &quick).unwrap();
        fit(&record(&QUICK_IDENTITIES), &needs(&[], false)).unwrap();
        fit(&record(&[]), &needs(&[], true)).unwrap();
        fit(
            &record(&QUICK_IDENTITIES),
            &needs(&QUICK_IDENTITIES[..1], false),
        )
        .unwrap();
        for (there, needs, difference) in [
            (
                &[][..],
                quick,
                "FERRY_SESSION_LIFETIME is not set there, `5s` here",
            ),
            (
                &QUICK_IDENTITIES[..],
                needs(&[], true),
                "FERRY_SESSION_LIFETIME is `5s` there, not set here",
            ),
            (
                &QUICK_IDENTITIES[..],
                needs(&QUICK_IDENTITIES[..1], true),
                "FERRY_SESSION_LIFETIME is `5s` there, not set here",
            ),
            (
                &[(env::SESSION_LIFETIME, "6s")],
                needs(&[(env::SESSION_LIFETIME, "5s")], false),
                "FERRY_SESSION_LIFETIME is `6s` there, `5s` here",
            ),
        ] {
            let error = fit(&record(there), &needs).unwrap_err();
            assert!(
                error.to_string().contains(difference),
                "`{difference}` must be in: {error}"
            );
        }
    }
}
