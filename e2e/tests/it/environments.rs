//! The life of environments on this machine: up, faults, down, and what killed commands leave.

use std::collections::BTreeMap;

use blueprint::{Blueprint, container::Container, failure::Failure, plan::Ports};
use harness::{
    ops::{
        faults, lifecycle,
        sweep::{self, Condition},
    },
    runtime::{
        self,
        request::{Ending, Lifetime, OnFailure, PublicAddress, State, UpRequest},
    },
};
use host::{
    binaries::Profile,
    environment::{Environment, RuntimeKind, Store, workspace_root},
    http::Request,
    manifests,
    pods::{Liveness, Readiness},
    process::{self, ProcessId, processes_under},
    timeline::Timeline,
};
use messages::WorkloadName;

fn request(name: &str, blueprints: &[&str], lifetime: Lifetime) -> UpRequest {
    let names: Vec<_> = blueprints.iter().map(|name| (*name).to_owned()).collect();
    let blueprints: Vec<Blueprint> =
        manifests::select(&workspace_root().unwrap().join("manifests"), &names).unwrap();
    UpRequest {
        name: name.parse().unwrap(),
        runtime: RuntimeKind::Embedded,
        blueprints,
        ports: Ports::Spread,
        public: PublicAddress::OwnNetwork,
        lifetime,
        on_failure: OnFailure::Remove,
        settings: BTreeMap::new(),
        existing: None,
        profile: Profile::Dev,
    }
}

async fn up(store: &Store, request: UpRequest) -> anyhow::Result<Environment> {
    lifecycle::up(store, request, &Timeline::default()).await
}

async fn down(store: &Store, environment: &Environment) {
    let timeline = Timeline::default();
    lifecycle::down(store, environment.name(), State::Remove, &timeline)
        .await
        .unwrap();
}

async fn assert_all_ready(environment: &Environment) {
    for state in lifecycle::status(environment).await.unwrap() {
        let name = &state.name;
        assert_eq!(state.readiness, Readiness::Ready, "{name} must be ready");
        let address = state.local_address.unwrap();
        let health = Request::get(&address, "/health").send().await.unwrap();
        assert_eq!(health.status, 200, "{name} must answer at {address}");
    }
}

#[track_caller]
fn assert_nothing_left(store: &Store) {
    let entries = std::fs::read_dir(store.root()).unwrap().flatten();
    let left: Vec<_> = entries.map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "no file must be left: {left:?}");
    let running = processes_under(store.root()).unwrap();
    assert!(running.is_empty(), "no process must be left: {running:?}");
}

#[tokio::test]
async fn two_blueprints_share_environment_and_vanish() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path());
    let both = ["fast-international-ferry", "international-ferry"];
    let environment = up(&store, request("both", &both, Lifetime::Stays))
        .await
        .unwrap();

    let found = store.load(environment.name()).unwrap();
    assert_eq!(sweep::condition(&found.record).unwrap(), Condition::Stays);
    assert_eq!(
        runtime::of(found.record.runtime)
            .pods()
            .live_pods(&found)
            .await
            .unwrap()
            .len(),
        4
    );
    assert_all_ready(&found).await;

    let again = up(&store, request("both", &both, Lifetime::Stays))
        .await
        .unwrap_err();
    assert_eq!(Failure::exit_code(&again), 2, "{again:#}");
    let swept = sweep::sweep(&store, &Timeline::default()).await.unwrap();
    assert!(swept.is_empty(), "{swept:?}");
    assert_all_ready(&found).await;

    down(&store, &environment).await;
    assert_nothing_left(&store);
}

#[tokio::test]
async fn environments_side_by_side_do_not_meet() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path());
    let one = |name| {
        up(
            &store,
            request(name, &["international-ferry"], Lifetime::Command),
        )
    };
    let (first, second) = tokio::join!(one("first"), one("second"));
    let (first, second) = (first.unwrap(), second.unwrap());
    for pod in &first.record.pods {
        let other = second.record.pod(&pod.name).unwrap();
        assert_ne!(pod.peer_address, other.peer_address);
        assert_ne!(pod.pod_name, other.pod_name);
    }
    down(&store, &first).await;
    assert_all_ready(&second).await;
    down(&store, &second).await;
    assert_nothing_left(&store);
}

async fn app_of(environment: &Environment, pod: &WorkloadName) -> Liveness {
    let states = lifecycle::status(environment).await.unwrap();
    let state = states.into_iter().find(|state| state.name == *pod).unwrap();
    let mut containers = state.containers.into_iter();
    containers
        .find(|state| state.container == Container::App)
        .unwrap()
        .state
}

#[tokio::test]
async fn crash_differs_from_stop_and_start_heals_both() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path());
    let quiet = Timeline::default();
    let mut environment = up(
        &store,
        request("faults", &["international-ferry"], Lifetime::Command),
    )
    .await
    .unwrap();
    let sink = environment.record.pods[0].name.clone();
    let app = Container::App;

    faults::stop_container(
        &store,
        &mut environment,
        &sink,
        app,
        Ending::Graceful,
        &quiet,
    )
    .await
    .unwrap();
    assert_eq!(app_of(&environment, &sink).await, Liveness::Stopped);
    faults::start_container(&store, &mut environment, &sink, app, &quiet)
        .await
        .unwrap();
    runtime::of(environment.record.runtime)
        .pods()
        .wait_ready(&environment, &sink, &quiet)
        .await
        .unwrap();
    assert_eq!(app_of(&environment, &sink).await, Liveness::Running);

    let mut processes = environment.record.pods[0].processes.iter();
    let process = processes.find(|process| process.container == app.as_str());
    process::kill(&[process.unwrap().id]).await.unwrap();
    let seen = app_of(&environment, &sink).await;
    assert!(
        matches!(&seen, Liveness::Crashed { log_tail } if !log_tail.is_empty()),
        "{seen:?}"
    );
    let error = runtime::of(environment.record.runtime)
        .pods()
        .wait_ready(&environment, &sink, &quiet)
        .await
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("app has crashed"),
        "{error:#}"
    );
    faults::start_container(&store, &mut environment, &sink, app, &quiet)
        .await
        .unwrap();
    runtime::of(environment.record.runtime)
        .pods()
        .wait_ready(&environment, &sink, &quiet)
        .await
        .unwrap();

    down(&store, &environment).await;
    assert_nothing_left(&store);
}

#[tokio::test]
async fn leftovers_are_swept_without_record_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path());
    let one = |name, lifetime| {
        up(
            &store,
            request(name, &["fast-international-ferry"], lifetime),
        )
    };
    for name in ["recorded", "unrecorded"] {
        let mut environment = one(name, Lifetime::Command).await.unwrap();
        // Its owner as it looks after its death: the pid is another process's.
        let owner = ProcessId::current().unwrap();
        environment.record.owner = Some(ProcessId {
            start_time: owner.start_time + 1,
            ..owner
        });
        environment.save().unwrap();
        if name == "unrecorded" {
            std::fs::remove_file(environment.layout().record()).unwrap();
        }
    }
    let kept = one("kept", Lifetime::Stays).await.unwrap();

    let swept = sweep::sweep(&store, &Timeline::default()).await.unwrap();
    // Nothing tells any more what the keys of the second are for.
    let folders: Vec<_> = swept.iter().filter_map(|one| one.kept.clone()).collect();
    let [folder] = &folders[..] else {
        panic!("one folder must be kept: {folders:?}");
    };
    assert!(folder.join("identity/root.key").exists());
    std::fs::remove_dir_all(folder).unwrap();
    let swept: Vec<_> = swept
        .iter()
        .map(|one| (one.name.as_str(), one.processes))
        .collect();
    // Three processes for each of two pods, and a load balancer for each of two clusters.
    assert_eq!(swept, [("recorded", 8), ("unrecorded", 8)]);
    assert_all_ready(&kept).await;
    down(&store, &kept).await;
    assert_nothing_left(&store);
}
