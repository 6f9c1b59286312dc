//! Replaces the pinholes' certificates together with the root. An operator's certificate, whose
//! `ca.crt` has no root of the environment, is kept.

use anyhow::Context as _;
use blueprint::{failure::Failure, pinhole_name};
use futures_util::future::try_join_all;
use host::{
    environment::{Environment, PodRecord},
    http::{Request, Tls},
    timeline::{Step, Timeline},
    wait::Seen,
};
use identity::{self, Root, Server};

use super::{in_force, reach::Reach};

/// Gives every pinhole a certificate of the new root. Clients trust both roots until the pod shows the new one, then the
/// new root alone. Run again, it makes them once more: what a killed command has left does not matter.
pub(super) async fn succeed(
    environment: &Environment,
    reach: &Reach<'_>,
    root: &Root,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    if !root.has_key() {
        timeline.note(
            "the pinholes keep their certificates of before: the key of the new root is not here, so none can be made of it",
        );
        return Ok(());
    }
    let ours = identity::trusted_roots(&environment.layout().identity())?;
    timeline
        .run(
            "put the pinholes' certificates of the new root in force",
            |step| async move {
                let (ours, step) = (&ours, &*step);
                let all = environment.record.pods.iter().map(|pod| async move {
                    let folder = environment.layout().pinhole(&pod.name);
                    if pod.token_file.is_none() || !Server::is_of(&folder, ours)? {
                        return Ok(());
                    }
                    Server::trust_too(&folder, root)?;
                    let server = root.server(&pod.name)?;
                    server.replace(&folder)?;
                    bring(reach, pod, &server).await?;
                    wait(reach, pod, root, step).await?;
                    server.save(&folder)
                });
                try_join_all(all).await.map(drop)
            },
        )
        .await
}

/// Replaces those of `pods` that are old by others of the same root. Nobody waits for them: the one before is good meanwhile.
pub(super) async fn renew(
    environment: &Environment,
    reach: &Reach<'_>,
    root: &Root,
    pods: &[&PodRecord],
) -> anyhow::Result<()> {
    for pod in pods {
        let folder = environment.layout().pinhole(&pod.name);
        if pod.token_file.is_some() && Server::is_due(root, &folder)? {
            let server = root.server(&pod.name)?;
            // The pod first: of a command that is killed here, the next finds the old one in the folder and does it again.
            bring(reach, pod, &server).await?;
            server.replace(&folder)?;
        }
    }
    Ok(())
}

async fn bring(reach: &Reach<'_>, pod: &PodRecord, server: &Server) -> anyhow::Result<()> {
    let token_file = pod.token_file.as_ref().context("it has a pinhole")?;
    reach.bring_server(&pod.name, server, token_file).await
}

/// Until the pod shows a certificate of `root`: seen by a request that trusts nothing else.
async fn wait(reach: &Reach<'_>, pod: &PodRecord, root: &Root, step: &Step) -> anyhow::Result<()> {
    let who = format!("{} in {}", pod.name.pod(), pod.name.cluster());
    let address = pod.local_address.clone().ok_or_else(|| {
        Failure::infrastructure(format!("{who} has no address yet"))
            .hint("run `cargo xtask status` until it has one, then run the command again")
    })?;
    let tls = Tls::of(root.certificate_pem().as_bytes(), &pinhole_name(&pod.name))?;
    let what = format!("the pinhole of {who} to show a certificate of the new root");
    in_force(what, reach, &pod.name, step, || async {
        let request = Request::get(address.clone(), "/health").secured(tls.clone());
        Ok(match request.send().await {
            Ok(_) => Seen::Ready(()),
            Err(error) => Seen::Waiting(format!("{error:#}")),
        })
    })
    .await
}
