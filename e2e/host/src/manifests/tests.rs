use blueprint::Edge;
use messages::{Protocol, Role};

use super::*;

/// A good blueprint; cases replace words of it.
const GOOD: &str = "\
# yaml-language-server: $schema=../blueprint.schema.json
name: tour
title: Tour
protocol: grpc
clusters: [a, b]
pods:
  - name: gate
    role: gateway
    cluster: a
    port: 30100
  - name: end
    role: sink
    cluster: b
    port: 30300
connections:
  - from: gate
    to: [end]
";

/// Where the project keeps its blueprints.
fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests")
}

#[test]
fn first_two_ferries_match_design() {
    for (name, title, protocol) in [
        (
            "fast-international-ferry",
            "Fast International Ferry",
            Protocol::Websocket,
        ),
        ("international-ferry", "International Ferry", Protocol::Grpc),
    ] {
        let ferry = load(find(&manifests(), name).unwrap()).unwrap();
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
fn shipped_blueprints_are_valid_and_name_schema() {
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
fn bad_file_lists_every_problem_on_a_line() {
    let bad = GOOD
        .replace("port: 30100", "port: 80")
        .replace("grpc", "mqtt");
    let folder = folder_with(&[("bad.yaml", bad.as_bytes())]);
    let path = folder.path().join("bad.yaml");
    let shown = path.display();
    let (text, _) = usage(load(&path));
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
fn unreadable_text_is_usage_failure() {
    let folder = folder_with(&[("latin.yaml", b"name: tour\ntitle: F\xe4hre\n")]);
    let load = |name: &str| usage(load(folder.path().join(name))).0;
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
    let (text, _) = usage(load(&path));
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
fn unknown_name_lists_known_ones() {
    let (text, hint) = usage(find(&manifests(), "internatonal-ferry"));
    assert!(
        text.starts_with("unknown blueprint `internatonal-ferry`"),
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
fn problems_of_several_files_are_joined() {
    let bad = GOOD.replace("port: 30100", "port: 80");
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
    assert!(text.starts_with("no blueprint found under"), "{text}");
}

#[test]
fn what_is_checked_in_is_what_the_plan_renders() {
    let files = render::checked_in(&all(&manifests()).unwrap()).unwrap();
    assert!(!files.is_empty());
    let differences = differences(&manifests(), &files, None).unwrap();
    assert!(
        differences.is_empty(),
        "run `cargo xtask render`:\n{}",
        differences.join("\n")
    );
}

#[test]
fn changed_missing_and_foreign_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let files: BTreeMap<String, String> =
        [("b/c/p/01-a.yaml", "one\n"), ("b/c/p/02-b.yaml", "two\n")]
            .map(|(path, text)| (path.into(), text.into()))
            .into();
    assert_eq!(write(folder.path(), &files, None).unwrap(), 2);
    assert!(differences(folder.path(), &files, None).unwrap().is_empty());
    std::fs::write(folder.path().join("b/c/p/01-a.yaml"), "one\r\n").unwrap();
    let found = differences(folder.path(), &files, None).unwrap();
    assert!(
        matches!(&found[..], [one] if one.starts_with("b/c/p/01-a.yaml has the line ends of Windows")),
        "{found:?}"
    );
    std::fs::write(folder.path().join("b/c/p/01-a.yaml"), "other").unwrap();
    std::fs::rename(
        folder.path().join("b/c/p/02-b.yaml"),
        folder.path().join("b/c/p/03-c.yaml"),
    )
    .unwrap();
    let expected = [
        "b/c/p/01-a.yaml is not what the plan renders",
        "b/c/p/02-b.yaml is missing",
        "b/c/p/03-c.yaml is no longer rendered",
    ];
    assert_eq!(differences(folder.path(), &files, None).unwrap(), expected);
    assert_eq!(write(folder.path(), &files, None).unwrap(), 3);
    assert!(differences(folder.path(), &files, None).unwrap().is_empty());
}
