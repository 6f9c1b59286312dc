//! What is generated, whole, for a reader and a reviewer; and Envoy's own opinion of it.

use std::path::PathBuf;

use host::{
    envoy_binary,
    process::{self, CommandLine},
    timeline::Timeline,
};
use rstest::rstest;
use serde_json::{Value, json};

use super::fixture::{Pods, paths};

use render::envoy::{EnvoyPaths, bootstrap, listeners, load_balancer, peers};

fn generated(case: &str) -> Value {
    let ferry = Pods::ferry();
    let in_pod = EnvoyPaths::in_pod();
    match case {
        "gateway" => bootstrap(&ferry.gateway, &in_pod),
        "sink" => bootstrap(&ferry.sink, &in_pod),
        "sink-listeners" => listeners(&ferry.sink, &in_pod).unwrap(),
        "gateway-peers" => peers(&ferry.gateway, &ferry.addresses, &in_pod),
        "fan-out-gateway" => bootstrap(&Pods::fan_out().gateway, &paths()),
        "fan-in-sink" => bootstrap(&Pods::fan_in().sink, &paths()),
        "load-balancer" => load_balancer(
            &[
                (
                    "127.81.0.1:30100".parse().unwrap(),
                    "127.81.0.10:18000".parse().unwrap(),
                ),
                (
                    "127.81.0.1:30101".parse().unwrap(),
                    "127.81.0.11:18000".parse().unwrap(),
                ),
            ],
            "127.81.0.1:9902".parse().unwrap(),
            "admin.sock".as_ref(),
        ),
        _ => panic!("no such case"),
    }
}

/// Compares with the file; `FERRY_UPDATE_GOLDEN=1 cargo test -p e2e --test it golden` writes it instead, for `git diff` to show.
#[rstest]
fn configuration_is_as_in_its_golden_file(
    #[values(
        "gateway",
        "sink",
        "sink-listeners",
        "gateway-peers",
        "fan-out-gateway",
        "fan-in-sink",
        "load-balancer"
    )]
    case: &str,
) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/envoy/golden")
        .join(format!("{case}.json"));
    let text = format!("{:#}\n", generated(case));
    if std::env::var_os("FERRY_UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        text,
        "{} must be what is generated; if the change is meant, run with FERRY_UPDATE_GOLDEN=1",
        file.display()
    );
}

/// Validation does not read a peers file: its clusters are put where it looks.
fn as_bootstrap(mut config: Value) -> Value {
    match config["resources"].take() {
        Value::Array(mut clusters) => {
            for cluster in &mut clusters {
                cluster.as_object_mut().unwrap().remove("@type");
            }
            json!({
                "node": { "id": "test", "cluster": "test" },
                "static_resources": { "clusters": clusters },
            })
        }
        _ => {
            config.as_object_mut().unwrap().remove("resources");
            config
        }
    }
}

/// Envoy refuses unknown fields and values out of range; its warnings, such as on a deprecated field, count as well.
#[rstest]
#[tokio::test]
async fn envoy_accepts_the_configuration(
    #[values(
        "gateway",
        "sink",
        "gateway-peers",
        "fan-out-gateway",
        "fan-in-sink",
        "load-balancer"
    )]
    case: &str,
) {
    let envoy = envoy_binary::envoy(&Timeline::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    // Validation reads the files that the configuration names, so the paths of a pod become relative ones.
    let text = as_bootstrap(generated(case))
        .to_string()
        .replace("/run/ferry/", "")
        .replace("/etc/ferry/", "");
    std::fs::write(folder.path().join("envoy.json"), text).unwrap();
    std::fs::create_dir(folder.path().join("peers")).unwrap();
    std::fs::write(
        folder.path().join("peers/cds.json"),
        generated("gateway-peers").to_string(),
    )
    .unwrap();
    super::live::pki::Pki::new()
        .publish(&folder.path().join("identity"), &super::name("b", "c", "d"));
    // Where the files are in a pod, and where they are on one machine.
    for (pinhole, server) in [
        (EnvoyPaths::in_pod(), "envoy/pinhole.json"),
        (paths(), "pinhole.json"),
    ] {
        let text = render::envoy::pinhole(&pinhole)
            .to_string()
            .replace("/etc/ferry/", "");
        super::live::lab::replace(
            &folder.path().join(server),
            &serde_json::from_str(&text).unwrap(),
        );
    }
    for file in ["envoy/listeners.json", "listeners.json"] {
        let text = generated("sink-listeners")
            .to_string()
            .replace("/run/ferry/", "")
            .replace("/etc/ferry/", "");
        super::live::lab::replace(
            &folder.path().join(file),
            &serde_json::from_str(&text).unwrap(),
        );
    }
    let root = identity::Root::create("golden").unwrap();
    let server = root.server(&super::name("b", "c", "d")).unwrap();
    server.save(&folder.path().join("pinhole")).unwrap();
    let done = process::run(
        &CommandLine::new(envoy.to_string_lossy())
            .args(["--mode", "validate", "--config-path", "envoy.json"])
            .args(["--log-level", "warning"])
            .folder(folder.path()),
    )
    .await
    .unwrap();
    assert_eq!(done.stdout.trim(), "configuration 'envoy.json' OK");
    assert_eq!(done.stderr.trim(), "", "Envoy must have nothing to warn of");
}
