//! `image`: builds the services' image on this machine, of optimised programs.

use cluster::image;
use host::binaries::{self, Profile};

use crate::{cli::Image, context::Context};

/// Runs the command.
pub(crate) async fn run(args: Image, context: &Context) -> anyhow::Result<()> {
    let timeline = context.output.timeline();
    let work = async {
        let binaries = binaries::binaries(Profile::Dist, &timeline).await?;
        let built = image::services(&binaries, &timeline).await?;
        match args.tag {
            None => Ok(built),
            Some(tag) => image::tag(&built, &tag).await.map(|()| tag),
        }
    };
    let name = context.interrupt.unless(work).await?;
    context.output.data(name);
    Ok(())
}
