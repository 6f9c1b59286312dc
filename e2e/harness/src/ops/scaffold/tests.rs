use std::process::{Command, Stdio};

use host::manifests;

use super::*;

/// A tree with what a scaffold reads: two blueprints and the list of tests.
struct Tree(tempfile::TempDir);

const LIST: &str = "//! Tests.\n\n#![allow(clippy::unwrap_used)]\n\nmod fast_international_ferry;\nmod international_ferry;\nmod tidy;\n";

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests");
        for name in ["fast-international-ferry", "international-ferry"] {
            let folder = tree.root().join("manifests").join(name);
            fs::create_dir_all(&folder).unwrap();
            let file = Path::new(name).join(blueprint::FILE_NAME);
            fs::copy(real.join(file), folder.join(blueprint::FILE_NAME)).unwrap();
        }
        fs::create_dir_all(tree.root().join(TESTS)).unwrap();
        fs::write(tree.list(), LIST).unwrap();
        tree
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn list(&self) -> PathBuf {
        self.root().join(TESTS).join("main.rs")
    }

    /// Every file and folder with the text of a file.
    fn content(&self) -> BTreeMap<PathBuf, Option<String>> {
        let mut content = BTreeMap::new();
        let mut open = vec![self.root().to_path_buf()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                content.insert(path.clone(), fs::read_to_string(&path).ok());
                if path.is_dir() {
                    open.push(path);
                }
            }
        }
        content
    }
}

fn wish(name: &str, clusters: &[&str]) -> Wish {
    Wish {
        name: name.into(),
        protocol: Protocol::Grpc,
        clusters: clusters.iter().map(|cluster| (*cluster).into()).collect(),
    }
}

#[test]
fn scaffold_writes_chain_on_free_ports() {
    let tree = Tree::new();
    let wished = wish("island-ferry", &["mainland", "island", "skerry"]);
    let scaffold = Scaffold::of(tree.root(), &wished).unwrap();
    scaffold.write().unwrap();
    let found = manifests::load(scaffold.blueprint.path()).unwrap();
    assert_eq!(found, scaffold.blueprint);
    assert_eq!(found.title, "Island Ferry");
    let pods: Vec<_> = found
        .pods
        .iter()
        .map(|pod| (&*pod.name, pod.role.as_str(), &*pod.cluster, pod.port))
        .collect();
    assert_eq!(
        pods,
        [
            ("gateway", "gateway", "mainland", 30110),
            ("processor", "processor", "island", 30210),
            ("sink", "sink", "skerry", 30310)
        ]
    );
    let route: Vec<_> = found.edges().map(|edge| (edge.from, edge.to)).collect();
    assert_eq!(route, [("gateway", "processor"), ("processor", "sink")]);
    assert_eq!(
        fs::read_to_string(tree.list()).unwrap(),
        LIST.replace("mod tidy;", "mod island_ferry;\nmod tidy;")
    );

    let manifests = tree.root().join("manifests");
    let rendered = render::checked_in(std::slice::from_ref(&found)).unwrap();
    assert_eq!(rendered.len(), scaffold.manifests().1);
    let only = [found.name];
    let differences = manifests::differences(&manifests, &rendered, Some(&only)).unwrap();
    assert_eq!(differences, Vec::<String>::new());

    let next = Scaffold::of(tree.root(), &wish("skerry-ferry", &["a", "b"])).unwrap();
    let ports: Vec<_> = next.blueprint.pods.iter().map(|pod| pod.port).collect();
    assert_eq!(ports, [30120, 30220]);
}

#[test]
fn many_clusters_have_a_processor_each() {
    let tree = Tree::new();
    let clusters: Vec<_> = (1..=32).map(|number| format!("c{number}")).collect();
    let names: Vec<_> = clusters.iter().map(String::as_str).collect();
    let scaffold = Scaffold::of(tree.root(), &wish("long-ferry", &names)).unwrap();
    assert_eq!(scaffold.blueprint.pods[30].name, "processor-30");
}

#[test]
fn yaml_keywords_as_names_are_quoted() {
    let tree = Tree::new();
    let clusters = ["no", "1", "1e3", "null", "a"];
    let scaffold = Scaffold::of(tree.root(), &wish("on", &clusters)).unwrap();
    assert_eq!(scaffold.blueprint.name, "on");
    assert_eq!(scaffold.blueprint.clusters, clusters);
}

#[track_caller]
fn assert_refused(tree: &Tree, wish: &Wish, reason: &str) {
    let before = tree.content();
    let error = Scaffold::of(tree.root(), wish).unwrap_err();
    assert_eq!(Failure::exit_code(&error), 2, "{error:#}");
    let text = format!("{error:#}");
    assert!(text.contains(reason), "`{reason}` must be in: {text}");
    assert_eq!(tree.content(), before, "nothing must be written");
}

#[test]
fn bad_names_are_refused() {
    let tree = Tree::new();
    let long = "x".repeat(60);
    for (name, reason) in [
        (
            "Island Ferry",
            "invalid name of a blueprint: \"Island Ferry\"",
        ),
        ("", "invalid name of a"),
        ("../up", "invalid name of a"),
        ("-ferry", "invalid name of a"),
        ("7-seas", "the Rust module `7_seas`"),
        ("match", "the Rust module `match`"),
        (&long, "use at most"),
        ("international-ferry", "international-ferry` already exists"),
        ("tidy", "tidy.rs` already exists"),
        ("main", "main.rs` already exists"),
    ] {
        if name == "tidy" {
            fs::write(tree.root().join(TESTS).join("tidy.rs"), "").unwrap();
        }
        assert_refused(&tree, &wish(name, &["a", "b"]), reason);
    }
}

#[test]
fn bad_clusters_are_refused() {
    let tree = Tree::new();
    let many: Vec<_> = (1..=33).map(|number| format!("c{number}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for (clusters, reason) in [
        (&["a"][..], "a ferry needs two clusters, not 1"),
        (&[], "two clusters, not 0"),
        (&["a", "b", "a"], "cluster `a` is named twice"),
        (&["a", ""], "invalid name of a cluster"),
        (&["a", "B"], "invalid name of a cluster: \"B\""),
        (&many, "would not be a valid blueprint"),
    ] {
        assert_refused(&tree, &wish("island-ferry", clusters), reason);
    }
}

#[test]
fn taken_namespace_is_refused() {
    let tree = Tree::new();
    let folder = tree.root().join("manifests/island");
    fs::create_dir(&folder).unwrap();
    let text = "name: island\ntitle: Island\nprotocol: grpc\nclusters: [a]\npods:\n- {name: ferry-gateway, role: gateway, cluster: a, port: 4000}\n- {name: sink, role: sink, cluster: a, port: 4001}\nconnections:\n- {from: ferry-gateway, to: sink}\n";
    fs::write(folder.join(blueprint::FILE_NAME), text).unwrap();
    let wished = wish("island-ferry", &["a", "b"]);
    assert_refused(&tree, &wished, "island-ferry-gateway-ns");
}

#[test]
fn a_failed_write_leaves_nothing() {
    let tree = Tree::new();
    let scaffold = Scaffold::of(tree.root(), &wish("island-ferry", &["a", "b"])).unwrap();
    // Somebody else was faster.
    fs::write(tree.root().join(TESTS).join("island_ferry.rs"), "theirs").unwrap();
    let before = tree.content();
    let error = scaffold.write().unwrap_err();
    assert!(
        format!("{error:#}").contains("island_ferry.rs"),
        "{error:#}"
    );
    assert_eq!(tree.content(), before);
}

#[test]
fn new_test_is_formatted_like_existing_ones() {
    let tree = Tree::new();
    // Around the width where rustfmt breaks the list of pods.
    for length in 1..30 {
        let cluster = "c".repeat(length);
        let wished = wish("island-ferry", &[&cluster, "b"]);
        let scaffold = Scaffold::of(tree.root(), &wished).unwrap();
        assert_formatted(&scaffold.test.1);
    }
    let mut like = wish("international-ferry", &["cluster-a", "cluster-b"]);
    let stops = chain(&like.clusters, &[]).unwrap();
    like.clusters.reverse();
    let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/it/international_ferry.rs");
    // The comment above it says more than can be known.
    let body = |text: &str| text.split_once("\n\n").unwrap().1.to_owned();
    assert_eq!(
        body(&text::test(&like, &stops)),
        body(&fs::read_to_string(real).unwrap())
    );
}

#[track_caller]
fn assert_formatted(text: &str) {
    let mut rustfmt = Command::new("rustfmt")
        .args(["--check", "--edition", "2024"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = rustfmt.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let done = rustfmt.wait_with_output().unwrap();
    let difference = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{difference}");
}
