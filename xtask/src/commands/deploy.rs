//! `deploy`: creates or updates an environment on existing clusters and leaves it running.

use blueprint::failure::Failure;
use harness::{
    ops::{
        lifecycle, run,
        sweep::{self, Condition},
    },
    runtime::{
        self,
        request::{PublicAddress, UpRequest},
    },
};
use host::{
    environment::{Environment, Found, Name, RuntimeKind, Store},
    timeline::Timeline,
};

use crate::{cli::Deploy, context::Context, persistent, view};

/// Runs the command. An existing deployment is updated and proven again with new messages.
pub(crate) async fn run(args: Deploy, context: &Context) -> anyhow::Result<()> {
    let name = context.name(args.named.name.as_deref())?;
    let blueprints = persistent::blueprints(args.blueprints)?;
    let timeline = context.output.timeline();
    let request = persistent::request(
        &name,
        RuntimeKind::Existing,
        &blueprints,
        PublicAddress::OwnNetwork,
        Some(args.clusters.destination()),
    );
    let environment = match find_existing(&name, context)? {
        Some(environment) => {
            let work = renew(environment, &request, &timeline, context);
            context.interrupt.unless(work).await?
        }
        None => persistent::make(request, &timeline, context).await?,
    };
    let style = context.output.data_style();
    context.output.data(view::banner(
        &environment.record,
        environment.layout().root(),
        style,
    ));
    Ok(())
}

/// Returns the deployment of this name.
///
/// Ignores an environment that is broken, stopped or abandoned: creating a new one replaces it.
/// Creating one also fails if another command owns the environment.
fn find_existing(name: &Name, context: &Context) -> anyhow::Result<Option<Environment>> {
    // A deployment that an older version made from this checkout stays in this checkout's store.
    Store::deployed()?;
    let mut all = context.list()?.into_iter().rev();
    let found = all.find(|found| found.name() == name);
    let Some(Found::Environment(environment)) = found else {
        return Ok(None);
    };
    if sweep::condition(&environment.record)? != Condition::Stays {
        return Ok(None);
    }
    let kind = environment.record.runtime;
    if kind != RuntimeKind::Existing {
        return Err(Failure::usage(format!(
            "environment `{name}` already exists on the {} runtime",
            view::runtime(kind)
        ))
        .hint(format!(
            "pass another `--name`, or remove it with `cargo xtask {} --name {name}`",
            runtime::of(kind).removal_command()
        ))
        .into());
    }
    Ok(Some(*environment))
}

/// Updates a deployment and proves it again. After a failure it keeps running, with evidence.
async fn renew(
    mut environment: Environment,
    request: &UpRequest,
    timeline: &Timeline,
    context: &Context,
) -> anyhow::Result<Environment> {
    let name = environment.name().clone();
    context.output.note(format!(
        "`{name}` is already deployed; updating and proving it again"
    ));
    let work = async {
        lifecycle::refresh(&environment.store(), &mut environment, request, timeline).await?;
        persistent::prove_again(&environment, &request.blueprints, timeline, context).await
    };
    match work.await {
        Ok(verdicts) => {
            run::proven(&environment, &verdicts, timeline)?;
            Ok(environment)
        }
        Err(error) => {
            // A usage error has changed nothing.
            if Failure::exit_code(&error) != 2 {
                persistent::report_left_running(&environment, &error, timeline, context).await;
            }
            Err(error)
        }
    }
}
