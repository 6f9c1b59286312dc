//! What owns an environment removes it, whatever happens to it.

use e2e::testing::{Setup, assert_delivered};
use host::{
    environment::{Found, Name, Store, workspace_root},
    manifests,
    process::processes_under,
};

fn state() -> (tempfile::TempDir, Store) {
    let folder = tempfile::Builder::new().prefix("ferry-").tempdir().unwrap();
    let store = Store::at(folder.path().join("state"));
    (folder, store)
}

#[tokio::test]
async fn a_run_that_is_dropped_leaves_nothing() -> anyhow::Result<()> {
    let (_folder, store) = state();
    let name = Name::unique("test")?;
    let path = manifests::find(&workspace_root()?.join("manifests"), "international-ferry")?;
    let setup = Setup::with(manifests::load(path)?).state(store.clone());
    let (mut run, request) = setup.prepare(name)?;
    let environment = run.up(request).await?;
    assert!(!processes_under(environment.layout().root())?.is_empty());
    drop(run);
    assert!(store.list()?.is_empty());
    assert_eq!(processes_under(environment.layout().root())?, []);
    Ok(())
}

#[tokio::test]
async fn panicking_test_leaves_evidence_alone() -> anyhow::Result<()> {
    let (_folder, store) = state();
    let setup = Setup::of("international-ferry").state(store.clone());
    let panicked = tokio::spawn(setup.run(|ferry| async move {
        assert_delivered(&ferry.messages().prove().await?, 5);
        panic!("on purpose");
    }));
    assert!(panicked.await.unwrap_err().is_panic());
    let found = store.list()?;
    let [Found::Environment(kept)] = &found[..] else {
        panic!("the evidence must be kept: {found:#?}");
    };
    let evidence = std::fs::read_to_string(kept.layout().root().join("evidence.txt"))?;
    assert!(evidence.contains("panicked"), "{evidence}");
    assert_eq!(processes_under(store.root())?, []);
    Ok(())
}

#[tokio::test]
async fn failing_test_names_cause_and_evidence() -> anyhow::Result<()> {
    let (_folder, store) = state();
    let setup = Setup::of("international-ferry").state(store.clone());
    let error = setup
        .run(|_| async { anyhow::bail!("not today") })
        .await
        .unwrap_err();
    let text = format!("{error:#}");
    for part in ["not today", "evidence: `", "Auto-trigger complete"] {
        assert!(text.contains(part), "the error must hold `{part}`: {text}");
    }
    Ok(())
}
