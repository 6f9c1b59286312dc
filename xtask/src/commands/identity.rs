//! `identity`: shows identities; rotates, exports and imports authorities.

use harness::ops::rotate;
use jiff::Timestamp;

use crate::{
    cli::{Identity, IdentityAction, IdentityExport, IdentityImport, IdentityRotate, IdentityShow},
    context::Context,
    view,
};

/// Runs the subcommand.
pub(crate) async fn run(args: Identity, context: &Context) -> anyhow::Result<()> {
    match args.action {
        IdentityAction::Show(args) => show(args, context).await,
        IdentityAction::Rotate(args) => rotate(args, context).await,
        IdentityAction::Export(args) => export(args, context).await,
        IdentityAction::Import(args) => import(args, context).await,
    }
}

async fn show(args: IdentityShow, context: &Context) -> anyhow::Result<()> {
    let environment = context.environment(args.named.name.as_deref())?;
    let overview = context
        .interrupt
        .unless(rotate::show(&environment, args.pod.as_deref()))
        .await?;
    if args.json {
        context.output.data(serde_json::to_string(&overview)?);
        return Ok(());
    }
    let style = context.output.data_style();
    context
        .output
        .data(view::overview(&overview, Timestamp::now(), style));
    if overview.unfinished {
        context.output.warn(
            "a rotation of the root is incomplete; \
             run `cargo xtask identity rotate --root` to complete it",
        );
    }
    Ok(())
}

async fn rotate(args: IdentityRotate, context: &Context) -> anyhow::Result<()> {
    let name = context.name(args.named.name.as_deref())?;
    let store = context.store_with(&name);
    let timeline = context.output.timeline();
    if args.root {
        let work = rotate::rotate_root(&store, &name, &timeline);
        context.interrupt.unless(work).await?;
        context
            .output
            .note("all pods use the new root; no pod trusts the old one");
        return Ok(());
    }
    let work = rotate::rotate(&store, &name, args.pod.as_deref(), &timeline);
    let count = context.interrupt.unless(work).await?;
    context.output.note(rotated(count));
    Ok(())
}

async fn export(args: IdentityExport, context: &Context) -> anyhow::Result<()> {
    let name = context.name(args.named.name.as_deref())?;
    let store = context.store_with(&name);
    let timeline = context.output.timeline();
    let work = rotate::export(&store, &name, &args.pods, &args.out, &timeline);
    let files = context.interrupt.unless(work).await?;
    for file in &files {
        context.output.data(file.display().to_string());
    }
    context.output.note(format!(
        "sign each request unchanged, put the certificates as `.crt` beside your `root.crt`, \
         then run `cargo xtask identity import DIR --name {name}`"
    ));
    Ok(())
}

async fn import(args: IdentityImport, context: &Context) -> anyhow::Result<()> {
    let name = context.name(args.named.name.as_deref())?;
    let store = context.store_with(&name);
    let timeline = context.output.timeline();
    let work = rotate::import(&store, &name, &args.folder, &timeline);
    let count = context.interrupt.unless(work).await?;
    context.output.note(rotated(count));
    Ok(())
}

fn rotated(count: usize) -> String {
    match count {
        1 => "1 pod uses its new authority".into(),
        count => format!("{count} pods use their new authorities"),
    }
}
