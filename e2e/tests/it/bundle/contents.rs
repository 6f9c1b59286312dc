//! What is in a bundle, and what is not.

use std::{
    collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command,
    time::Duration,
};

use blueprint::{Target, failure::Failure};
use harness::ops::bundle::{self, Request, SECRETS_FILE};
use identity::{Authority, AuthorityRequest, Root, Validity};
use messages::WorkloadName;

use super::fake::{Operator, request, shipped};

/// Path → (mode, content), folders left out.
fn files(folder: &Path) -> BTreeMap<String, (u32, String)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        assert_eq!(mode(&next), 0o700, "{}", next.display());
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.insert(name, (mode(&path), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn bundle_is_complete_without_root_key() {
    let operator = Operator::new("international-ferry", &[]);
    let found = files(&operator.bundle);
    for name in [
        "README.md",
        "blueprint.yaml",
        ".gitignore",
        "gateway/08-deployment.yaml",
        "sink/08-statefulset.yaml",
        "sink/01-namespace.yaml",
    ] {
        assert!(found.contains_key(name), "no {name} in {:?}", found.keys());
    }
    let root = fs::read_to_string(operator.written.identity.join("identity/root.key")).unwrap();
    let key = root.lines().nth(1).unwrap();
    assert!(key.len() > 60, "a line of the key is looked for");
    for (name, (mode, text)) in &found {
        let secret = name.ends_with(SECRETS_FILE);
        let expected = match name.rsplit('.').next().unwrap() {
            _ if secret => 0o600,
            "sh" => 0o755,
            _ => 0o644,
        };
        assert_eq!(*mode, expected, "{name}");
        assert_eq!(text.contains("PRIVATE KEY"), secret, "{name}");
        assert!(!text.contains(key), "{name} holds the root's key");
        assert!(!text.contains("unset:"), "{name} was not filled");
    }
    assert!(found[".gitignore"].1.contains(SECRETS_FILE));
    assert_eq!(mode(&operator.written.identity), 0o700);
    assert_eq!(operator.written.files + 1, found.len(), "all, and the mark");
}

#[test]
fn registry_credentials_are_in_key_files_alone() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    fs::write(
        &config,
        r#"{"auths":{"registry.example":{"auth":"bWU6czNjcmV0"},"other.example":{"auth":"b3RoZXI="}}}"#,
    )
    .unwrap();
    let write = |name: &str, pull_secret: Option<&Path>| {
        let out = folder.path().join(name);
        bundle::write(&Request {
            pull_secret: pull_secret.map(Path::to_owned),
            identity: Some(folder.path().join("identity")),
            ..request(shipped("international-ferry"), Target::Gke, out.clone())
        })
        .unwrap();
        files(&out)
    };
    let (without, with) = (write("without", None), write("with", Some(&config)));
    assert!(without.keys().eq(with.keys()), "the files are the same");
    for (name, (mode, text)) in &with {
        let is_secret = name.ends_with(SECRETS_FILE);
        assert_eq!(text.contains("bWU6czNjcmV0"), is_secret, "{name}");
        assert!(!text.contains("b3RoZXI="), "{name}: another registry's");
        let is_controller = name.ends_with("deployment.yaml") || name.ends_with("statefulset.yaml");
        let changed = is_secret || is_controller || name == "README.md";
        assert_eq!(*text != without[name].1, changed, "{name}");
        if is_secret {
            assert_eq!(*mode, 0o600, "{name}");
            let pod = name.split('/').next().unwrap();
            let secret = text.split("---").last().unwrap();
            for line in [
                "  name: registry".to_owned(),
                format!("  namespace: international-ferry-{pod}-ns"),
                "type: kubernetes.io/dockerconfigjson".to_owned(),
            ] {
                assert!(
                    secret.lines().any(|other| other == line),
                    "{line}: {secret}"
                );
            }
        }
        if is_controller {
            assert!(
                text.contains("imagePullSecrets:\n      - name: registry\n"),
                "{text}"
            );
        }
    }
    let page = &with["README.md"].1;
    assert!(
        page.contains("the Secret `registry` of each namespace"),
        "{page}"
    );
    assert!(!without["README.md"].1.contains("credentials"));
}

#[test]
fn the_same_identities_make_the_same_archive() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, identity: &str| {
        let path = folder.path().join(name).join("ferry.tar.gz");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        bundle::write(&Request {
            identity: Some(folder.path().join(identity)),
            ..request(shipped("grand-tour-ferry"), Target::Eks, path.clone())
        })
        .unwrap();
        assert_eq!(mode(&path), 0o600);
        fs::read(path).unwrap()
    };
    let [first, second, other] = [at("1", "one"), at("2", "one"), at("3", "another")];
    assert!(
        first == second,
        "the same identities must make the same bytes"
    );
    assert!(first != other, "other identities are other keys");

    // What tar makes of it is what the folder is.
    let unpacked = Command::new("tar")
        .args(["--extract", "--gzip", "--file", "1/ferry.tar.gz"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(unpacked.status.success(), "{unpacked:?}");
    let out = folder.path().join("folder");
    bundle::write(&Request {
        identity: Some(folder.path().join("one")),
        ..request(shipped("grand-tour-ferry"), Target::Eks, out.clone())
    })
    .unwrap();
    let mut expected = files(&out);
    expected.remove(".ferry-bundle").unwrap();
    assert_eq!(files(&folder.path().join("ferry")), expected);
}

#[test]
fn a_bundle_replaces_a_bundle_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let request = request(shipped("international-ferry"), Target::Gke, out.clone());
    bundle::write(&request).unwrap();
    fs::write(out.join("addresses"), "cluster-b/sink=192.0.2.1\n").unwrap();
    fs::write(out.join("stale"), "").unwrap();
    bundle::write(&request).unwrap();
    assert!(
        out.join("addresses").exists(),
        "what scripts recorded stays"
    );
    assert!(!out.join("stale").exists());
    // Of another root it is another environment, and nothing that was recorded is true.
    let other = Request {
        identity: Some(folder.path().join("other")),
        ..request.clone()
    };
    bundle::write(&other).unwrap();
    assert!(!out.join("addresses").exists());

    let foreign = folder.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("thesis"), "x").unwrap();
    let error = bundle::write(&Request {
        out: Some(foreign.clone()),
        ..request
    })
    .unwrap_err();
    assert!(
        error.to_string().contains("exists and is not a bundle"),
        "{error}"
    );
    assert_eq!(Failure::exit_code(&error), 2);
    assert!(foreign.join("thesis").exists() && !folder.path().join("foreign.identity").exists());
}

#[test]
fn what_cannot_be_bundled_is_refused() {
    let [folder, elsewhere] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    fs::write(
        elsewhere.path().join("config.json"),
        r#"{"auths":{"other.example":{"auth":"dTpw"}}}"#,
    )
    .unwrap();
    let out = folder.path().join("out");
    let good = request(shipped("international-ferry"), Target::Generic, out.clone());
    let refused = |request: Request, says: &str| {
        let error = bundle::write(&request).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(Failure::exit_code(&error), 2, "{error}");
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            0,
            "nothing may be written"
        );
    };
    refused(
        Request {
            target: Target::K3d,
            ..good.clone()
        },
        "cannot target `k3d`",
    );
    refused(
        Request {
            image: "a b".into(),
            ..good.clone()
        },
        "invalid image name",
    );
    refused(
        Request {
            identity: Some(out.join("mine")),
            ..good.clone()
        },
        "is inside the bundle",
    );
    refused(
        Request {
            pull_secret: Some(elsewhere.path().join("config.json")),
            ..good.clone()
        },
        "it holds credentials for `other.example`",
    );
    let given = vec!["cluster-z=192.0.2.1".parse().unwrap()];
    refused(
        Request {
            addresses: given,
            ..good
        },
        "which has no pod",
    );
}

#[test]
fn an_authority_near_its_end_is_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let request = request(
        shipped("international-ferry"),
        Target::Aks,
        folder.path().join("out"),
    );
    let identity = bundle::write(&request).unwrap().identity;
    let name: WorkloadName = "sink.cluster-b.international-ferry.ferry.internal"
        .parse()
        .unwrap();
    let place = identity.join("pods/international-ferry.cluster-b.sink/authority");
    let root = Root::load(&identity.join("identity")).unwrap();
    let days = |count: u64| Validity::lasting(Duration::from_secs(count * 24 * 60 * 60));
    for (left, renewed) in [(31, false), (29, true)] {
        let old = root
            .authority_as_asked(&AuthorityRequest::of(&name, days(left)))
            .unwrap();
        old.save(&place).unwrap();
        bundle::write(&request).unwrap();
        let now = Authority::load(&place).unwrap();
        assert_eq!(
            now.report().unwrap() != old.report().unwrap(),
            renewed,
            "{left} days left"
        );
        let secrets =
            fs::read_to_string(folder.path().join("out/sink").join(SECRETS_FILE)).unwrap();
        let line = now.certificate_pem().lines().nth(3).unwrap();
        assert!(
            secrets.contains(line),
            "the bundle must have the one in force"
        );
    }
}
