//! `bundle`: writes a folder or archive that deploys a blueprint with `kubectl`.

use harness::ops::bundle::{self, Request};
use host::manifests;

use crate::{
    cli::Bundle,
    context::{Context, manifests},
};

/// Runs the command.
pub(crate) fn run(args: Bundle, context: &Context) -> anyhow::Result<()> {
    let mut blueprints =
        manifests::select(&manifests()?, std::slice::from_ref(&args.blueprint))?.into_iter();
    let Some(blueprint) = blueprints.next() else {
        anyhow::bail!("`{}` names no blueprint", args.blueprint);
    };
    let written = bundle::write(&Request {
        blueprint,
        target: args.target,
        addresses: args.addresses,
        image: args.image,
        envoy_image: args.pull.envoy_image,
        pull_secret: args.pull.pull_secret,
        architectures: args.pull.architectures,
        out: args.out,
        identity: args.identity,
    })?;
    context.output.data(written.path.display().to_string());
    context.output.note(format!(
        "{} files; the README among them explains the deployment; the files `{}` hold keys\n\
         the root's key is in `{}`: keep that folder, and keep it secret",
        written.files,
        bundle::SECRETS_FILE,
        written.identity.display()
    ));
    Ok(())
}
