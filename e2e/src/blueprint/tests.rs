use super::*;

/// Where the project keeps its blueprints.
fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

#[test]
fn the_shipped_blueprints_are_what_the_design_says() {
    let shipped = all(&manifests()).unwrap();
    let seen: Vec<_> = shipped
        .iter()
        .map(|blueprint| (blueprint.title.as_str(), blueprint.protocol))
        .collect();
    assert_eq!(
        seen,
        [
            ("Fast International Ferry", Protocol::Websocket),
            ("International Ferry", Protocol::Grpc)
        ]
    );
    for blueprint in &shipped {
        assert_eq!(blueprint.clusters, ["cluster-a", "cluster-b"]);
        assert_eq!(blueprint.messages, 5);
        let pods: Vec<_> = blueprint
            .pods
            .iter()
            .map(|pod| (pod.role, pod.cluster.as_str(), pod.port, pod.pinhole))
            .collect();
        assert_eq!(
            pods,
            [
                (Role::Gateway, "cluster-a", 30100, true),
                (Role::Sink, "cluster-b", 30200, true)
            ]
        );
    }
}

/// `FERRY_UPDATE=1` writes the file instead of comparing it.
#[test]
fn the_schema_that_is_checked_in_is_the_one_of_the_types() {
    let path = manifests().join(SCHEMA_FILE_NAME);
    if std::env::var_os("FERRY_UPDATE").is_some() {
        std::fs::write(&path, schema_text()).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == schema_text(),
        "{} is out of date: run `FERRY_UPDATE=1 cargo test -p e2e schema`",
        path.display()
    );
}
