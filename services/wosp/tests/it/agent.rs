//! Rotations of the agent, at times that the tests choose.

use std::{os::unix::fs::symlink, sync::Arc, time::Duration};

use jiff::Timestamp;
use messages::env::{self, IDENTITY_FILE, ROOTS_FILE};
use tempfile::TempDir;
use wosp::{agent::Agent, config::Config, metrics::Metrics, status::Status};

use crate::support::{HOUR, Request, gateway, resource, root, sink, write_authority};

const ROTATION: Duration = Duration::from_secs(10);

/// An agent of the sink, with its folders.
struct Rig {
    agent: Agent,
    status: Arc<Status>,
    metrics: Arc<Metrics>,
    authority: TempDir,
    identity: TempDir,
}

fn rig() -> Rig {
    let (authority, identity) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = Config::read(|name| match name {
        env::BLUEPRINT => Some("international-ferry".into()),
        env::CLUSTER => Some("cluster-b".into()),
        env::WORKLOAD => Some("sink".into()),
        env::AUTHORITY_DIR => Some(authority.path().into()),
        env::IDENTITY_DIR => Some(identity.path().into()),
        env::WOSP_LISTEN => Some("127.0.0.1:0".into()),
        _ => None,
    })
    .unwrap();
    let (status, metrics) = (Arc::<Status>::default(), Arc::<Metrics>::default());
    Rig {
        agent: Agent::new(config, status.clone(), metrics.clone()),
        status,
        metrics,
        authority,
        identity,
    }
}

impl Rig {
    /// Writes a new authority below a new root, with `left` to live.
    fn replace_authority(&self, left: Duration) {
        let request = Request::of(&sink(), left);
        write_authority(self.authority.path(), &root(10 * HOUR), &request);
    }

    /// Returns the published identity, parsed.
    fn published(&self) -> serde_json::Value {
        resource(&self.identity.path().join(IDENTITY_FILE))
    }

    fn reason(&self, now: Timestamp) -> Option<String> {
        self.status.unready_reason(now, ROTATION)
    }

    #[track_caller]
    fn assert_metric(&self, now: Timestamp, line: &str) {
        let text = self.metrics.text(self.status.published(), now).unwrap();
        assert!(
            text.lines().any(|found| found == line),
            "`{line}` must be in:\n{text}"
        );
    }
}

#[test]
fn rotation_makes_ready_and_is_counted() {
    let mut rig = rig();
    let now = Timestamp::now();
    assert!(!rig.agent.rotate(now));
    assert!(rig.reason(now).unwrap().contains("cannot read"));
    rig.replace_authority(2 * HOUR);
    assert!(rig.agent.rotate(now));
    assert_eq!(rig.reason(now), None);
    assert!(rig.agent.rotate(now + ROTATION));
    let later = now + ROTATION + Duration::from_secs(3);
    rig.assert_metric(later, "ferry_wosp_rotations_total 2");
    rig.assert_metric(later, "ferry_wosp_failures_total 1");
    rig.assert_metric(later, "ferry_wosp_identity_age_seconds 3.0");
    rig.assert_metric(later, "ferry_wosp_authority_renewal_due 0");
    rig.assert_metric(
        later,
        &format!(
            "ferry_wosp_identity_expiry_timestamp_seconds {}",
            now.as_second() + 70
        ),
    );
}

#[test]
fn failing_agent_keeps_the_last_identity() {
    let mut rig = rig();
    let now = Timestamp::now();
    rig.replace_authority(HOUR);
    assert!(rig.agent.rotate(now));
    std::fs::remove_file(rig.authority.path().join("tls.key")).unwrap();
    let before = rig.published();
    assert!(!rig.agent.rotate(now + ROTATION));
    assert_eq!(rig.published(), before);
    assert_eq!(rig.reason(now + ROTATION), None);
    let reason = rig.reason(now + 5 * ROTATION).unwrap();
    assert!(
        reason.contains("within one rotation: cannot read"),
        "{reason}"
    );
}

#[test]
fn aging_authority_is_reported_then_refused() {
    let mut rig = rig();
    rig.replace_authority(Duration::from_secs(100));
    // After it, however long that took: the times that follow count from its end.
    let now = Timestamp::now();
    assert!(rig.agent.rotate(now));
    rig.assert_metric(now, "ferry_wosp_authority_renewal_due 1");
    let later = now + Duration::from_secs(45);
    assert!(!rig.agent.rotate(later));
    let reason = rig.reason(later - Duration::from_secs(20)).unwrap();
    assert!(reason.starts_with("the authority expires at"), "{reason}");
    rig.replace_authority(2 * HOUR);
    assert!(rig.agent.rotate(later), "a new authority heals it");
    assert_eq!(rig.reason(later), None);
    rig.assert_metric(later, "ferry_wosp_authority_renewal_due 0");
}

#[test]
fn clock_far_behind_does_not_end_an_authority() {
    let mut rig = rig();
    rig.replace_authority(2 * HOUR);
    let now = Timestamp::now();
    assert!(rig.agent.rotate(now));
    assert!(!rig.agent.rotate(now - 2 * HOUR));
    assert_eq!(rig.reason(now), None, "the last identity still counts");
    assert!(rig.agent.rotate(now));
}

#[test]
fn replaced_secret_is_taken_whole() {
    let mut rig = rig();
    let (secret, identity) = (
        rig.authority.path().to_owned(),
        rig.identity.path().to_owned(),
    );
    // As the kubelet lays a Secret out: the names point through `..data`, which is replaced by
    // rename.
    let version = |name: &str, root: &crate::support::Issuer, pod: messages::WorkloadName| {
        let folder = secret.join(name);
        std::fs::create_dir(&folder).unwrap();
        write_authority(&folder, root, &Request::of(&pod, HOUR));
        symlink(name, secret.join("..data_tmp")).unwrap();
        std::fs::rename(secret.join("..data_tmp"), secret.join("..data")).unwrap();
    };
    let (one, two) = (root(10 * HOUR), root(10 * HOUR));
    let roots = || {
        let secret = resource(&identity.join(ROOTS_FILE));
        secret["validation_context"]["trusted_ca"]["inline_string"].clone()
    };
    version("..one", &one, sink());
    assert!(rig.agent.rotate(Timestamp::now()));
    assert_eq!(roots(), one.pem());
    version("..two", &two, sink());
    assert!(rig.agent.rotate(Timestamp::now()));
    assert_eq!(roots(), two.pem());
    version("..three", &two, gateway());
    assert!(!rig.agent.rotate(Timestamp::now()));
    let reason = rig.reason(Timestamp::now()).unwrap();
    assert!(reason.contains("and this pod is `sink."), "{reason}");
}
