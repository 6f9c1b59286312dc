//! `local-up`: creates or updates an environment on this machine and leaves it running.

use blueprint::failure::Failure;
use harness::{
    ops::{
        choice::{Chosen, RuntimeChoice},
        lifecycle, local, run,
        sweep::{self, Condition},
    },
    proof::Verdict,
    runtime::request::{PublicAddress, State, UpRequest},
};
use host::{
    environment::{Environment, Found, Name, RuntimeKind},
    timeline::Timeline,
};

use crate::{cli::LocalUp, context::Context, persistent, view};

/// Runs the command.
///
/// An existing environment is reconciled and proven again with new messages: only what has exited
/// or changed is restarted. It is recreated only for `--fresh`, or if no stored message is lost.
pub(crate) async fn run(args: LocalUp, context: &Context) -> anyhow::Result<()> {
    let name = context.name(args.named.name.as_deref())?;
    let blueprints = persistent::blueprints(args.blueprints)?;
    let asked = match args.runtime.unwrap_or_default() {
        RuntimeChoice::Auto => None,
        RuntimeChoice::Embedded => Some(RuntimeKind::Embedded),
        RuntimeChoice::K3d => Some(RuntimeKind::K3d),
        RuntimeChoice::Existing => {
            return Err(
                Failure::usage("`local-up` does not support the existing runtime")
                    .hint("run `cargo xtask deploy` to use existing clusters")
                    .into(),
            );
        }
    };
    let existing = find_existing(&name, context)?;
    let chosen = match (&existing, asked) {
        (Some(environment), None) => context.report_choice(Chosen {
            kind: environment.record.runtime,
            why: format!("`{name}` already uses it"),
        }),
        _ => context.choose(args.runtime).await,
    };
    let ordered = args.fresh.then(|| "`--fresh` was given".to_owned());
    let timeline = context.output.timeline();
    let request = persistent::request(
        &name,
        chosen.kind,
        &blueprints,
        PublicAddress::Localhost,
        None,
    );
    let kept = match existing {
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

/// Returns the environment of this name if it has no owner, whether it is running or stopped.
///
/// Ignores an environment that is broken or abandoned, or of which only evidence is left: creating
/// a new one replaces it. Creating one also fails if another command owns the environment.
fn find_existing(name: &Name, context: &Context) -> anyhow::Result<Option<Environment>> {
    let found = context
        .store
        .list()?
        .into_iter()
        .find(|found| found.name() == name);
    let Some(Found::Environment(environment)) = found else {
        return Ok(None);
    };
    let record = &environment.record;
    let stays = match sweep::condition(record)? {
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
            "environment `{name}` already exists and is deployed on existing clusters"
        ))
        .hint(format!(
            "pass another `--name`, or remove it with `cargo xtask undeploy --name {name}`"
        ))
        .into());
    }
    Ok(stays.then_some(*environment))
}

/// Reconciles an existing environment and proves it again.
///
/// Returns `None` if the environment was removed: because it was `ordered`, or because the request
/// cannot be met by an update. After a failure the environment keeps running, with evidence.
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
            .note(format!("recreating `{name}`: {reason}"));
        lifecycle::down(&context.store, name, State::Remove, timeline).await?;
        return Ok(None);
    }
    let state = match sweep::condition(&environment.record)? {
        Condition::Stopped => "is stopped; restarting and proving it",
        _ => "is already up; updating and proving it again",
    };
    context.output.note(format!("`{name}` {state}"));
    match renew(&mut environment, request, timeline, context).await {
        Ok(verdicts) => {
            run::proven(&environment, &verdicts, timeline)?;
            Ok(Some(environment))
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

async fn renew(
    environment: &mut Environment,
    request: &UpRequest,
    timeline: &Timeline,
    context: &Context,
) -> anyhow::Result<Vec<Verdict>> {
    lifecycle::refresh(&context.store, environment, request, timeline).await?;
    persistent::prove_again(environment, &request.blueprints, timeline, context).await
}
