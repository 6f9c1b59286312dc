//! `render`: writes or checks the manifests and the blueprint schema under `manifests/`.

use std::path::Path;

use anyhow::Context as _;
use blueprint::{self, failure::Failure};
use host::manifests;

use crate::{
    cli::Render,
    context::{Context, manifests},
};

/// File with the schema of blueprints, beside their folders.
const SCHEMA: &str = "blueprint.schema.json";

/// Runs the command.
pub(crate) async fn run(args: Render, context: &Context) -> anyhow::Result<()> {
    let manifests = manifests()?;
    let named = !args.blueprints.is_empty();
    let blueprints = manifests::select(&manifests, &args.blueprints)?;
    let names: Vec<_> = blueprints
        .iter()
        .map(|blueprint| blueprint.name.clone())
        .collect();
    let wanted = render::checked_in(&blueprints)?;
    let wanted_schema = blueprint::schema_text();
    let schema_differs = read(&manifests.join(SCHEMA))? != Some(wanted_schema.clone());
    let only = named.then_some(names.as_slice());
    if args.check {
        let mut differences = manifests::differences(&manifests, &wanted, only)?;
        if schema_differs {
            differences.push(format!("{SCHEMA} differs from the schema of the code"));
        }
        for difference in &differences {
            context.output.data(difference);
        }
        return match differences.len() {
            0 => {
                context
                    .output
                    .note(format!("{} files are up to date", wanted.len() + 1));
                Ok(())
            }
            count => Err(Failure::product(format!(
                "{count} file(s) under `manifests/` differ from the rendered ones"
            ))
            .hint("run `cargo xtask render`, review the changes and commit them")
            .into()),
        };
    }
    let mut changed = manifests::write(&manifests, &wanted, only)?;
    if schema_differs {
        let path = manifests.join(SCHEMA);
        std::fs::write(&path, wanted_schema)
            .with_context(|| format!("cannot write `{}`", path.display()))?;
        changed += 1;
    }
    context.output.note(format!(
        "rendered {}: {} files, {changed} changed",
        names.join(", "),
        wanted.len() + 1
    ));
    Ok(())
}

/// Reads a file; `None` if it does not exist.
fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    }
}
