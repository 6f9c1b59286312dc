use e2e::runtime::authorities;
use jiff::Timestamp;

use crate::{
    cli::{Identity, IdentityAction, IdentityExport, IdentityImport, IdentityRotate, IdentityShow},
    context::Context,
    view,
};

pub(crate) async fn run(args: Identity, context: &Context) -> anyhow::Result<()> {
    match args.action {
        IdentityAction::Show(args) => show(args, context).await,
        IdentityAction::Rotate(args) => rotate(args, context).await,
        IdentityAction::Export(args) => export(args, context).await,
        IdentityAction::Import(args) => import(args, context).await,
    }
}

async fn show(args: IdentityShow, context: &Context) -> anyhow::Result<()> {
    let environment = context.environment(args.name.as_deref())?;
    let overview = context
        .interrupt
        .unless(authorities::show(&environment, args.pod.as_deref()))
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
            "a replacement of the root was begun and has not ended; `cargo xtask identity rotate --root` completes it",
        );
    }
    Ok(())
}

async fn rotate(args: IdentityRotate, context: &Context) -> anyhow::Result<()> {
    let name = context.name(args.name.as_deref())?;
    let store = context.holding(&name);
    let timeline = context.output.timeline();
    if args.root {
        let work = authorities::rotate_root(&store, &name, &timeline);
        context.interrupt.unless(work).await?;
        context
            .output
            .say("a new root is in force in every pod; the one before is trusted by none");
        return Ok(());
    }
    let work = authorities::rotate(&store, &name, args.pod.as_deref(), &timeline);
    let count = context.interrupt.unless(work).await?;
    context.output.say(in_force(count));
    Ok(())
}

async fn export(args: IdentityExport, context: &Context) -> anyhow::Result<()> {
    let name = context.name(args.name.as_deref())?;
    let store = context.holding(&name);
    let timeline = context.output.timeline();
    let work = authorities::export(&store, &name, &args.pods, &args.out, &timeline);
    let files = context.interrupt.unless(work).await?;
    for file in &files {
        context.output.data(file.display().to_string());
    }
    context.output.say(format!(
        "sign each as it is, put the certificates as `.crt` beside your `root.crt`, then `cargo xtask identity import DIR --name {name}`"
    ));
    Ok(())
}

async fn import(args: IdentityImport, context: &Context) -> anyhow::Result<()> {
    let name = context.name(args.name.as_deref())?;
    let store = context.holding(&name);
    let timeline = context.output.timeline();
    let work = authorities::import(&store, &name, &args.folder, &timeline);
    let count = context.interrupt.unless(work).await?;
    context.output.say(in_force(count));
    Ok(())
}

fn in_force(count: usize) -> String {
    let s = if count == 1 { "y is" } else { "ies are" };
    format!("{count} new authorit{s} in force")
}
