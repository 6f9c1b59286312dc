//! Clusters, images and their clean-up on a real Docker engine.

use std::{
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use blueprint::failure::Failure;
use cluster::{
    image,
    k3d::{Cluster, ClusterSpec, Clusters, HostPort, PortMapping, cluster_name},
};
use host::{
    binaries::{self, Profile},
    docker,
    environment::Name,
    process::{self, CommandLine},
    timeline::Timeline,
    wait::{Seen, Wait},
};

use crate::{
    guard::Guard,
    hand::{AT_ONCE, CLUSTERS},
};

/// A state folder with its clusters, which are deleted whatever the test does.
struct Scene {
    folder: tempfile::TempDir,
    name: String,
    clusters: Clusters,
    timeline: Timeline,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = Name::unique("test").unwrap().to_string();
        let clusters = Clusters::new(&name, &folder.path().canonicalize().unwrap());
        Self {
            folder,
            name,
            clusters,
            timeline: Timeline::default(),
        }
    }

    fn spec(&self, cluster: &str, host: HostPort) -> ClusterSpec {
        ClusterSpec {
            name: cluster_name(&self.name, cluster),
            ports: vec![PortMapping {
                host,
                service: 30_200,
            }],
        }
    }

    /// Runs the body, then deletes the clusters and checks that nothing is left, then passes on what
    /// the body came to.
    async fn run<F>(self, body: impl FnOnce(Arc<Self>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let names =
            ["cluster-a", "cluster-b", "a"].map(|cluster| cluster_name(&self.name, cluster));
        let guard = Guard::of(&names, None).unwrap();
        let scene = Arc::new(self);
        let result = tokio::spawn(body(scene.clone())).await;
        let began = Instant::now();
        scene.clusters.down(&scene.timeline).await.unwrap();
        let took = began.elapsed();
        scene.assert_nothing_left().await;
        guard.end().await.unwrap();
        let said = format!("{:#?}\ndown took {took:.1?}\n", scene.timeline.entries());
        std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes()).unwrap();
        if let Err(error) = result {
            std::panic::resume_unwind(error.into_panic());
        }
    }

    async fn assert_nothing_left(&self) {
        let mine = |name: &String| name.contains(&self.name);
        let containers = docker::containers(&["app=k3d".into()]).await.unwrap();
        let containers = containers.into_iter().map(|container| container.name);
        let networks = docker::networks()
            .await
            .unwrap()
            .into_iter()
            .map(|network| network.name);
        let volumes = docker::volumes().await.unwrap();
        let left: Vec<_> = containers
            .chain(networks)
            .chain(volumes)
            .filter(mine)
            .collect();
        assert!(
            left.is_empty(),
            "nothing must be left, but there is {left:?}"
        );
        let files: Vec<_> = std::fs::read_dir(self.folder.path()).unwrap().collect();
        assert!(
            files.is_empty(),
            "no file must be left, but there is {files:?}"
        );
    }
}

/// What the user's own kubeconfig and k3d's folder hold.
fn users_files() -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap());
    let mut seen = vec![(
        home.join(".kube/config"),
        std::fs::read(home.join(".kube/config")).ok(),
    )];
    let entries = std::fs::read_dir(home.join(".config/k3d"))
        .into_iter()
        .flatten()
        .flatten();
    seen.extend(entries.map(|entry| (entry.path(), std::fs::read(entry.path()).ok())));
    seen
}

async fn volumes_of(cluster: &Cluster) -> Vec<String> {
    let nodes = docker::containers(&[format!("k3d.cluster={}", cluster.name)])
        .await
        .unwrap();
    nodes.into_iter().flat_map(|node| node.volumes).collect()
}

async fn ctr(node: &str, args: &[&str]) {
    let args = [&["ctr", "--namespace", "k8s.io", "images"], args].concat();
    let done = docker::exec(node, &args, Duration::from_secs(30))
        .await
        .unwrap();
    assert!(done.status.success(), "{}", done.tail(5));
}

fn assert_infrastructure(error: &anyhow::Error, parts: &[&str]) {
    let text = format!("{error:#}");
    for part in parts {
        assert!(text.contains(part), "`{part}` must be in: {text}");
    }
    assert_eq!(Failure::exit_code(error), 3, "{text}");
    assert!(Failure::of(error).unwrap().next_step().is_some(), "{text}");
}

#[tokio::test]
#[ignore = "needs k3d: .ci/k3d"]
async fn clusters_get_images_and_leave_nothing() {
    let _turn = CLUSTERS.take_many(AT_ONCE).await.unwrap();
    let before = users_files();
    let volumes_before = docker::volumes().await.unwrap();
    Scene::new()
        .run(async |scene: Arc<Scene>| {
            let specs = ["cluster-a", "cluster-b"].map(|name| scene.spec(name, HostPort::Free));
            let binaries = binaries::binaries(Profile::Dev, &scene.timeline)
                .await
                .unwrap();
            let images = [
                image::services(&binaries, &scene.timeline).await.unwrap(),
                image::envoy(&scene.timeline).await.unwrap(),
            ];
            let nodes: Vec<_> = specs.iter().flat_map(ClusterSpec::nodes).collect();
            let (clusters, ()) = tokio::join!(
                scene.clusters.up(&specs, &scene.timeline),
                image::preload(&images, &nodes, &scene.timeline)
            );
            let clusters = clusters.unwrap();
            assert_ne!(clusters[0].ports, clusters[1].ports);
            assert_files(&scene, &clusters);
            assert!(!volumes_of(&clusters[0]).await.is_empty());

            let running: Vec<_> = clusters
                .iter()
                .flat_map(|cluster| cluster.nodes.clone())
                .collect();
            assert_eq!(running, nodes);
            assert_images(&images, &nodes, &scene.timeline).await;
            assert_kept(&scene, &specs, &clusters).await;
            assert_foreign(&clusters[0]).await;
        })
        .await;
    assert_eq!(
        users_files(),
        before,
        "the user's files must be what they were"
    );
    let left: Vec<_> = docker::volumes().await.unwrap();
    let left: Vec<_> = left
        .iter()
        .filter(|volume| !volumes_before.contains(volume))
        .collect();
    assert!(
        left.is_empty(),
        "no volume must be left, but there is {left:?}"
    );
}

fn assert_files(scene: &Scene, clusters: &[Cluster]) {
    let merged = scene.clusters.kubeconfig();
    for path in clusters
        .iter()
        .map(|cluster| &cluster.kubeconfig)
        .chain([&merged])
    {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let text = std::fs::read_to_string(merged).unwrap();
    for cluster in clusters {
        assert!(text.contains(&cluster.context()));
    }
}

async fn assert_images(images: &[String], nodes: &[String], timeline: &Timeline) {
    image::import(images, nodes, timeline).await.unwrap();
    image::verify(images, nodes).await.unwrap();

    // The second time there is nothing to send, so there is no step.
    let steps = timeline.entries().len();
    image::import(images, nodes, timeline).await.unwrap();
    assert_eq!(timeline.entries().len(), steps);

    // A wrong image under the right name, on one node of four.
    let (own, envoy) = (
        format!("docker.io/{}", images[0]),
        format!("docker.io/{}", images[1]),
    );
    ctr(&nodes[2], &["tag", "--force", &envoy, &own]).await;
    let error = image::verify(images, nodes).await.unwrap_err();
    let local = docker::image(&images[0]).await.unwrap().unwrap().id;
    let wrong = docker::image(&images[1]).await.unwrap().unwrap().id;
    assert_infrastructure(&error, &[&nodes[2], &images[0], &local, &wrong]);
    for node in [&nodes[0], &nodes[1], &nodes[3]] {
        assert!(!format!("{error:#}").contains(node.as_str()), "{error:#}");
    }
    image::import(images, nodes, timeline).await.unwrap();
    image::verify(images, nodes).await.unwrap();
}

/// Taken as it is while it runs, and started where a node of it is stopped.
async fn assert_kept(scene: &Scene, specs: &[ClusterSpec], clusters: &[Cluster]) {
    let began = Instant::now();
    let again = scene.clusters.up(specs, &scene.timeline).await.unwrap();
    let took = began.elapsed();
    let said = format!("up again took {took:.1?}\n");
    std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes()).unwrap();
    let ports = |clusters: &[Cluster]| {
        clusters
            .iter()
            .map(|cluster| cluster.ports.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(ports(&again), ports(clusters));
    process::run(&CommandLine::new("docker").args(["stop", "--time=1", &clusters[1].nodes[1]]))
        .await
        .unwrap();
    scene.clusters.up(specs, &scene.timeline).await.unwrap();
    let nodes = docker::containers(&[format!("k3d.cluster={}", clusters[1].name)])
        .await
        .unwrap();
    assert!(nodes.iter().all(docker::Container::is_running), "{nodes:?}");
}

/// Somebody else asks for the same name.
async fn assert_foreign(cluster: &Cluster) {
    let folder = tempfile::tempdir().unwrap();
    let other = Clusters::new("other", folder.path());
    let spec = ClusterSpec {
        name: cluster.name.clone(),
        ports: vec![],
    };
    let error = other.up(&[spec], &Timeline::default()).await.unwrap_err();
    assert_infrastructure(&error, &[&cluster.name, "belongs to the environment"]);
    other.down(&Timeline::default()).await.unwrap();
    assert!(
        other.delete(&cluster.name).await.is_err(),
        "a cluster of somebody else must not be deleted"
    );
    let nodes = docker::containers(&[format!("k3d.cluster={}", cluster.name)])
        .await
        .unwrap();
    assert_eq!(nodes.iter().filter(|node| node.is_running()).count(), 3);
}

#[tokio::test]
#[ignore = "needs k3d: .ci/k3d"]
async fn taken_port_is_reported_with_holder() {
    let _turn = CLUSTERS.take().await.unwrap();
    Scene::new()
        .run(async |scene: Arc<Scene>| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let spec = scene.spec("a", HostPort::Fixed(port));
            let error = scene
                .clusters
                .up(&[spec], &scene.timeline)
                .await
                .unwrap_err();
            let holder = format!("process {}", std::process::id());
            assert_infrastructure(
                &error,
                &[&format!("host port {port} is in use by"), &holder],
            );
        })
        .await;
}

#[tokio::test]
#[ignore = "needs k3d: .ci/k3d"]
async fn failed_creation_reports_node_log() {
    let _turn = CLUSTERS.take().await.unwrap();
    Scene::new()
        .run(async |scene: Arc<Scene>| {
            // An image with programs, but not with k3s.
            let binaries = binaries::binaries(Profile::Dev, &scene.timeline)
                .await
                .unwrap();
            let image = image::services(&binaries, &scene.timeline).await.unwrap();
            let clusters = scene.clusters.clone().with_image(image);
            let spec = scene.spec("a", HostPort::Free);
            let error = clusters
                .up(std::slice::from_ref(&spec), &scene.timeline)
                .await
                .unwrap_err();
            assert_infrastructure(
                &error,
                &[&format!("cluster `{}` cannot be created", spec.name)],
            );
            assert!(!error.to_string().lines().next().unwrap().contains('\u{1b}'));
            let said = format!("{error:#}\n");
            std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes()).unwrap();
            let tried = scene.timeline.entries();
            // The services may have been built meanwhile, which has a last line too.
            let mut last = tried.iter().filter_map(|entry| entry.last.as_deref());
            assert!(
                last.any(|last| last.starts_with("trying again:")),
                "{tried:#?}"
            );
        })
        .await;
}

/// Cuts a creation off as soon as something of the cluster is there whose name ends with `trace`.
async fn kill_creation_at(trace: &'static str) {
    Scene::new()
        .run(async move |scene: Arc<Scene>| {
            let spec = scene.spec("a", HostPort::Free);
            let wanted = format!("{}{trace}", spec.name);
            // Dropping the future kills k3d.
            let up = scene
                .clusters
                .up(std::slice::from_ref(&spec), &scene.timeline);
            let begun = Wait::until(format!("`{wanted}`"))
                .looking_every(Duration::from_millis(20))
                .poll(|| async {
                    let networks = docker::networks()
                        .await?
                        .into_iter()
                        .map(|network| network.name);
                    let containers = docker::containers(&["app=k3d".into()]).await?;
                    let mut names =
                        networks.chain(containers.into_iter().map(|container| container.name));
                    Ok(match names.any(|name| name.ends_with(&wanted)) {
                        true => Seen::Ready(()),
                        false => Seen::Waiting("nothing of it".into()),
                    })
                });
            tokio::select! {
                done = up => panic!("the creation ended before it could be killed: {done:?}"),
                begun = begun => begun.unwrap(),
            }
            assert_eq!(scene.clusters.names().await.unwrap(), [spec.name]);
        })
        .await;
}

#[tokio::test]
#[ignore = "needs k3d: .ci/k3d"]
async fn killed_creation_leaves_nothing() {
    let _turn = CLUSTERS.take().await.unwrap();
    for trace in ["", "-tools", "-server-0", "-serverlb"] {
        kill_creation_at(trace).await;
    }
}

#[tokio::test]
#[ignore = "needs k3d: .ci/k3d"]
async fn service_image_is_built_once_and_runs() {
    let timeline = Timeline::default();
    let binaries = binaries::binaries(Profile::Dev, &timeline).await.unwrap();
    let first = image::services(&binaries, &timeline).await.unwrap();
    let steps = timeline.entries().len();
    let began = Instant::now();
    assert_eq!(image::services(&binaries, &timeline).await.unwrap(), first);
    let took = began.elapsed();
    assert_eq!(
        timeline.entries().len(),
        steps,
        "nothing must be built a second time"
    );
    let said = format!(
        "finding that nothing changed took {took:.1?}\n{:#?}\n",
        timeline.entries()
    );
    std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes()).unwrap();
    for program in ["/gateway", "/processor", "/sink", "/wosp", "/probe"] {
        let line = CommandLine::new("docker").args([
            "run",
            "--rm",
            "--network=none",
            "--read-only",
            &first,
            program,
        ]);
        let done = process::output(&line).await.unwrap();
        // Without settings a program ends with 2 and says what is missing; that it can say so shows that it runs.
        let said = format!("{}{}", done.stdout, done.stderr);
        assert_eq!(done.status.code(), Some(2), "{program}: {said}");
        assert!(!said.is_empty(), "{program} must say what is missing");
    }
}
