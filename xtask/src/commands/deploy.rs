use e2e::{
    environment::{Environment, Found, Name, RuntimeKind, Store},
    failure::Failure,
    local,
    run::{self},
    runtime::{self, Condition, PublicAddress, UpRequest},
    timeline::Timeline,
};

use crate::{cli::Deploy, context::Context, standing, view};

/// An environment of the name that is there is changed to what is wanted and proven again by fresh messages.
pub(crate) async fn run(args: Deploy, context: &Context) -> anyhow::Result<()> {
    let name = context.name(args.name.as_deref())?;
    let blueprints = standing::blueprints(args.blueprints)?;
    let timeline = context.output.timeline();
    let request = standing::request(
        &name,
        RuntimeKind::Existing,
        &blueprints,
        PublicAddress::OwnNetwork,
        Some(args.clusters.destination()),
    );
    let environment = match there(&name, context)? {
        Some(environment) => {
            let work = renew(environment, &request, &timeline, context);
            context.interrupt.unless(work).await?
        }
        None => standing::make(request, &timeline, context).await?,
    };
    let style = context.output.data_style();
    context.output.data(view::banner(
        &environment.record,
        environment.layout().root(),
        style,
    ));
    Ok(())
}

/// The environment that is deployed already. What is broken, stopped or abandoned makes room by itself; what another
/// command owns is refused there.
fn there(name: &Name, context: &Context) -> anyhow::Result<Option<Environment>> {
    // What an older version deployed from this checkout is deployed again where it is.
    Store::deployed()?;
    let mut all = context.list()?.into_iter().rev();
    let found = all.find(|found| found.name() == name);
    let Some(Found::Environment(environment)) = found else {
        return Ok(None);
    };
    if runtime::condition(&environment.record)? != Condition::Stays {
        return Ok(None);
    }
    let kind = environment.record.runtime;
    if kind != RuntimeKind::Existing {
        return Err(Failure::usage(format!(
            "there is an environment `{name}` on the {} runtime already",
            view::runtime(kind)
        ))
        .hint(format!(
            "choose another `--name`, or remove it by `cargo xtask {} --name {name}`",
            local::removal(kind)
        ))
        .into());
    }
    Ok(Some(*environment))
}

/// What fails leaves it as it is, beside evidence.
async fn renew(
    mut environment: Environment,
    request: &UpRequest,
    timeline: &Timeline,
    context: &Context,
) -> anyhow::Result<Environment> {
    let name = environment.name().clone();
    context.output.say(format!(
        "`{name}` is deployed already; bringing it up to date and proving it again"
    ));
    let work = async {
        runtime::refresh(&environment.store(), &mut environment, request, timeline).await?;
        standing::prove_again(&environment, &request.blueprints, timeline, context).await
    };
    match work.await {
        Ok(verdicts) => {
            run::proven(&environment, &verdicts, timeline)?;
            Ok(environment)
        }
        Err(error) => {
            // Wrong usage has changed nothing.
            if Failure::exit_code(&error) != 2 {
                standing::left_as_it_is(&environment, &error, timeline, context).await;
            }
            Err(error)
        }
    }
}
