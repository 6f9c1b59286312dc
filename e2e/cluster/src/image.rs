//! Images on the nodes: builds or pulls them, streams them to every node, and compares the ids
//! there. An exit status is not taken as proof of arrival.

use std::{collections::BTreeMap, path::Path, time::Duration};

use blueprint::failure::Failure;
use futures_util::future::try_join_all;
use host::{
    binaries::Binaries,
    docker::{self, Load},
    timeline::{Step, Timeline},
    wait::{Seen, Wait},
};
use messages::Role;
use render::ENVOY_IMAGE;

use context::BuildContext;
use node::{Listing, Presence};

pub mod architecture;
mod context;
mod node;

/// Repository of the image with the service binaries; its tag is a hash of the content. The binaries are at
/// `/gateway`, `/processor`, `/sink`, `/wosp` and `/probe`.
pub const REPOSITORY: &str = "ferry/services";

/// Names another Envoy image than [`ENVOY_IMAGE`].
pub const ENVOY_IMAGE_VARIABLE: &str = "FERRY_ENVOY_IMAGE";

/// Label of a built image: the whole hash of its content.
const CONTENT_LABEL: &str = "ferry.content";
/// Characters of the hash in a tag.
const TAG_LENGTH: usize = 12;
/// Built images that are kept besides the current one; each change of a service makes one.
const KEPT: usize = 4;

const BUILD_LIMIT: Duration = Duration::from_secs(300);
const PULL_LIMIT: Duration = Duration::from_secs(600);
/// Two images of about 200 MB took 6 s into one node of a busy machine.
const IMPORT_LIMIT: Duration = Duration::from_secs(240);
/// Time for the kubelet's side of containerd to take note of an image.
const NOTICE_LIMIT: Duration = Duration::from_secs(30);
/// Time for nodes that are being created to run their containerd.
const CREATION_LIMIT: Duration = Duration::from_secs(120);
const LIST_LIMIT: Duration = Duration::from_secs(30);

/// Builds the image with the service binaries, unless one of the same content is there, and returns its name.
pub async fn services(binaries: &Binaries, timeline: &Timeline) -> anyhow::Result<String> {
    build(binaries.all(), timeline).await
}

/// What tells the programs of a pod of this role, with the libraries that they need, from all others: 64 hex digits over
/// their content.
///
/// # Errors
///
/// Where a program cannot be read.
pub async fn content(binaries: &Binaries, role: Role) -> anyhow::Result<String> {
    let programs = [
        (role.as_str(), binaries.app(role)),
        ("wosp", binaries.wosp()),
    ];
    Ok(BuildContext::of(programs).await?.hash().to_owned())
}

/// Gives an image of this machine another name, such as one in a registry.
pub async fn tag(image: &str, name: &str) -> anyhow::Result<()> {
    docker::tag(image, name).await.map_err(|error| {
        error.context(
            Failure::usage(format!("invalid image name `{name}`"))
                .hint("use the form REGISTRY/NAME:TAG"),
        )
    })
}

/// Builds the image with these programs, each at `/<name>`.
async fn build(
    programs: impl IntoIterator<Item = (&str, &Path)>,
    timeline: &Timeline,
) -> anyhow::Result<String> {
    let context = BuildContext::of(programs).await?;
    let reference = format!("{REPOSITORY}:{}", &context.hash()[..TAG_LENGTH]);
    if is_there(&context, &reference).await? {
        return Ok(reference);
    }
    timeline
        .run(format!("build image `{reference}`"), |_| async {
            make(&context, &reference).await
        })
        .await?;
    remove_old(&reference, timeline).await;
    Ok(reference)
}

/// Builds the image, and looks whether the engine has it: a builder with a separate store succeeds
/// and keeps it.
async fn make(context: &BuildContext, reference: &str) -> anyhow::Result<()> {
    let archive = context.archive().await?;
    let build = docker::Build {
        context: &archive,
        tag: reference,
        labels: &[(CONTENT_LABEL, context.hash())],
        architecture: architecture::of_programs(),
        limit: BUILD_LIMIT,
    };
    docker::build(build, false).await?;
    if is_there(context, reference).await? {
        return Ok(());
    }
    let loaded = docker::build(build, true).await;
    if is_there(context, reference).await? {
        return Ok(());
    }
    let why = match loaded {
        Ok(()) => String::new(),
        Err(error) => {
            let said = error.to_string();
            format!(
                "; with `--load`: {}",
                said.lines().last().unwrap_or_default()
            )
        }
    };
    Err(Failure::infrastructure(format!(
        "image `{reference}`: `docker build` succeeded, but the engine does not have the image{why}"
    ))
    .hint(
        "the selected builder has a separate store: run `docker buildx ls` to see it, and \
         `docker buildx use default` to select the engine's",
    )
    .into())
}

/// Whether the engine has the image with this very content.
async fn is_there(context: &BuildContext, reference: &str) -> anyhow::Result<bool> {
    let found = docker::image(reference).await?;
    Ok(found.is_some_and(|image| {
        let hash = image.labels.get(CONTENT_LABEL);
        hash.is_some_and(|hash| hash == context.hash())
    }))
}

/// Removes the images that earlier versions of the services have left. What cannot be removed is no reason to fail.
async fn remove_old(current: &str, timeline: &Timeline) {
    let tags = docker::tags(REPOSITORY).await.unwrap_or_default();
    for old in tags.iter().filter(|tag| *tag != current).skip(KEPT) {
        if let Err(error) = docker::remove_image(old).await {
            timeline.warning(format!("the old image `{old}` stays: {error:#}"));
        }
    }
}

/// Envoy's image: taken as it is where it is on this machine, else pulled. Returns its name.
pub async fn envoy(timeline: &Timeline) -> anyhow::Result<String> {
    let named = std::env::var(ENVOY_IMAGE_VARIABLE)
        .ok()
        .filter(|image| !image.is_empty());
    let image = named.unwrap_or_else(|| ENVOY_IMAGE.into());
    if image.contains('@') {
        return Err(Failure::usage(format!(
            "`{ENVOY_IMAGE_VARIABLE}={image}` has a digest instead of a tag"
        ))
        .hint("set it to REGISTRY/NAME:TAG: an imported image without a tag has no name on a node")
        .into());
    }
    if docker::image(&image).await?.is_none() {
        timeline
            .run(format!("pull `{image}`"), |_| {
                docker::pull(&image, PULL_LIMIT)
            })
            .await
            .map_err(|error| {
                Failure::infrastructure(format!("cannot pull the Envoy image `{image}`: {error:#}"))
                    .hint(format!(
                        "run `docker pull {image}` to see the reason, or set \
                     `{ENVOY_IMAGE_VARIABLE}` to another image"
                    ))
            })?;
        local_ids(std::slice::from_ref(&image)).await?;
    }
    Ok(image)
}

/// Copies images of this machine to all nodes concurrently, and checks that every node got the
/// same ones.
/// What is there already is not sent again.
pub async fn import(
    images: &[String],
    nodes: &[String],
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let before = local_ids(images).await?;
    let missing = missing(&before, nodes).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let name = format!(
        "import images into {} nodes",
        missing.values().flatten().count()
    );
    timeline
        .run(name, |step| async move {
            send(&missing, &step).await?;
            let Err(error) = verify(images, nodes).await else {
                return Ok(());
            };
            // Another command may have rebuilt the same tag in the meantime; the image that was
            // sent is then the older one.
            let now = local_ids(images).await?;
            if now == before {
                return Err(error);
            }
            step.progress("an image was replaced on this machine meanwhile, sending it again");
            send(&self::missing(&now, nodes).await?, &step).await?;
            verify(images, nodes).await
        })
        .await
}

/// Begins to bring images into nodes whose cluster is still being created, each as soon as its containerd answers: that
/// is well before the cluster is up, and saves a seventh of the time of both. [`import`] must follow; it sends what is
/// missing then, so nothing that goes wrong here is a failure.
pub async fn preload(images: &[String], nodes: &[String], timeline: &Timeline) {
    let name = format!("import images into {} nodes as they come up", nodes.len());
    let loaded = timeline
        .run(name, |step| async move {
            let ids = &local_ids(images).await?;
            let step = &step;
            try_join_all(nodes.iter().map(|node| preload_node(ids, node, step))).await
        })
        .await;
    if let Err(error) = loaded {
        timeline.note(format!(
            "images are sent again once the clusters are up: {error:#}"
        ));
    }
}

async fn preload_node(
    ids: &BTreeMap<String, String>,
    node: &String,
    step: &Step,
) -> anyhow::Result<()> {
    Wait::until(format!("containerd on node `{node}`"))
        .within(CREATION_LIMIT)
        .looking_every(Duration::from_millis(500))
        .poll(async || {
            Ok(match list(node).await {
                Ok(_) => Seen::Ready(()),
                Err(error) => Seen::Waiting(format!("{error:#}")),
            })
        })
        .await?;
    send(&missing(ids, std::slice::from_ref(node)).await?, step).await
}

/// Checks that every node has the images that this machine has; a difference names the node and both ids.
pub async fn verify(images: &[String], nodes: &[String]) -> anyhow::Result<()> {
    let ids = local_ids(images).await?;
    try_join_all(nodes.iter().map(|node| verify_node(&ids, node))).await?;
    Ok(())
}

async fn verify_node(ids: &BTreeMap<String, String>, node: &str) -> anyhow::Result<()> {
    Wait::until(format!("the images on node `{node}`"))
        .within(NOTICE_LIMIT)
        .hint(format!(
            "run `docker exec {node} ctr -n k8s.io images list`"
        ))
        .poll(async || {
            let listing = list(node).await?;
            for (image, local) in ids {
                match listing.presence(image, local) {
                    Presence::Same => {}
                    Presence::Unnoticed => {
                        return Ok(Seen::Waiting(format!("`{image}` is not noticed yet")));
                    }
                    Presence::Other(ids) if is_saved_as(image, &ids).await => {}
                    other => return Err(different(node, image, local, &other)),
                }
            }
            Ok(Seen::Ready(()))
        })
        .await
}

/// Whether what this machine hands out under this name is what a node has by these ids: an engine that keeps its images in
/// containerd uses a different id for an image of several platforms.
async fn is_saved_as(image: &str, ids: &[String]) -> bool {
    match docker::config_digest(image, IMPORT_LIMIT).await {
        Ok(digest) => ids.contains(&digest),
        Err(_) => false,
    }
}

fn different(node: &str, image: &str, local: &str, found: &Presence) -> anyhow::Error {
    let found = match found {
        Presence::Other(ids) => format!("has it as `{}`", ids.join("`, `")),
        _ => "does not have it".into(),
    };
    Failure::infrastructure(format!(
        "node `{node}`: wrong image `{image}`: the node {found}, this machine as `{local}`"
    ))
    .hint(format!(
        "run the command again; if it fails again, run `docker exec {node} ctr -n k8s.io images \
         rm {}`",
        node::full_name(image)
    ))
    .into()
}

/// Image → its id on this machine.
async fn local_ids(images: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let ids = images.iter().map(|name| async move {
        let image = docker::image(name).await?.ok_or_else(|| {
            Failure::infrastructure(format!("image `{name}` is not on this machine"))
                .hint("run the command again: it builds or pulls the image first")
        })?;
        anyhow::Ok((name.clone(), image.id))
    });
    Ok(try_join_all(ids).await?.into_iter().collect())
}

/// Which images are to be sent → where to.
async fn missing(
    ids: &BTreeMap<String, String>,
    nodes: &[String],
) -> anyhow::Result<BTreeMap<Vec<String>, Vec<String>>> {
    let looks = nodes.iter().map(|node| async move {
        let listing = list(node).await?;
        let mut absent = vec![];
        for (image, local) in ids {
            match listing.presence(image, local) {
                Presence::Same => {}
                Presence::Other(ids) if is_saved_as(image, &ids).await => {}
                _ => absent.push(image.clone()),
            }
        }
        anyhow::Ok((absent, node.clone()))
    });
    let mut groups = BTreeMap::<Vec<String>, Vec<String>>::new();
    for (absent, node) in try_join_all(looks).await? {
        if !absent.is_empty() {
            groups.entry(absent).or_default().push(node);
        }
    }
    Ok(groups)
}

async fn send(groups: &BTreeMap<Vec<String>, Vec<String>>, step: &Step) -> anyhow::Result<()> {
    let loads = groups.iter().map(|(images, nodes)| {
        step.progress(format!("{} → {}", images.join(", "), nodes.join(", ")));
        docker::load(Load {
            images,
            containers: nodes,
            command: &["ctr", "--namespace", "k8s.io", "images", "import", "-"],
            limit: IMPORT_LIMIT,
        })
    });
    try_join_all(loads).await?;
    Ok(())
}

async fn list(node: &str) -> anyhow::Result<Listing> {
    let done = docker::exec(
        node,
        &["ctr", "--namespace", "k8s.io", "images", "list"],
        LIST_LIMIT,
    )
    .await?;
    if !done.status.success() {
        return Err(Failure::infrastructure(format!(
            "node `{node}`: cannot list its images: {}\n{}",
            done.status,
            done.tail(5)
        ))
        .hint(format!(
            "check that the node is running: `docker logs --tail 20 {node}`"
        ))
        .into());
    }
    Ok(Listing::parse(&done.stdout))
}
