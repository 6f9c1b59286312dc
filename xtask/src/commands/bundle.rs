use e2e::{
    blueprint,
    bundle::{self, Request},
};

use crate::{
    cli::Bundle,
    context::{Context, manifests},
};

pub(crate) fn run(args: Bundle, context: &Context) -> anyhow::Result<()> {
    let mut blueprints =
        blueprint::select(&manifests()?, std::slice::from_ref(&args.blueprint))?.into_iter();
    let Some(blueprint) = blueprints.next() else {
        anyhow::bail!("`{}` names no blueprint", args.blueprint);
    };
    let written = bundle::write(&Request {
        blueprint,
        target: args.target,
        addresses: args.addresses,
        image: args.image,
        envoy_image: args.envoy_image,
        pull_secret: args.pull_secret,
        architectures: args.architectures,
        out: args.out,
        identity: args.identity,
    })?;
    context.output.data(written.path.display().to_string());
    context.output.say(format!(
        "{} files, the README among them says how to deploy; those named `{}` hold keys\n\
         the key of the root is in `{}`: keep that folder, and give it to nobody",
        written.files,
        bundle::SECRETS_FILE,
        written.identity.display()
    ));
    Ok(())
}
