//! Environments that stay after their command: made, proven again, or left as they are.

use e2e::{
    blueprint::{self, Blueprint},
    environment::{Environment, Name, RuntimeKind},
    local,
    plan::Ports,
    proof::{self, Verdict},
    report,
    run::{self, Run},
    runtime::{Lifetime, OnFailure, PublicAddress, UpRequest, existing::Destination},
    timeline::Timeline,
};

use crate::context::{Context, manifests};

/// The blueprints that are named; the default one where none is.
pub(crate) fn blueprints(mut named: Vec<String>) -> anyhow::Result<Vec<Blueprint>> {
    if named.is_empty() {
        named.push(local::BLUEPRINT.into());
    }
    blueprint::select(&manifests()?, &named)
}

/// What is asked for of an environment that stays.
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
        // Until it is proven: what is killed half-way is swept.
        lifetime: Lifetime::Command,
        on_failure: OnFailure::LeaveToCaller,
        settings: [].into(),
        existing,
    }
}

/// Proves each blueprint of an environment that is up by fresh messages.
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

/// An environment made from nothing and proven, which stays; one that fails leaves evidence and nothing else.
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

/// Says where the evidence is of why an environment is not what it should be; it stays as it is.
pub(crate) async fn left_as_it_is(
    environment: &Environment,
    error: &anyhow::Error,
    timeline: &Timeline,
    context: &Context,
) {
    match run::evidence(environment, error, timeline).await {
        Ok(folder) => context.output.say(format!(
            "`{}` is left as it is; `{}` holds `{}`, `{}` and `timeline.json`",
            environment.name(),
            folder.display(),
            run::EVIDENCE,
            report::REPORT
        )),
        Err(problem) => context.output.beside("no evidence", &problem),
    }
}
