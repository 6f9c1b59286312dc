//! Creates and proves environments that outlive their command.

use blueprint::{Blueprint, plan::Ports};
use harness::{
    ops::{
        local, report,
        run::{self, Run},
    },
    proof::{self, Verdict},
    runtime::{
        existing::Destination,
        request::{Lifetime, OnFailure, PublicAddress, State, UpRequest},
    },
};
use host::{
    binaries::Profile,
    environment::{Environment, Name, RuntimeKind},
    manifests,
    timeline::Timeline,
};

use crate::context::{Context, manifests};

/// Loads the named blueprints, or the default one if none is named.
pub(crate) fn blueprints(mut named: Vec<String>) -> anyhow::Result<Vec<Blueprint>> {
    if named.is_empty() {
        named.push(local::BLUEPRINT.into());
    }
    manifests::select(&manifests()?, &named)
}

/// Builds the request for an environment that outlives its command.
pub(crate) fn request(
    name: &Name,
    runtime: RuntimeKind,
    blueprints: &[Blueprint],
    public: PublicAddress,
    existing: Option<Destination>,
) -> UpRequest {
    UpRequest {
        name: name.clone(),
        runtime,
        blueprints: blueprints.to_vec(),
        ports: Ports::AsWritten,
        public,
        // Only until it is proven, so that `sweep` removes what a killed command leaves behind.
        lifetime: Lifetime::Command,
        on_failure: OnFailure::LeaveToCaller,
        settings: [].into(),
        profile: Profile::Dev,
        existing,
    }
}

/// Proves each blueprint of a running environment with new messages.
pub(crate) async fn prove_again(
    environment: &Environment,
    blueprints: &[Blueprint],
    timeline: &Timeline,
    context: &Context,
) -> anyhow::Result<Vec<Verdict>> {
    let mut verdicts = vec![];
    for blueprint in blueprints {
        let verdict = proof::again(environment, &blueprint.name, timeline).await?;
        context.verdict(&blueprint.title, &verdict);
        verdicts.push(verdict);
    }
    Ok(verdicts)
}

/// Creates an environment, proves it and leaves it running. A failed one leaves only evidence.
pub(crate) async fn make(
    request: UpRequest,
    timeline: &Timeline,
    context: &Context,
) -> anyhow::Result<Environment> {
    let mut run = Run::new(
        context.store_of(request.runtime)?,
        request.name.clone(),
        timeline.clone(),
    );
    let blueprints = request.blueprints.clone();
    let work = async {
        let environment = run.up(request).await?;
        let mut verdicts = vec![];
        for blueprint in &blueprints {
            let verdict = proof::auto_trigger(&environment, &blueprint.name, timeline).await?;
            context.verdict(&blueprint.title, &verdict);
            verdicts.push(verdict);
        }
        Ok((environment, verdicts))
    };
    match context.interrupt.unless(work).await {
        Ok((mut environment, verdicts)) => {
            run.release(&mut environment, &verdicts)?;
            Ok(environment)
        }
        Err(error) => {
            let result = Err(error);
            context.close(&mut run, &result).await;
            result
        }
    }
}

/// Collects evidence of a failure and prints where it is; the environment keeps running.
pub(crate) async fn report_left_running(
    environment: &Environment,
    error: &anyhow::Error,
    timeline: &Timeline,
    context: &Context,
) {
    match run::evidence(environment, error, timeline).await {
        Ok(folder) => context.output.note(format!(
            "`{}` was not removed; evidence: `{}` holds `{}`, `{}` and `timeline.json`",
            environment.name(),
            folder.display(),
            run::EVIDENCE,
            report::REPORT
        )),
        Err(problem) => context
            .output
            .warn_also("cannot collect evidence", &problem),
    }
}

/// Says what becomes of the messages that the sinks of an environment keep; returns what the
/// environment is to leave.
pub(crate) async fn state_after(
    environment: &Environment,
    keep_data: bool,
    context: &Context,
) -> State {
    let record = &environment.record;
    let is_there = match record.runtime {
        RuntimeKind::Embedded => record.processes().next().is_some(),
        RuntimeKind::K3d | RuntimeKind::Existing => !record.clusters.is_empty(),
    };
    // Nothing but the evidence of a failure is left of it otherwise.
    if is_there {
        let messages = local::messages(local::stored(record).await);
        let (name, again) = (
            environment.name(),
            match record.runtime {
                RuntimeKind::Embedded | RuntimeKind::K3d => "local-up",
                RuntimeKind::Existing => "deploy",
            },
        );
        context.output.note(if keep_data {
            format!("`{name}`: its sinks keep {messages}; `cargo xtask {again} --name {name}` finds them again")
        } else {
            format!("`{name}`: {messages} that its sinks keep are deleted with it")
        });
    }
    if keep_data {
        State::Messages
    } else {
        State::Remove
    }
}
