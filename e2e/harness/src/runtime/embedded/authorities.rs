//! Reads the identity that a pod's `wosp` and Envoy report.

use std::net::SocketAddr;

use anyhow::bail;
use host::{environment::Environment, http::Request};
use messages::{IDENTITY_REPORT_PATH, WorkloadName};

use super::pod::PodFile;
use crate::ops::rotate::Live;

/// Asks the pod's processes; one that does not answer is an error.
pub(crate) async fn look(environment: &Environment, name: &WorkloadName) -> anyhow::Result<Live> {
    let file = PodFile::load(environment.layout(), name)?;
    let runs_as = environment.record.pod(name).map(|pod| pod.pod_name.clone());
    let report = get(file.wosp, IDENTITY_REPORT_PATH).await?;
    let statistics = get(file.envoy_stats, "/stats/prometheus").await?;
    Live::read(runs_as.unwrap_or_default(), &report, &statistics)
}

async fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let answer = Request::get(address, path).send().await?;
    if answer.status != 200 {
        bail!(
            "`{path}` returned {} {}",
            answer.status,
            answer.text().trim()
        );
    }
    Ok(answer.text())
}
