//! What the nodes hold.

use std::time::Duration;

use blueprint::failure::Failure;
use cluster::image;
use host::docker;
use render::ENVOY_IMAGE;

use crate::{broken::own_image, scene::Scene};

/// Another image under our name, on one node of four.
#[tokio::test]
#[ignore = "needs k3d: .ci/k3d"]
async fn wrong_image_on_one_node_is_caught() -> anyhow::Result<()> {
    let scene = &Scene::alone().await?;
    let own = own_image(scene).await?;
    let nodes = scene.nodes().await?;
    assert_eq!(nodes.len(), 4, "a server and an agent in each cluster");
    let images = [own.clone()];
    image::verify(&images, &nodes).await?;
    let node = &nodes[2];
    let (other, name) = (
        format!("docker.io/{ENVOY_IMAGE}"),
        format!("docker.io/{own}"),
    );
    let tag = [
        "ctr", "-n", "k8s.io", "images", "tag", "--force", &other, &name,
    ];
    let done = docker::exec(node, &tag, Duration::from_secs(30)).await?;
    assert!(done.status.success(), "{}", done.tail(5));

    let error = image::verify(&images, &nodes).await.unwrap_err();
    let text = format!("{error:#}");
    let mut parts = vec![node.clone(), own.clone()];
    for image in [own.as_str(), ENVOY_IMAGE] {
        parts.push(docker::image(image).await?.unwrap().id);
    }
    for part in &parts {
        assert!(text.contains(part), "`{part}` must be in: {text}");
    }
    for right in nodes.iter().filter(|each| *each != node) {
        assert!(!text.contains(right.as_str()), "{right} is right: {text}");
    }
    assert_eq!(Failure::exit_code(&error), 3, "{text}");

    image::import(&images, &nodes, scene.timeline()).await?;
    image::verify(&images, &nodes).await
}
