//! Both blueprints on two real clusters: what only a Kubernetes API, a Docker network and a stranger can tell.
//!
//! Runs with `FERRY_TEST_K3D=1`, since it needs Docker, `k3d`, some GB of memory and a quarter of an hour. One environment is made
//! for all checks, which run one after the other, so that each failure is seen, and is removed whatever they come to.

#![allow(clippy::unwrap_used)]

mod attached;
mod broken;
mod images;
mod live;
mod manifests;
mod names;
mod nodes;
mod policies;
mod scene;
mod stranger;
mod targets;

use std::{panic::AssertUnwindSafe, pin::Pin, time::Instant};

use e2e::testing::{LASTING_IDENTITIES, show};
use futures_util::FutureExt as _;
use scene::Scene;

type Check<'a> = (
    &'static str,
    Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>,
);

/// In this order: the first ones need an environment that nothing else has been done to. `kept` is whether policies are.
fn checks<'a>(
    scene: &'a Scene,
    kept: impl Future<Output = policies::Kept> + Clone + 'a,
) -> Vec<Check<'a>> {
    vec![
        (
            "trails name live pods of the right clusters",
            Box::pin(live::trails(scene)),
        ),
        (
            "a sink is ready and dialled before its gateway's objects are there",
            Box::pin(live::order(scene)),
        ),
        (
            "the API server takes every rendered manifest",
            Box::pin(manifests::dry_run(scene)),
        ),
        (
            "the API server takes what every target is told",
            Box::pin(targets::dry_run(scene)),
        ),
        (
            "the API server takes every name that a blueprint may have",
            Box::pin(names::dry_run(scene)),
        ),
        (
            "the API server refuses a pod that is not restricted",
            Box::pin(manifests::pod_security(scene)),
        ),
        (
            "the image holds our programs and what they are linked with",
            Box::pin(images::content(scene)),
        ),
        (
            "the network lets in the tunnel, and metrics to who may read them",
            Box::pin(policies::ingress(scene, kept.clone())),
        ),
        (
            "the network lets a gateway out to its sink alone",
            Box::pin(policies::egress(scene, kept)),
        ),
        (
            "a stranger gets /health and nothing else",
            Box::pin(stranger::refused(scene)),
        ),
        (
            "the blueprints' own tests pass on it",
            Box::pin(attached::tests(scene, "international_ferry::")),
        ),
        (
            "a trail is evidence on it",
            Box::pin(attached::tests(scene, "trail::")),
        ),
        (
            "attackers are refused by it",
            Box::pin(attached::tests(scene, "attackers::")),
        ),
        (
            "a thief gets no further on it than with the Secret that was stolen",
            Box::pin(attached::tests(scene, "thief::")),
        ),
        (
            "its pinholes are for the bearers of their tokens",
            Box::pin(attached::tests(scene, "pinhole::")),
        ),
        (
            "authorities and roots are replaced under traffic on it",
            Box::pin(attached::tests(scene, "identity::")),
        ),
        (
            "identities and sessions are replaced under traffic on it",
            Box::pin(attached::tests(scene, "rotation::")),
        ),
        (
            "a pod whose agent hangs works on, warns, takes no session, and heals on it",
            Box::pin(attached::tests_with(
                scene,
                &LASTING_IDENTITIES,
                "rotation_faults::",
            )),
        ),
        (
            "what will not heal is reported with its cause",
            Box::pin(broken::deployments(scene)),
        ),
        (
            "a port conflict is reported with its holder",
            Box::pin(broken::port_conflict(scene)),
        ),
        (
            "a wrong image on one node is caught",
            Box::pin(nodes::wrong_image(scene)),
        ),
    ]
}

#[tokio::test]
async fn two_real_clusters() {
    if std::env::var_os("FERRY_TEST_K3D").is_none_or(|value| value != "1") {
        show("two_real_clusters: NOT RUN, it needs Docker and k3d; set FERRY_TEST_K3D=1");
        return;
    }
    let users_files = scene::users_files();
    let mut failures = vec![];
    let began = Instant::now();
    let mut run = scene::run();
    let remains = match scene::up(&mut run).await {
        Ok(scene) => {
            show(&format!("up: {:.1?}\n{}", began.elapsed(), scene.steps()));
            failures.extend(run_checks(&scene).await);
            Some(scene.remains().await)
        }
        Err(error) => {
            failures.push(format!("up: {error:#}"));
            None
        }
    };
    let began = Instant::now();
    if let Err(error) = run.end(e2e::runtime::State::Remove).await {
        failures.push(format!("down: {error:#}"));
    }
    show(&format!("down: {:.1?}", began.elapsed()));
    if let Some(remains) = remains {
        failures.extend(remains.left().await);
    }
    if scene::users_files() != users_files {
        failures.push("the user's kubeconfig must be byte for byte what it was".into());
    }
    assert!(
        failures.is_empty(),
        "{} failed:\n{}",
        failures.len(),
        failures.join("\n\n")
    );
}

async fn run_checks(scene: &Scene) -> Vec<String> {
    let kept = policies::kept(scene).boxed_local().shared();
    let one_by_one = run_all(checks(scene, kept.clone()));
    let (_, failures) = tokio::join!(kept, one_by_one);
    failures
}

async fn run_all(checks: Vec<Check<'_>>) -> Vec<String> {
    let mut failures = vec![];
    for (name, check) in checks {
        let began = Instant::now();
        let outcome = match AssertUnwindSafe(check).catch_unwind().await {
            Ok(Ok(())) => "ok".to_owned(),
            Ok(Err(error)) => format!("FAILED: {error:#}"),
            Err(panic) => format!("FAILED: {}", said(panic.as_ref())),
        };
        show(&format!("{name}: {outcome} ({:.1?})", began.elapsed()));
        if outcome != "ok" {
            failures.push(format!("{name}: {outcome}"));
        }
    }
    failures
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("panicked")
}
