//! `cargo xtask identity`: shown, replaced, and signed by somebody else's CA.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::bench::{Bench, fixed_ports, turn};

/// Of `identity show --json`: each pod's authority in force, and the current root, by serial number.
fn shown(bench: &Bench) -> (BTreeMap<String, String>, String) {
    let done = bench.run(&["identity", "show", "--json"]);
    let overview = done.assert_code(0).json_lines().remove(0);
    let serial = |value: &Value| value["serial"].as_str().unwrap().to_owned();
    let pods = overview["pods"].as_array().unwrap().iter().map(|pod| {
        assert_eq!(pod["trouble"], Value::Null, "{pod:#}");
        let live = &pod["live"][0];
        assert_eq!(live["authority"], pod["authority"], "{pod:#}");
        (
            pod["pod"].as_str().unwrap().to_owned(),
            serial(&live["authority"]),
        )
    });
    let roots = overview["roots"].as_array().unwrap();
    let current = roots.iter().find(|root| root["standing"] == "current");
    (pods.collect(), serial(current.unwrap()))
}

#[track_caller]
fn openssl(folder: &Path, args: &[&str]) {
    let mut command = Command::new("openssl");
    let done = command.args(args).current_dir(folder).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "openssl {args:?}: {said}");
}

#[test]
fn identities_are_shown_and_replaced() {
    let _ports = fixed_ports();
    let _turn = turn();
    let bench = Bench::new();
    bench.run(&["local-up"]).assert_code(0);
    let (first, root) = shown(&bench);
    assert_eq!(first.len(), 2, "{first:?}");
    let table = bench.run(&["identity", "show"]);
    for text in ["admits", "initiator", "terminator", "current", "here"] {
        table.assert_code(0).assert_data(text);
    }
    let one = bench.run(&["identity", "show", "terminator"]);
    one.assert_code(0).assert_data("initiator");
    bench
        .run(&["identity", "show", "purser"])
        .assert_code(2)
        .assert_says("terminator");

    bench
        .run(&["identity", "rotate", "terminator"])
        .assert_code(0)
        .assert_says("1 pod uses its new authority");
    let (second, same_root) = shown(&bench);
    let changed = |old: &BTreeMap<String, String>, new: &BTreeMap<String, String>| {
        old.iter()
            .filter(|(pod, serial)| new[*pod] != **serial)
            .count()
    };
    assert_eq!((changed(&first, &second), &same_root), (1, &root));

    bench
        .run(&["identity", "rotate", "--root"])
        .assert_code(0)
        .assert_says("all pods use the new root");
    let (third, new_root) = shown(&bench);
    assert_eq!(changed(&second, &third), 2);
    assert_ne!(new_root, root);

    let file = bench.file("their.txt", "");
    let folder = file.parent().unwrap();
    bench
        .run(&["identity", "export", "--out", "/proc/none"])
        .assert_code(2)
        .assert_says("--out");
    let out = folder.join("out");
    let exported = bench.run(&["identity", "export", "--out", out.to_str().unwrap()]);
    exported.assert_code(0);
    let requests: Vec<_> = exported.stdout.lines().map(str::to_owned).collect();
    assert_eq!(requests.len(), 2, "{exported}");
    for request in &requests {
        let text = fs::read_to_string(request).unwrap();
        assert!(!text.contains("PRIVATE"), "a key must not be exported");
    }

    bench
        .run(&["identity", "import", out.to_str().unwrap()])
        .assert_code(2)
        .assert_says("`root.crt` is missing")
        .assert_says("nothing was changed");
    openssl(
        &out,
        &[
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
            "ca.key",
        ],
    );
    openssl(
        &out,
        &[
            "req",
            "-x509",
            "-new",
            "-key",
            "ca.key",
            "-subj",
            "/CN=Their Root",
            "-days",
            "30",
            "-out",
            "root.crt",
        ],
    );
    for request in &requests {
        let certificate = request.replace(".csr", ".crt");
        let sign = [
            "x509", "-req", "-in", request, "-CA", "root.crt", "-CAkey", "ca.key",
        ];
        // Without the extensions that were asked for, as a careless CA would.
        openssl(
            &out,
            &[&sign[..], &["-days", "10", "-out", &certificate]].concat(),
        );
    }
    let careless = bench.run(&["identity", "import", out.to_str().unwrap()]);
    careless
        .assert_code(2)
        .assert_says("has no name constraints")
        .assert_says("has no path length");
    assert_eq!(shown(&bench), (third.clone(), new_root.clone()));
    for request in &requests {
        let certificate = request.replace(".csr", ".crt");
        let sign = [
            "x509", "-req", "-in", request, "-CA", "root.crt", "-CAkey", "ca.key",
        ];
        let whole = [
            "-copy_extensions",
            "copyall",
            "-days",
            "10",
            "-out",
            &certificate,
        ];
        openssl(&out, &[&sign[..], &whole[..]].concat());
    }
    bench
        .run(&["identity", "import", out.to_str().unwrap()])
        .assert_code(0)
        .assert_says("2 pods use their new authorities");
    let (fourth, their_root) = shown(&bench);
    assert_eq!(changed(&third, &fourth), 2);
    assert_ne!(their_root, new_root);
    bench
        .run(&["identity", "show"])
        .assert_data("not here")
        .assert_data("retired");
    bench
        .run(&["identity", "rotate"])
        .assert_code(2)
        .assert_says("the root's key is not in the state folder")
        .assert_says("cargo xtask identity export");

    bench
        .run(&["trigger", "--count", "3"])
        .assert_code(0)
        .assert_says("3 of 3 delivered");
    // What is up is proven again, trails of every root included.
    bench
        .run(&["local-up"])
        .assert_code(0)
        .assert_says("already");
    bench.run(&["identity", "rotate", "--root"]).assert_code(0);
    bench.run(&["local-down"]).assert_code(0);
    bench.assert_nothing_left();
}

#[test]
fn wrong_usage_of_identity_is_refused() {
    let bench = Bench::new();
    for args in [
        &["identity"][..],
        &["identity", "rotate", "sink", "--root"],
        &["identity", "export"],
        &["identity", "import"],
        &["identity", "show"],
        &["identity", "rotate", "--root", "--name", "none"],
    ] {
        let mut command = bench.command(args);
        let done = command.stderr(Stdio::piped()).output().unwrap();
        assert_eq!(done.status.code(), Some(2), "{args:?}: {done:?}");
    }
}
