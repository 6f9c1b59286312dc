//! Creates the authorities and tokens of pods on clusters, in the state folder or an operator's
//! folder.

use std::collections::BTreeMap;

use anyhow::Context as _;
use blueprint::plan::{Plan, PodPlan};
use host::environment::{Environment, Layout, private_folder, replace_file};
use identity::{self, Authority, Clients, Root, Server};
use messages::WorkloadName;
use render::PodSecrets;

/// The authorities and tokens of all pods: created once, and reused whenever the environment is
/// brought up again. The
/// root's key stays in the state folder.
pub(crate) fn secrets(
    environment: &Environment,
    plan: &Plan,
) -> anyhow::Result<BTreeMap<WorkloadName, PodSecrets>> {
    secrets_in(
        environment.layout(),
        environment.name().as_str(),
        plan,
        Clients::Commands,
    )
}

/// The same in any folder of that layout; a root that is made gets this label. `clients` are those of the pinholes.
pub(crate) fn secrets_in(
    layout: &Layout,
    label: &str,
    plan: &Plan,
    clients: Clients,
) -> anyhow::Result<BTreeMap<WorkloadName, PodSecrets>> {
    let folder = layout.identity();
    let root = if folder.join(identity::ROOT_CERTIFICATE).exists() {
        Root::load(&folder)?
    } else {
        let root = Root::create(label)?;
        root.save(&folder)?;
        root
    };
    plan.pods
        .iter()
        .map(|pod| Ok((pod.name.clone(), pod_secrets(layout, &root, pod, clients)?)))
        .collect()
}

fn pod_secrets(
    layout: &Layout,
    root: &Root,
    pod: &PodPlan,
    clients: Clients,
) -> anyhow::Result<PodSecrets> {
    let folder = layout.pod(&pod.name);
    private_folder(&folder)?;
    let authority_folder = layout.authority(&pod.name);
    let authority = if authority_folder.join(identity::AUTHORITY_KEY).exists() {
        let authority = Authority::load(&authority_folder)?;
        authority.speaks_for(&pod.name, &authority_folder)?;
        authority
    } else {
        let authority = root.authority(&pod.name)?;
        authority.save(&authority_folder)?;
        authority
    };
    let token_file = layout.token(&pod.name);
    if !token_file.exists() {
        replace_file(&token_file, identity::token().as_bytes(), 0o600)?;
    }
    let token = std::fs::read_to_string(&token_file)
        .with_context(|| format!("cannot read `{}`", token_file.display()))?;
    let files = [
        (
            identity::AUTHORITY_CERTIFICATE,
            authority.certificate_pem().to_owned(),
        ),
        (identity::AUTHORITY_KEY, authority.key_pem()),
        (identity::ROOTS, authority.roots_pem().to_owned()),
    ];
    let server = Server::keep(root, &pod.name, &layout.pinhole(&pod.name), clients)?;
    Ok(PodSecrets {
        authority: files.map(|(name, text)| (name.to_owned(), text)).into(),
        token,
        server_certificate: server.certificate_pem().to_owned(),
        server_key: server.key_pem().to_owned(),
    })
}
