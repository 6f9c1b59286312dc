use e2e::{
    environment::{Environment, Found, Name, RuntimeKind},
    failure::Failure,
    local::{self, Fate},
    proof::Verdict,
    run::{self},
    runtime::{self, Chosen, Condition, PublicAddress, RuntimeChoice, State, UpRequest},
    timeline::Timeline,
};

use crate::{cli::LocalUp, context::Context, standing, view};

/// An environment of the name that is up and has these blueprints is brought up to date and proven again by fresh messages;
/// any other is replaced.
pub(crate) async fn run(args: LocalUp, context: &Context) -> anyhow::Result<()> {
    let name = context.name(args.name.as_deref())?;
    let blueprints = standing::blueprints(args.blueprints)?;
    let asked = match args.runtime.unwrap_or_default() {
        RuntimeChoice::Auto => None,
        RuntimeChoice::Embedded => Some(RuntimeKind::Embedded),
        RuntimeChoice::K3d => Some(RuntimeKind::K3d),
        RuntimeChoice::Existing => {
            return Err(Failure::usage("`local-up` makes what it runs on")
                .hint("for clusters that exist already, use `cargo xtask deploy`")
                .into());
        }
    };
    let there = there(&name, context)?;
    let chosen = match (&there, asked) {
        (Some(environment), None) => context.chosen(Chosen {
            kind: environment.record.runtime,
            why: format!("`{name}` runs on it already"),
        }),
        _ => context.choose(args.runtime).await,
    };
    let timeline = context.output.timeline();
    let request = standing::request(
        &name,
        chosen.kind,
        &blueprints,
        PublicAddress::Localhost,
        None,
    );
    let kept = match there {
        None => None,
        Some(environment) => {
            context
                .interrupt
                .unless(keep(environment, asked, &request, &timeline, context))
                .await?
        }
    };
    let environment = match kept {
        Some(environment) => environment,
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

/// The environment that is up already and has no owner. What is broken, stopped or abandoned makes room by itself; what
/// another command owns is refused there.
fn there(name: &Name, context: &Context) -> anyhow::Result<Option<Environment>> {
    let found = context
        .store
        .list()?
        .into_iter()
        .find(|found| found.name() == name);
    let Some(Found::Environment(environment)) = found else {
        return Ok(None);
    };
    let stays = runtime::condition(&environment.record)? == Condition::Stays;
    Ok(stays.then_some(*environment))
}

/// Brings an environment that is up to what is wanted and proves it again; `None` where it had to be removed.
///
/// What fails leaves it as it is, beside evidence.
async fn keep(
    mut environment: Environment,
    asked: Option<RuntimeKind>,
    request: &UpRequest,
    timeline: &Timeline,
    context: &Context,
) -> anyhow::Result<Option<Environment>> {
    let name = &request.name;
    match local::fate(&environment, &request.blueprints, asked, timeline).await? {
        Fate::Replaced(reason) => {
            context
                .output
                .say(format!("`{name}` is up already and is replaced: {reason}"));
            runtime::down(&context.store, name, State::Remove, timeline).await?;
            return Ok(None);
        }
        Fate::AsItIs => context
            .output
            .say(format!("`{name}` is up already; proving it again")),
        Fate::Refreshed => context.output.say(format!(
            "`{name}` is up already; bringing it up to date and proving it again"
        )),
    }
    match renew(&mut environment, request, timeline, context).await {
        Ok(verdicts) => {
            run::proven(&environment, &verdicts, timeline)?;
            Ok(Some(environment))
        }
        Err(error) => {
            standing::left_as_it_is(&environment, &error, timeline, context).await;
            Err(error)
        }
    }
}

async fn renew(
    environment: &mut Environment,
    request: &UpRequest,
    timeline: &Timeline,
    context: &Context,
) -> anyhow::Result<Vec<Verdict>> {
    if environment.record.runtime == RuntimeKind::K3d {
        runtime::refresh(&context.store, environment, request, timeline).await?;
    }
    standing::prove_again(environment, &request.blueprints, timeline, context).await
}
