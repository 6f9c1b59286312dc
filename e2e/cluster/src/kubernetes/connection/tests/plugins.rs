use super::*;

fn with_plugin(server: &Fake, script: &str, mode: &str) -> serde_json::Value {
    let mut config = kubeconfig(json!({ "server": format!("http://{}", server.address) }));
    config["users"][0]["user"] = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "sh",
        "args": ["-c", script],
        "env": [{ "name": "PLUGIN_SECRET", "value": "s3cret-of-the-plugin" }],
        "interactiveMode": mode,
    }});
    config
}

#[tokio::test]
async fn plugin_gives_token_without_its_stderr() {
    let server = fake(Answer::Version, None).await;
    let printed = json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": { "token": TOKEN },
    });
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let script = format!(
        "echo 'a new version is out' >&2; echo x >>{}; echo '{printed}'",
        runs.display()
    );
    let version = ask(with_plugin(&server, &script, "Never"), &[]).await;
    assert_eq!(version.as_deref(), Ok("v1.34.0"));
    assert_asked(&server, "/version");
    let runs = std::fs::read_to_string(runs).unwrap();
    assert_eq!(
        runs, "x\n",
        "a program may ask a person, or a service that counts"
    );
}

#[tokio::test]
async fn a_plugin_that_fails_says_why_and_no_secret() {
    let server = fake(Answer::Version, None).await;
    for (script, says) in [
        (
            "echo s3cret; echo 'log in first' >&2; echo >&2; exit 7",
            "exit status: 7: log in first",
        ),
        ("echo s3cret; exit 1", "exit status: 1"),
        ("echo '{s3cret'", "printed no ExecCredential"),
    ] {
        let error = connect(with_plugin(&server, script, "Never"), &[])
            .await
            .err()
            .unwrap();
        let text = format!("{error:#}");
        assert!(
            text.contains(says) && text.contains("context `x`"),
            "{text}"
        );
        assert!(!text.contains("s3cret"), "{text}");
        assert_eq!(Failure::exit_code(&error), 3);
    }
    assert!(server.heard().is_empty());
}

#[test]
fn plugin_gets_terminal_only_if_there_is_one() {
    let read = |mode: &str| -> Kubeconfig {
        let mut config = kubeconfig(json!({ "server": "http://127.0.0.1:1" }));
        config["users"][0]["user"] =
            json!({ "exec": { "command": "sh", "interactiveMode": mode } });
        serde_json::from_value(config).unwrap()
    };
    let mode = |mode: &str, terminal: bool| {
        let mut config = read(mode);
        let (_, user) = entries(&mut config, "x");
        plugin::settle_for(user, "x", terminal).map_err(|failure| failure.to_string())?;
        let user = config.auth_infos[0].auth_info.take().unwrap();
        Ok::<_, String>(user.exec.unwrap().interactive_mode)
    };
    use kube::config::ExecInteractiveMode::{Always, IfAvailable, Never};
    for given in ["Never", "IfAvailable"] {
        assert_eq!(mode(given, false), Ok(Some(Never)));
    }
    let refused = mode("Always", false).unwrap_err();
    assert!(
        refused.contains("`sh`") && refused.contains("terminal"),
        "{refused}"
    );
    assert_eq!(mode("Always", true), Ok(Some(Always)));
    assert_eq!(mode("IfAvailable", true), Ok(Some(IfAvailable)));
}
