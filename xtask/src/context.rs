//! What every command has: the screen, the signals, the state root.

use std::path::PathBuf;

use e2e::{
    environment::{Environment, Found, Name, RuntimeKind, Store, workspace_root},
    failure::Failure,
    local,
    proof::Verdict,
    report,
    run::{self, Run},
    runtime::{self, Chosen, Condition, RuntimeChoice, State},
};

use crate::{
    interrupt::{Interrupt, Interrupted},
    output::Output,
    view,
};

pub(crate) struct Context {
    pub(crate) output: Output,
    pub(crate) interrupt: Interrupt,
    /// What this checkout makes on this machine, and what older versions deployed from it.
    pub(crate) store: Store,
}

impl Context {
    pub(crate) fn new(output: Output) -> anyhow::Result<Self> {
        Ok(Self {
            output,
            interrupt: Interrupt::listen()?,
            store: Store::find()?,
        })
    }

    /// The environment of this name; `local` where none is given. What this checkout has comes before what is deployed.
    pub(crate) fn environment(&self, name: Option<&str>) -> anyhow::Result<Environment> {
        let name = self.name(name)?;
        self.holding(&name).load(&name)
    }

    /// The store with the environment of this name; this checkout's, where none has it.
    pub(crate) fn holding(&self, name: &Name) -> Store {
        let mut stores = self.stores().into_iter();
        let holds = stores.find(|store| store.has(name));
        holds.unwrap_or_else(|| self.store.clone())
    }

    /// The deployment of this name: what is deployed comes before what this checkout has.
    pub(crate) fn deployment(&self, name: &Name) -> anyhow::Result<Environment> {
        let mut stores = self.stores().into_iter().rev();
        let holds = stores.find(|store| store.has(name));
        holds.unwrap_or_else(|| self.store.clone()).load(name)
    }

    /// Every store there is: this checkout's, then the one of deployments, where that is another.
    pub(crate) fn stores(&self) -> Vec<Store> {
        let deployed = Store::deployed().ok();
        let other = deployed.filter(|store| store.root() != self.store.root());
        std::iter::once(self.store.clone()).chain(other).collect()
    }

    /// Every environment of every store.
    pub(crate) fn list(&self) -> anyhow::Result<Vec<Found>> {
        let mut all = vec![];
        for store in self.stores() {
            all.extend(store.list()?);
        }
        Ok(all)
    }

    /// Where a new environment of this runtime is kept.
    pub(crate) fn store_of(&self, runtime: RuntimeKind) -> anyhow::Result<Store> {
        match runtime {
            RuntimeKind::Existing => Store::deployed(),
            RuntimeKind::Embedded | RuntimeKind::K3d => Ok(self.store.clone()),
        }
    }

    /// The name that is meant; `local` where none is given.
    pub(crate) fn name(&self, name: Option<&str>) -> anyhow::Result<Name> {
        name.unwrap_or(e2e::local::NAME)
            .parse()
            .map_err(|error: e2e::environment::InvalidName| {
                Failure::usage(error.to_string())
                    .hint("choose another `--name`")
                    .into()
            })
    }

    /// Settles the runtime, and says first of all which and why.
    pub(crate) async fn choose(&self, choice: Option<RuntimeChoice>) -> Chosen {
        self.chosen(runtime::choose(choice.unwrap_or_default()).await)
    }

    /// Says which runtime is taken and why.
    pub(crate) fn chosen(&self, chosen: Chosen) -> Chosen {
        self.output.say(format!(
            "runtime: {}, because {}",
            view::runtime(chosen.kind),
            chosen.why
        ));
        chosen
    }

    /// Shows what a blueprint was proven by.
    pub(crate) fn verdict(&self, title: &str, verdict: &Verdict) {
        let style = self.output.data_style();
        self.output
            .data(view::verdict_table(title, verdict, style) + "\n");
    }

    /// Refuses an environment that a running command owns, or that runs elsewhere.
    pub(crate) fn unowned(&self, environment: Environment) -> anyhow::Result<Environment> {
        environment.is_here()?;
        match runtime::condition(&environment.record)? {
            Condition::Owned(owner) => Err(Failure::usage(format!(
                "environment `{}` belongs to {owner} ({}), which runs and removes it by itself",
                environment.name(),
                owner.name()
            ))
            .hint("end that command with Ctrl-C")
            .into()),
            _ => Ok(environment),
        }
    }

    /// Cleans up after `result`; what goes wrong with that is said beside it and changes nothing.
    ///
    /// An interrupted run leaves nothing; a failed one stops, and leaves evidence, whose folder is returned.
    pub(crate) async fn close<T>(
        &self,
        run: &mut Run,
        result: &anyhow::Result<T>,
    ) -> Option<PathBuf> {
        let evidence = match result {
            Err(error) if !error.is::<Interrupted>() => match run.evidence(error).await {
                Ok(folder) => folder,
                Err(problem) => {
                    self.output.beside("no evidence", &problem);
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
            self.output.beside("clean-up", &problem);
        }
        if let Some(folder) = &evidence {
            self.output.say(format!(
                "evidence: `{}` holds `{}`, `{}`, `logs/` and `timeline.json`; `cargo xtask {} --name {}` deletes it",
                folder.display(),
                run::EVIDENCE,
                report::REPORT,
                local::removal(runtime),
                run.name()
            ));
        }
        evidence
    }
}

/// The folder with the blueprints.
pub(crate) fn manifests() -> anyhow::Result<PathBuf> {
    Ok(workspace_root()?.join("manifests"))
}
