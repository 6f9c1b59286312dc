//! Reads the images and programs of a workload.

use anyhow::Context as _;
use blueprint::container::Container;
use k8s_openapi::api::apps::v1::Deployment;
use messages::WorkloadName;
use render::PROGRAMS_ANNOTATION;

use super::Cluster;

/// The programs of a workload's pods, and the image that they are taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// [`render::Images::programs`], as it was deployed.
    pub content: String,
    /// The name of the image.
    pub image: String,
}

impl Cluster {
    /// Returns the programs that the workload's Deployment names; `None` if it does not exist or
    /// an earlier version made it.
    ///
    /// # Errors
    ///
    /// Where the API server does not tell.
    pub async fn programs(&self, workload: &WorkloadName) -> anyhow::Result<Option<Programs>> {
        let found = self
            .namespaced::<Deployment>(&workload.namespace())
            .get_opt(workload.pod())
            .await
            .with_context(|| {
                format!(
                    "{}: cannot read the Deployment of {}",
                    self.name,
                    workload.pod()
                )
            })?;
        Ok(found.and_then(of_deployment))
    }
}

fn of_deployment(deployment: Deployment) -> Option<Programs> {
    let template = deployment.spec?.template;
    let content = template
        .metadata?
        .annotations?
        .remove(PROGRAMS_ANNOTATION)?;
    let mut containers = template.spec?.containers.into_iter();
    let app = containers.find(|container| container.name == Container::App.as_str())?;
    Some(Programs {
        content,
        image: app.image?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(annotations: serde_json::Value) -> Option<Programs> {
        let deployment = json!({ "spec": { "selector": {}, "template": {
            "metadata": { "annotations": annotations },
            "spec": { "containers": [{ "name": "app", "image": "ferry/services:1" }] },
        }}});
        of_deployment(serde_json::from_value(deployment).unwrap())
    }

    #[test]
    fn a_deployment_tells_its_programs() {
        let annotations = json!({ PROGRAMS_ANNOTATION: "1f", "other": "2e" });
        let programs = read(annotations).unwrap();
        assert_eq!(
            (&*programs.content, &*programs.image),
            ("1f", "ferry/services:1")
        );
    }

    #[test]
    fn an_earlier_versions_deployment_tells_nothing() {
        assert_eq!(read(json!({ "other": "2e" })), None);
        assert_eq!(of_deployment(Deployment::default()), None);
    }
}
