//! The files: those that are shipped, those that are no blueprints, and how a name finds one.

use super::*;

/// Where the project keeps its blueprints.
fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

#[test]
fn the_two_first_ferries_are_what_the_design_says() {
    for (name, title, protocol) in [
        (
            "fast-international-ferry",
            "Fast International Ferry",
            Protocol::Websocket,
        ),
        ("international-ferry", "International Ferry", Protocol::Grpc),
    ] {
        let ferry = Blueprint::load(find(&manifests(), name).unwrap()).unwrap();
        assert_eq!((ferry.name.as_str(), ferry.title.as_str()), (name, title));
        assert_eq!((ferry.protocol, ferry.messages), (protocol, 5));
        assert_eq!(ferry.clusters, ["cluster-a", "cluster-b"]);
        let pods: Vec<_> = ferry
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
        assert_eq!(
            ferry.edges().collect::<Vec<_>>(),
            [Edge {
                from: &ferry.pods[0].name,
                to: &ferry.pods[1].name,
                protocol
            }]
        );
    }
}

#[test]
fn every_shipped_blueprint_is_good_and_names_its_schema() {
    for blueprint in all(&manifests()).unwrap() {
        let text = std::fs::read_to_string(blueprint.path()).unwrap();
        assert_eq!(
            text.lines().next(),
            Some("# yaml-language-server: $schema=../blueprint.schema.json"),
            "first line of {}",
            blueprint.path().display()
        );
    }
}

/// The properties of a type in the schema, each with whether it is required.
fn properties(schema: &serde_json::Value) -> Vec<(String, bool)> {
    let none = vec![];
    let required = schema["required"].as_array().unwrap_or(&none);
    let properties = schema["properties"].as_object().unwrap();
    let mut properties: Vec<_> = properties
        .keys()
        .map(|name| (name.clone(), required.contains(&name.as_str().into())))
        .collect();
    properties.sort();
    properties
}

#[test]
fn the_schema_and_the_parser_know_the_same_keys() {
    let schema = schema();
    for (keys, of) in [
        (keys::BLUEPRINT_KEYS, &schema),
        (keys::POD_KEYS, &schema["definitions"]["Pod"]),
        (keys::CONNECTION_KEYS, &schema["definitions"]["Connection"]),
        (keys::TARGET_KEYS, &schema["definitions"]["Targets"]),
        (keys::GKE_KEYS, &schema["definitions"]["GkeAddress"]),
        (keys::EKS_KEYS, &schema["definitions"]["EksAddress"]),
        (keys::AKS_KEYS, &schema["definitions"]["AksAddress"]),
        (keys::GENERIC_KEYS, &schema["definitions"]["GenericAddress"]),
    ] {
        let mut known: Vec<_> = keys
            .iter()
            .map(|key| (key.name.to_owned(), key.required))
            .collect();
        known.sort();
        assert_eq!(known, properties(of));
        assert_eq!(of["additionalProperties"], false);
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

/// The text of the usage failure that `result` must be.
#[track_caller]
fn usage<T: std::fmt::Debug>(result: anyhow::Result<T>) -> (String, String) {
    let error = result.unwrap_err();
    assert_eq!(Failure::exit_code(&error), 2, "{error:#}");
    let hint = Failure::of(&error).unwrap().next_step().unwrap_or_default();
    (error.to_string(), hint.to_owned())
}

fn folder_with(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, bytes) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    folder
}

#[test]
fn a_bad_file_is_a_usage_failure_with_every_problem_on_a_line() {
    let bad = with(&[(10, "    port: 80"), (4, "protocol: mqtt")]);
    let folder = folder_with(&[("bad.yaml", bad.as_bytes())]);
    let path = folder.path().join("bad.yaml");
    let shown = path.display();
    let (text, _) = usage(Blueprint::load(&path));
    assert_eq!(
        text,
        format!(
            "blueprint `{shown}` has 2 problems\n\
             {shown}:4: `protocol` must be one of `websocket`, `grpc`, not `mqtt`; write for example `protocol: websocket`\n\
             {shown}:10: `port` must be a whole number from 1024 to 65535, not `80`; write for example `port: 30100`"
        )
    );
}

#[test]
fn what_cannot_be_read_as_text_is_a_usage_failure() {
    let folder = folder_with(&[("latin.yaml", b"name: tour\ntitle: F\xe4hre\n")]);
    let load = |name: &str| usage(Blueprint::load(folder.path().join(name))).0;
    assert!(
        load("latin.yaml").ends_with("latin.yaml:2: not UTF-8; write the file again as UTF-8 text")
    );
    let missing = load("none.yaml");
    assert!(
        missing.contains("cannot be read: No such file"),
        "{missing}"
    );
    assert!(load(".").ends_with("is no file; give the path of a blueprint file"));
}

#[test]
fn a_file_of_50_mb_is_refused_by_its_size() {
    let folder = folder_with(&[]);
    let path = folder.path().join("large.yaml");
    // Sparse: reading it would still be 50 MB.
    File::create(&path).unwrap().set_len(50_000_000).unwrap();
    let (text, _) = usage(Blueprint::load(&path));
    assert!(
        text.ends_with("has 50000000 bytes, more than the 1048576 that a blueprint may have; give the path of a blueprint file"),
        "{text}"
    );
}

#[test]
fn a_name_or_a_path_finds_a_blueprint() {
    let folder = folder_with(&[("tour/blueprint.yaml", GOOD.as_bytes())]);
    let file = folder.path().join("tour/blueprint.yaml");
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    for text in [
        "tour".to_owned(),
        path(&file),
        path(&folder.path().join("tour")),
    ] {
        assert_eq!(find(folder.path(), &text).unwrap(), file, "`{text}`");
    }
    let twice = select(folder.path(), &["tour".into(), path(&file)]).unwrap();
    assert_eq!(twice.len(), 1, "one file is one blueprint");
}

#[test]
fn an_unknown_name_is_answered_with_the_known_ones() {
    let (text, hint) = usage(find(&manifests(), "internatonal-ferry"));
    assert!(
        text.starts_with("no blueprint `internatonal-ferry`"),
        "{text}"
    );
    assert!(text.contains("`fast-international-ferry`, "), "{text}");
    assert_eq!(hint, "did you mean `international-ferry`?");
    let (_, hint) = usage(find(&manifests(), "../etc/passwd"));
    assert_eq!(
        hint,
        "give one of these names, or the path of a blueprint file"
    );
}

#[test]
fn the_problems_of_several_files_are_said_together() {
    let bad = with(&[(10, "    port: 80")]);
    let folder = folder_with(&[
        ("one/blueprint.yaml", bad.as_bytes()),
        ("tour/blueprint.yaml", GOOD.as_bytes()),
        ("two/blueprint.yaml", b""),
        ("schema.json", b"{}"),
    ]);
    let (text, _) = usage(all(folder.path()));
    let lines: Vec<_> = text.lines().collect();
    assert!(
        matches!(lines[..], [first, _, second, _]
            if first.ends_with("one/blueprint.yaml` has 1 problem") && second.ends_with("two/blueprint.yaml` has 1 problem")),
        "{text}"
    );
    let (text, _) = usage(all(folder_with(&[]).path()));
    assert!(text.starts_with("no blueprint under"), "{text}");
}
