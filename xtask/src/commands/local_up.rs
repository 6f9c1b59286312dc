use e2e::{
    environment::{Environment, Found, Name, RuntimeKind},
    failure::Failure,
    local,
    proof::Verdict,
    run::{self},
    runtime::{self, Chosen, Condition, PublicAddress, RuntimeChoice, State, UpRequest},
    timeline::Timeline,
};

use crate::{cli::LocalUp, context::Context, standing, view};

/// An environment of the name that is there is brought to what is wanted and proven again by fresh messages: what has ended
/// or changed is started again alone. It is made anew only for `--fresh`, or where that loses no stored message.
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
    let ordered = args.fresh.then(|| "`--fresh` asks for it".to_owned());
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
                .unless(keep(
                    environment,
                    asked,
                    ordered,
                    &request,
                    &timeline,
                    context,
                ))
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

/// The environment that is there and has no owner, whether it runs or has been stopped. What is broken or abandoned, or of
/// which a failure has left nothing but evidence, makes room by itself; what another command owns is refused there.
fn there(name: &Name, context: &Context) -> anyhow::Result<Option<Environment>> {
    let found = context
        .store
        .list()?
        .into_iter()
        .find(|found| found.name() == name);
    let Some(Found::Environment(environment)) = found else {
        return Ok(None);
    };
    let record = &environment.record;
    let stays = match runtime::condition(record)? {
        Condition::Stays => true,
        Condition::Stopped => record.processes().next().is_some(),
        Condition::Elsewhere(_) => {
            environment.is_here()?;
            false
        }
        Condition::Owned(_) | Condition::Abandoned => false,
    };
    if stays && record.runtime == RuntimeKind::Existing {
        return Err(Failure::usage(format!(
            "there is an environment `{name}` already, deployed on clusters that exist without it"
        ))
        .hint(format!(
            "choose another `--name`, or remove it by `cargo xtask undeploy --name {name}`"
        ))
        .into());
    }
    Ok(stays.then_some(*environment))
}

/// Brings an environment that is there to what is wanted and proves it again; `None` where it had to be removed, because
/// that was `ordered` or nothing else leads to what is wanted.
///
/// What fails leaves it as it is, beside evidence.
async fn keep(
    mut environment: Environment,
    asked: Option<RuntimeKind>,
    ordered: Option<String>,
    request: &UpRequest,
    timeline: &Timeline,
    context: &Context,
) -> anyhow::Result<Option<Environment>> {
    let name = &request.name;
    let reason = match ordered {
        Some(reason) => Some(reason),
        None => {
            let reason = local::reason_to_replace(&environment.record, asked);
            if let Some(reason) = &reason {
                local::may_be_replaced(&environment, reason).await?;
            }
            reason
        }
    };
    if let Some(reason) = reason {
        context
            .output
            .say(format!("`{name}` is up already and is made anew: {reason}"));
        runtime::down(&context.store, name, State::Remove, timeline).await?;
        return Ok(None);
    }
    let state = match runtime::condition(&environment.record)? {
        Condition::Stopped => "was up, and nothing of it runs; starting it again and proving it",
        _ => "is up already; bringing it up to date and proving it again",
    };
    context.output.say(format!("`{name}` {state}"));
    match renew(&mut environment, request, timeline, context).await {
        Ok(verdicts) => {
            run::proven(&environment, &verdicts, timeline)?;
            Ok(Some(environment))
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

async fn renew(
    environment: &mut Environment,
    request: &UpRequest,
    timeline: &Timeline,
    context: &Context,
) -> anyhow::Result<Vec<Verdict>> {
    runtime::refresh(&context.store, environment, request, timeline).await?;
    standing::prove_again(environment, &request.blueprints, timeline, context).await
}
