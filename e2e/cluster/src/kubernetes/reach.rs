//! Connects to an existing cluster by its context, and checks that it can run Ferry's pods.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use blueprint::failure::Failure;
use host::{
    timeline::Step,
    wait::{Seen, Wait},
};
use kube::config::Kubeconfig;
use messages::Readiness;

use super::{Cluster, connection};
use crate::proxy::Variables;

/// Time for a container's own account of what it waits for.
const ACCOUNT_LIMIT: Duration = Duration::from_secs(3);

/// Sidecars that are init containers with `restartPolicy: Always` came with Kubernetes 1.29.
/// <https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/>
const OLDEST_MINOR: u32 = 29;

impl Cluster {
    /// Connects by a named context. `name` is the cluster's name in the blueprint, for messages.
    pub async fn connect_by(
        name: &str,
        kubeconfig: Kubeconfig,
        context: &str,
    ) -> anyhow::Result<Self> {
        let unusable = || {
            Failure::infrastructure(format!("cluster {name}: cannot use context `{context}`")).hint(
                format!("make `kubectl --context {context} get nodes` work first"),
            )
        };
        let variables = Variables::of_this_process();
        let client = connection::open(kubeconfig, Some(context), &variables).await;
        Ok(Self {
            name: name.into(),
            client: client.map_err(|error| match Failure::of(&error) {
                Some(_) => error.context(format!("cluster {name}")),
                None => error.context(unusable()),
            })?,
        })
    }

    /// Waits until the API server tells its version, and refuses one that is too old. Ends early where it refuses us.
    pub async fn suits(&self, context: &str, limit: Duration, step: &Step) -> anyhow::Result<()> {
        let hint = format!("`kubectl --context {context} version` shows more");
        // Of a proxy that is still in the way: it is more precise than a time-out.
        let in_the_way = Mutex::new(None);
        let version = Wait::until(format!(
            "the API server of {} (context `{context}`)",
            self.name
        ))
        .within(limit)
        .hint(&*hint)
        .showing(step)
        .poll(|| async {
            let answer = self.client.apiserver_version().await;
            let no_way = answer.as_ref().err().and_then(connection::no_way);
            let no_way = no_way.map(|no_way| {
                (
                    no_way.may_pass(),
                    no_way.failure(&format!("{}: ", self.name)),
                )
            });
            let mut seen = in_the_way.lock().unwrap_or_else(PoisonError::into_inner);
            *seen = None;
            match no_way {
                Some((false, failure)) => return Err(failure.into()),
                Some((true, failure)) => {
                    let words = failure.to_string();
                    *seen = Some(failure);
                    return Ok(Seen::Waiting(words));
                }
                None => {}
            }
            match answer {
                Ok(version) => Ok(Seen::Ready(version)),
                Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
                    Err(Failure::infrastructure(format!(
                        "{}: the API server refuses context `{context}`: {}",
                        self.name, status.message
                    ))
                    .hint(&*hint)
                    .into())
                }
                Err(error) => Ok(Seen::Waiting(
                    anyhow::Error::from(error).root_cause().to_string(),
                )),
            }
        })
        .await;
        let in_the_way = in_the_way
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let version = version.map_err(|error| in_the_way.map_or(error, Into::into))?;
        if is_too_old(&version.major, &version.minor) {
            return Err(Failure::infrastructure(format!(
                "{}: Kubernetes {} is too old for sidecar containers",
                self.name, version.git_version
            ))
            .hint(format!("upgrade it to 1.{OLDEST_MINOR} or later"))
            .into());
        }
        Ok(())
    }

    /// Returns what the `app` of a pod reports to wait for; `None` if it reports nothing.
    pub async fn account(&self, namespace: &str, pod: &str, port: u16) -> Option<String> {
        let answer = self.answer(namespace, pod, port, "/ready");
        let answer = tokio::time::timeout(ACCOUNT_LIMIT, answer).await;
        let readiness: Readiness = serde_json::from_slice(&answer.ok()?.ok()?.body).ok()?;
        readiness.obstacle()
    }
}

/// Some providers write a minor version as `34+`.
fn is_too_old(major: &str, minor: &str) -> bool {
    let digits = minor.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    major == "1"
        && digits
            .parse::<u32>()
            .is_ok_and(|minor| minor < OLDEST_MINOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_cannot_run_sidecars_is_too_old() {
        for (minor, expected) in [
            ("28", true),
            ("28+", true),
            ("29", false),
            ("34+", false),
            ("", false),
        ] {
            assert_eq!(is_too_old("1", minor), expected, "1.{minor}");
        }
        assert!(!is_too_old("2", "0"));
    }
}
