//! Reads the images and programs of a workload.

use anyhow::Context as _;
use blueprint::container::Container;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::PodTemplateSpec,
};
use messages::WorkloadName;
use render::{Controller, PROGRAMS_ANNOTATION};

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
    /// Returns the programs that the workload's controller names; `None` if it does not exist or
    /// an earlier version made it.
    ///
    /// # Errors
    ///
    /// Where the API server does not tell.
    pub async fn programs(
        &self,
        workload: &WorkloadName,
        controller: Controller,
    ) -> anyhow::Result<Option<Programs>> {
        let (namespace, name) = (workload.namespace(), workload.pod());
        let template = match controller {
            Controller::Deployment => {
                let deployments = self.namespaced::<Deployment>(&namespace);
                let found = deployments.get_opt(name).await;
                found.map(|found| Some(found?.spec?.template))
            }
            Controller::StatefulSet => {
                let sets = self.namespaced::<StatefulSet>(&namespace);
                let found = sets.get_opt(name).await;
                found.map(|found| Some(found?.spec?.template))
            }
        };
        let template = template.with_context(|| {
            format!(
                "{}: cannot read the {} {namespace}/{name}",
                self.name,
                controller.as_str()
            )
        })?;
        Ok(template.and_then(of_template))
    }
}

fn of_template(template: PodTemplateSpec) -> Option<Programs> {
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
        let template = json!({
            "metadata": { "annotations": annotations },
            "spec": { "containers": [{ "name": "app", "image": "ferry/services:1" }] },
        });
        of_template(serde_json::from_value(template).unwrap())
    }

    #[test]
    fn a_template_tells_its_programs() {
        let annotations = json!({ PROGRAMS_ANNOTATION: "1f", "other": "2e" });
        let programs = read(annotations).unwrap();
        assert_eq!(
            (&*programs.content, &*programs.image),
            ("1f", "ferry/services:1")
        );
    }

    #[test]
    fn an_earlier_versions_template_tells_nothing() {
        assert_eq!(read(json!({ "other": "2e" })), None);
        assert_eq!(of_template(PodTemplateSpec::default()), None);
    }
}
