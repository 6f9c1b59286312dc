//! `new`: writes a blueprint, its test and its manifests.

use std::path::Path;

use harness::ops::scaffold::{Scaffold, Wish};
use host::environment::workspace_root;

use crate::{cli::New, context::Context};

/// Runs the command.
pub(crate) async fn run(args: New, context: &Context) -> anyhow::Result<()> {
    let root = workspace_root()?;
    let options = Wish {
        name: args.name,
        protocol: args.protocol,
        clusters: args.clusters,
    };
    let scaffold = Scaffold::of(&root, &options)?;
    scaffold.write()?;
    let below = |path: &Path| {
        path.strip_prefix(&root)
            .unwrap_or(path)
            .display()
            .to_string()
    };
    let [blueprint, test, list] = scaffold.paths().map(below);
    let (folder, count) = scaffold.manifests();
    let (name, module) = (&scaffold.blueprint.name, scaffold.module());
    for path in [&blueprint, &test] {
        context.output.data(format!("wrote `{path}`"));
    }
    context.output.data(format!(
        "added `mod {module};` to `{list}`\nrendered {count} manifests below `{}`",
        below(folder)
    ));
    context.output.note(format!(
        "run it:           cargo xtask e2e {name} --runtime embedded\n\
         test it:          cargo test -p e2e --test it {module}\n\
         after a change:   cargo xtask render {name}"
    ));
    Ok(())
}
