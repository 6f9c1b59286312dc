//! Classifies a pod's status: progressing, or in a state that waiting cannot fix. Does no I/O.

use blueprint::failure::Failure;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};

use super::container_statuses;

/// Why a pod is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    /// Still progressing; the text names what is missing.
    Coming(String),
    /// No node takes it. Heals while nodes are still joining, so the caller gives it a moment.
    Unschedulable(String),
    /// Will not heal by waiting.
    Broken(Trouble),
}

/// What is wrong and where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) cause: String,
    /// The container whose log explains it.
    pub(super) container: Option<String>,
    /// What to do next, where that is known.
    pub(super) hint: Option<String>,
}

impl Trouble {
    /// `pod` says which one, and where.
    pub(super) fn failure(&self, pod: &str) -> Failure {
        let failure = Failure::infrastructure(format!("{pod}: {}", self.cause));
        match &self.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// A crash is reported after this many restarts: one may be an order of start that heals itself.
const RESTARTS_THAT_ARE_A_CRASH_LOOP: i32 = 2;

/// Reasons of a waiting container that waiting cannot fix.
/// <https://kubernetes.io/docs/concepts/containers/images/#imagepullbackoff>
const IMAGE_TROUBLE: [&str; 6] = [
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "ImagePullBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
];

/// Lower-case fragments of registry errors that mean "access denied". Retrying does not help.
const REFUSALS: [&str; 5] = [
    "unauthorized",
    "forbidden",
    "denied",
    "authorization failed",
    "no basic auth credentials",
];
/// The same where there is none of that name.
const ABSENCES: [&str; 2] = ["not found", "manifest unknown"];

pub(super) fn pod(pod: &Pod) -> State {
    let Some(status) = &pod.status else {
        return State::Coming("no status yet".into());
    };
    let conditions = status.conditions.as_deref().unwrap_or_default();
    if condition(conditions, "Ready").is_some_and(|ready| ready.status == "True") {
        return State::Ready;
    }
    if let Some(scheduled) = condition(conditions, "PodScheduled")
        && scheduled.status == "False"
        && scheduled.reason.as_deref() == Some("Unschedulable")
    {
        return State::Unschedulable(scheduled.message.clone().unwrap_or_default());
    }
    if status.phase.as_deref() == Some("Failed") {
        let reason = status
            .message
            .as_deref()
            .or(status.reason.as_deref())
            .unwrap_or("no reason given");
        return State::Broken(Trouble {
            cause: format!("pod failed: {reason}"),
            container: None,
            hint: None,
        });
    }
    let containers = || container_statuses(pod);
    let secrets = pod.spec.iter().flat_map(|spec| &spec.image_pull_secrets);
    let has_credentials = secrets.flatten().next().is_some();
    if let Some(trouble) = containers().find_map(|container| trouble(container, has_credentials)) {
        return State::Broken(trouble);
    }
    match containers().find(|container| !container.ready) {
        Some(container) => State::Coming(format!(
            "container {} is {}",
            container.name,
            describe(container)
        )),
        None => State::Coming(format!(
            "phase {}",
            status.phase.as_deref().unwrap_or("unknown")
        )),
    }
}

fn condition<'a>(conditions: &'a [PodCondition], kind: &str) -> Option<&'a PodCondition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Lower-case fragments of a node's errors if it cannot run an image's programs, or the image has
/// none for it.
const OTHER_PROCESSOR: [&str; 2] = ["exec format error", "no match for platform"];

/// The containers that have ended by themselves, and whose logs may say why.
pub(super) fn ended(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    container_statuses(pod).filter(|container| {
        [&container.state, &container.last_state]
            .into_iter()
            .flatten()
            .filter_map(|state| state.terminated.as_ref())
            .any(|ended| ended.exit_code != 0)
    })
}

/// The trouble of a container whose image is for another processor than the node's, where its status or log says so.
pub(super) fn misfit(container: &ContainerStatus, words: &str) -> Option<Trouble> {
    says(words, &OTHER_PROCESSOR).then(|| Trouble {
        cause: format!(
            "container {}: the image `{}` is for another processor than its node: {}",
            container.name,
            container.image,
            words.trim().lines().last().unwrap_or_default()
        ),
        container: None,
        hint: Some(
            "`kubectl get nodes -L kubernetes.io/arch` shows what the nodes are; build the image on such a machine (`cargo xtask image`), \
             or name one that has that architecture"
                .into(),
        ),
    })
}

/// All messages in a container's status.
fn words(container: &ContainerStatus) -> impl Iterator<Item = &str> {
    let states = [&container.state, &container.last_state];
    states.into_iter().flatten().flat_map(|state| {
        let waiting = state.waiting.as_ref().and_then(|it| it.message.as_deref());
        let ended = state.terminated.as_ref();
        waiting
            .into_iter()
            .chain(ended.and_then(|it| it.message.as_deref()))
    })
}

fn trouble(container: &ContainerStatus, has_credentials: bool) -> Option<Trouble> {
    if let Some(misfit) = words(container).find_map(|words| misfit(container, words)) {
        return Some(misfit);
    }
    let waiting = container
        .state
        .as_ref()
        .and_then(|state| state.waiting.as_ref());
    let reason = waiting
        .and_then(|waiting| waiting.reason.as_deref())
        .unwrap_or_default();
    let message = waiting
        .and_then(|waiting| waiting.message.as_deref())
        .unwrap_or("no message");
    // The first failure has the registry's words everywhere; the waits between the next ones since Kubernetes 1.32 only.
    let is_final =
        reason == "ErrImagePull" && (says(message, &REFUSALS) || says(message, &ABSENCES));
    if is_final || IMAGE_TROUBLE.contains(&reason) {
        let is_pull = ["ErrImagePull", "ImagePullBackOff"].contains(&reason);
        return Some(Trouble {
            cause: format!("container {}: {reason}: {message}", container.name),
            container: None,
            hint: is_pull.then(|| pull_hint(&container.image, message, has_credentials)),
        });
    }
    let last = container
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    // Restarts of the node are counted too; they leave no exit status, or one with an unknown
    // reason.
    let by_itself = last.is_some_and(|last| last.reason.as_deref() != Some("Unknown"));
    if reason == "CrashLoopBackOff"
        || (by_itself && container.restart_count >= RESTARTS_THAT_ARE_A_CRASH_LOOP)
    {
        let exit = last.map_or_else(
            || "unknown exit code".into(),
            |last| format!("exit code {}", last.exit_code),
        );
        return Some(Trouble {
            cause: format!(
                "container {} crashed {} times, last with {exit}",
                container.name,
                container.restart_count.max(1)
            ),
            container: Some(container.name.clone()),
            hint: None,
        });
    }
    None
}

fn says(message: &str, words: &[&str]) -> bool {
    let message = message.to_lowercase();
    words.iter().any(|word| message.contains(word))
}

/// What to do about an image that a node cannot pull.
fn pull_hint(image: &str, message: &str, has_credentials: bool) -> String {
    match (says(message, &REFUSALS), says(message, &ABSENCES)) {
        (true, _) if has_credentials => format!(
            "the registry does not take the pods' credentials: see that those of `--pull-secret` are valid, and may read `{image}`"
        ),
        (true, _) => format!(
            "`--pull-secret FILE` gives the nodes credentials for the registry; see, too, that `{image}` was pushed"
        ),
        (false, true) => format!(
            "`docker push {image}` brings it there; `--image` and `--envoy-image` name what is"
        ),
        (false, false) => format!(
            "the nodes must reach the registry of `{image}`, and trust it; `kubectl describe pod` shows each try"
        ),
    }
}

fn describe(container: &ContainerStatus) -> String {
    let state = container.state.as_ref();
    if let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) {
        return waiting.reason.clone().unwrap_or_else(|| "waiting".into());
    }
    match state.map(|state| (state.running.is_some(), state.terminated.is_some())) {
        Some((true, _)) => "running, not ready".into(),
        Some((_, true)) => "ended".into(),
        _ => "not started".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state_of(status: serde_json::Value) -> State {
        pod(&serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap())
    }

    #[test]
    fn a_ready_pod_is_ready() {
        assert_eq!(
            state_of(json!({ "conditions": [{ "type": "Ready", "status": "True" }] })),
            State::Ready
        );
    }

    #[test]
    fn the_schedulers_words_are_kept() {
        let seen = state_of(
            json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available: 2 Insufficient memory." }] }),
        );
        assert_eq!(
            seen,
            State::Unschedulable("0/2 nodes are available: 2 Insufficient memory.".into())
        );
    }

    #[test]
    fn a_missing_image_is_broken_at_once() {
        let seen = state_of(
            json!({ "initContainerStatuses": [{ "name": "wosp", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "ErrImageNeverPull", "message": "Container image \"x\" is not present" } } }] }),
        );
        assert_eq!(
            seen,
            State::Broken(Trouble {
                cause: "container wosp: ErrImageNeverPull: Container image \"x\" is not present"
                    .into(),
                container: None,
                hint: None,
            })
        );
    }

    #[test]
    fn image_of_other_architecture_is_named() {
        let status = |state: serde_json::Value| {
            json!({ "initContainerStatuses": [{ "name": "wosp", "image": "r.example/x:1", "imageID": "", "ready": false,
                "restartCount": 0, "state": state }] })
        };
        for state in [
            json!({ "terminated": { "exitCode": 128, "reason": "StartError",
                "message": "failed to create containerd task: runc create failed: exec /wosp: exec format error" } }),
            json!({ "waiting": { "reason": "RunContainerError", "message": "exec /wosp: Exec format error" } }),
            json!({ "waiting": { "reason": "ErrImagePull",
                "message": "failed to pull: no match for platform in manifest: not found" } }),
        ] {
            let State::Broken(trouble) = state_of(status(state.clone())) else {
                panic!("{state} will not heal");
            };
            assert!(
                trouble
                    .cause
                    .contains("`r.example/x:1` is for another processor"),
                "{trouble:?}"
            );
            assert!(trouble.hint.unwrap().contains("kubernetes.io/arch"));
        }
    }

    #[test]
    fn a_container_that_ended_has_a_log_to_look_at() {
        let status = json!({ "containerStatuses": [
            { "name": "app", "image": "x", "imageID": "", "ready": false, "restartCount": 1,
              "state": { "running": {} }, "lastState": { "terminated": { "exitCode": 1 } } },
            { "name": "done", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
              "state": { "terminated": { "exitCode": 0 } } },
        ] });
        let one: Pod = serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap();
        let names: Vec<_> = ended(&one)
            .map(|container| container.name.as_str())
            .collect();
        assert_eq!(names, ["app"]);
        let first = ended(&one).next().unwrap();
        assert!(misfit(first, "exec /app: exec format error\n").is_some());
        assert_eq!(misfit(first, "panicked"), None);
    }

    /// The messages are what containerd 2.2 made of a registry's answers.
    #[test]
    fn unpullable_image_has_hint() {
        let no_basic_auth = "failed to pull and unpack image \"r.example/x:1\": failed to resolve image: pull access denied, repository \
            does not exist or may require authorization: authorization failed: no basic auth credentials";
        let unauthorized = "failed to resolve image: unexpected status from HEAD request to https://r.example/v2/x/manifests/1: 401 Unauthorized";
        let absent = "failed to resolve image: r.example/x:1: not found";
        let unreachable = "failed to do request: Head \"https://r.example/v2/x/manifests/1\": dial tcp: lookup r.example: no such host";
        let state = |reason: &str, message: &str, secrets: serde_json::Value| {
            let status = json!({ "initContainerStatuses": [{ "name": "wosp", "image": "r.example/x:1", "imageID": "", "ready": false,
                "restartCount": 0, "state": { "waiting": { "reason": reason, "message": message } } }] });
            let spec = json!({ "containers": [], "imagePullSecrets": secrets });
            let one = json!({ "metadata": {}, "spec": spec, "status": status });
            pod(&serde_json::from_value(one).unwrap())
        };
        let (none, one) = (json!([]), json!([{ "name": "registry" }]));
        for (message, secrets, hint) in [
            (no_basic_auth, &none, "`--pull-secret FILE` gives"),
            (unauthorized, &one, "those of `--pull-secret` are valid"),
            (absent, &one, "`docker push r.example/x:1` brings it there"),
            (
                unreachable,
                &none,
                "must reach the registry of `r.example/x:1`",
            ),
        ] {
            let State::Broken(trouble) = state("ImagePullBackOff", message, secrets.clone()) else {
                panic!("a wait for another try must be broken: {message}")
            };
            assert!(trouble.cause.ends_with(message), "{trouble:?}");
            let failure = trouble.failure("cluster-a: pod x/y");
            let next = failure.next_step().unwrap();
            assert!(next.contains(hint), "{message}: {next}");
            let first = state("ErrImagePull", message, secrets.clone());
            assert_eq!(
                matches!(first, State::Broken(_)),
                message != unreachable,
                "{first:?}"
            );
        }
    }

    #[test]
    fn one_restart_is_forgiven_and_a_loop_is_not() {
        let container = |restarts, reason| {
            json!({ "containerStatuses": [{ "name": "app", "image": "", "imageID": "", "ready": false, "restartCount": restarts,
            "state": { "waiting": { "reason": reason } }, "lastState": { "terminated": { "exitCode": 2 } } }] })
        };
        assert_eq!(
            state_of(container(1, "PodInitializing")),
            State::Coming("container app is PodInitializing".into())
        );
        let State::Broken(trouble) = state_of(container(1, "CrashLoopBackOff")) else {
            panic!("a crash loop must be broken")
        };
        assert_eq!(
            trouble,
            Trouble {
                cause: "container app crashed 1 times, last with exit code 2".into(),
                container: Some("app".into()),
                hint: None,
            }
        );
    }

    #[test]
    fn restarts_of_the_node_are_no_crash_loop() {
        for last in [
            json!({}),
            json!({ "terminated": { "exitCode": 255, "reason": "Unknown" } }),
        ] {
            let seen = state_of(
                json!({ "containerStatuses": [{ "name": "app", "image": "", "imageID": "", "ready": false, "restartCount": 9,
                "state": { "running": {} }, "lastState": last }] }),
            );
            assert!(matches!(seen, State::Coming(_)), "{seen:?}");
        }
    }
}
