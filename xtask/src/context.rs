//! The context of a command: output, signals and environment stores.

use std::path::PathBuf;

use blueprint::failure::Failure;
use harness::{
    ops::{
        choice::{self, Chosen, RuntimeChoice},
        report,
        run::{self, Run},
        sweep::{self, Condition},
    },
    proof::Verdict,
    runtime::{self, request::State},
};
use host::environment::{Environment, Found, Name, RuntimeKind, Store, workspace_root};

use crate::{
    interrupt::{Interrupt, Interrupted},
    output::Output,
    view,
};

/// What every command receives.
pub(crate) struct Context {
    pub(crate) output: Output,
    pub(crate) interrupt: Interrupt,
    /// Environments of this checkout, and deployments that older versions made from it.
    pub(crate) store: Store,
}

impl Context {
    /// Starts listening for signals and finds the store of this checkout.
    pub(crate) fn new(output: Output) -> anyhow::Result<Self> {
        Ok(Self {
            output,
            interrupt: Interrupt::listen()?,
            store: Store::find()?,
        })
    }

    /// Loads the environment of this name, `local` by default.
    ///
    /// An environment of this checkout takes precedence over a deployment.
    pub(crate) fn environment(&self, name: Option<&str>) -> anyhow::Result<Environment> {
        let name = self.name(name)?;
        self.store_with(&name).load(&name)
    }

    /// Returns the store that has an environment of this name, or this checkout's if none has.
    pub(crate) fn store_with(&self, name: &Name) -> Store {
        let mut stores = self.stores().into_iter();
        let holds = stores.find(|store| store.has(name));
        holds.unwrap_or_else(|| self.store.clone())
    }

    /// Loads the deployment of this name.
    ///
    /// A deployment takes precedence over an environment of this checkout.
    pub(crate) fn deployment(&self, name: &Name) -> anyhow::Result<Environment> {
        let mut stores = self.stores().into_iter().rev();
        let holds = stores.find(|store| store.has(name));
        holds.unwrap_or_else(|| self.store.clone()).load(name)
    }

    /// Returns every store: this checkout's, then that of deployments if it is a different one.
    pub(crate) fn stores(&self) -> Vec<Store> {
        let deployed = Store::deployed().ok();
        let other = deployed.filter(|store| store.root() != self.store.root());
        std::iter::once(self.store.clone()).chain(other).collect()
    }

    /// Lists the environments of every store.
    pub(crate) fn list(&self) -> anyhow::Result<Vec<Found>> {
        let mut all = vec![];
        for store in self.stores() {
            all.extend(store.list()?);
        }
        Ok(all)
    }

    /// Returns the store for a new environment of this runtime.
    pub(crate) fn store_of(&self, runtime: RuntimeKind) -> anyhow::Result<Store> {
        runtime::of(runtime).store(&self.store)
    }

    /// Parses an environment's name, `local` by default.
    pub(crate) fn name(&self, name: Option<&str>) -> anyhow::Result<Name> {
        name.unwrap_or(harness::ops::local::NAME).parse().map_err(
            |error: host::environment::InvalidName| {
                Failure::usage(error.to_string())
                    .hint("pass a valid `--name`")
                    .into()
            },
        )
    }

    /// Chooses the runtime and prints the choice with its reason.
    pub(crate) async fn choose(&self, choice: Option<RuntimeChoice>) -> Chosen {
        self.report_choice(choice::choose(choice.unwrap_or_default()).await)
    }

    /// Prints the chosen runtime and the reason.
    pub(crate) fn report_choice(&self, chosen: Chosen) -> Chosen {
        self.output.note(format!(
            "runtime: {}, because {}",
            view::runtime(chosen.kind),
            chosen.why
        ));
        chosen
    }

    /// Prints the messages that prove a blueprint.
    pub(crate) fn verdict(&self, title: &str, verdict: &Verdict) {
        let style = self.output.data_style();
        self.output
            .data(view::verdict_table(title, verdict, style) + "\n");
    }

    /// Fails if a running command owns the environment, or if it runs on another machine.
    pub(crate) fn require_unowned(&self, environment: Environment) -> anyhow::Result<Environment> {
        environment.is_here()?;
        match sweep::condition(&environment.record)? {
            Condition::Owned(owner) => Err(Failure::usage(format!(
                "environment `{}` belongs to {owner} ({}), which is still running and will remove it",
                environment.name(),
                owner.name()
            ))
            .hint("stop that command with Ctrl-C")
            .into()),
            _ => Ok(environment),
        }
    }

    /// Tears the run down and returns the folder with the evidence of a failure.
    ///
    /// An interrupted run leaves nothing behind; a failed run leaves evidence. Errors of the tear-down
    /// are printed as warnings and do not change the command's result.
    pub(crate) async fn close<T>(
        &self,
        run: &mut Run,
        result: &anyhow::Result<T>,
    ) -> Option<PathBuf> {
        let evidence = match result {
            Err(error) if !error.is::<Interrupted>() => match run.evidence(error).await {
                Ok(folder) => folder,
                Err(problem) => {
                    self.output.warn_also("cannot collect evidence", &problem);
                    None
                }
            },
            _ => None,
        };
        let found = run.store().load(run.name());
        let runtime = found.map_or(RuntimeKind::Embedded, |found| found.record.runtime);
        let state = if evidence.is_some() {
            State::Keep
        } else {
            State::Remove
        };
        let ended = tokio::select! {
            ended = run.end(state) => Some(ended),
            _ = self.interrupt.second() => None,
        };
        let (ended, evidence) = match ended {
            Some(ended) => (ended, evidence),
            None => (run.kill().await, None),
        };
        if let Err(problem) = ended {
            self.output.warn_also("clean-up failed", &problem);
        }
        if let Some(folder) = &evidence {
            self.output.note(format!(
                "evidence: `{}` holds `{}`, `{}`, `logs/` and `timeline.json`; \
                 run `cargo xtask {} --name {}` to delete it",
                folder.display(),
                run::EVIDENCE,
                report::REPORT,
                runtime::of(runtime).removal_command(),
                run.name()
            ));
        }
        evidence
    }
}

/// Returns the folder with the blueprints.
pub(crate) fn manifests() -> anyhow::Result<PathBuf> {
    Ok(workspace_root()?.join("manifests"))
}
