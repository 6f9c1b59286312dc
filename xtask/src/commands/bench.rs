//! `bench`: measures latency and throughput, one scenario after the other.

use blueprint::plan::Ports;
use harness::{
    ops::{
        bench::{self, Measured, SCENARIOS, Scenario},
        run::Run,
    },
    proof,
    runtime::request::{Lifetime, OnFailure, PublicAddress, UpRequest},
};
use host::{
    binaries::Profile,
    environment::{Name, RuntimeKind},
    manifests,
    timeline::Timeline,
};

use crate::{
    cli::Bench,
    context::{Context, manifests},
    view,
};

/// Runs the command. Scenarios run in sequence, each in a new environment, so that they do not
/// compete for the processors.
pub(crate) async fn run(args: Bench, context: &Context) -> anyhow::Result<()> {
    let timeline = context.output.timeline();
    let mut all: Vec<Measured> = vec![];
    for scenario in &SCENARIOS {
        let measured = once(scenario, args.messages, &timeline, context).await?;
        if args.json {
            context.output.data(serde_json::to_string(&measured)?);
        }
        all.push(measured);
    }
    if !args.json {
        let style = context.output.data_style();
        context.output.data(view::measured(&all, style));
    }
    Ok(())
}

async fn once(
    scenario: &Scenario,
    messages: u32,
    timeline: &Timeline,
    context: &Context,
) -> anyhow::Result<Measured> {
    let (store, name) = (context.store.clone(), Name::unique("bench")?);
    let mut run = Run::new(store, name.clone(), timeline.clone());
    let request = UpRequest {
        name,
        runtime: RuntimeKind::Embedded,
        blueprints: manifests::select(&manifests()?, &[scenario.blueprint.to_owned()])?,
        ports: Ports::Spread,
        public: PublicAddress::OwnNetwork,
        lifetime: Lifetime::Command,
        on_failure: OnFailure::LeaveToCaller,
        settings: scenario.settings(),
        existing: None,
        profile: Profile::Dist,
    };
    let work = async {
        let environment = run.up(request).await?;
        proof::auto_trigger(&environment, scenario.blueprint, timeline).await?;
        bench::measure(&environment, scenario, messages, timeline).await
    };
    let result = context.interrupt.unless(work).await;
    context.close(&mut run, &result).await;
    result
}
