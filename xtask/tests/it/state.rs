//! What becomes of state that is gone, cannot be read, or is of somebody else: nothing that may be alive is deleted, and
//! nothing dead is left.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::bench::{Bench, Done, finish, fixed_ports, turn};

/// An environment that stays, with addresses of its own.
fn kept(bench: &Bench) -> String {
    bench
        .run(&["e2e", "international-ferry", "--keep"])
        .assert_code(0);
    let record = &bench.records()[0];
    record["name"].as_str().unwrap().to_owned()
}

/// Folders that were moved aside.
fn aside(bench: &Bench) -> Vec<PathBuf> {
    let entries = fs::read_dir(bench.state()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.to_string_lossy().contains(".unreadable-"))
        .collect()
}

#[test]
fn processes_whose_folder_is_deleted_are_swept() {
    let _turn = turn();
    let bench = Bench::new();
    let name = kept(&bench);
    fs::remove_dir_all(bench.state().join(&name)).unwrap();
    bench
        .run(&["sweep"])
        .assert_code(0)
        .assert_data(&format!("removed `{name}` and 8 processes"));
    bench.assert_nothing_left();

    // The whole state root, as `cargo clean` does.
    kept(&bench);
    fs::remove_dir_all(bench.state()).unwrap();
    bench
        .run(&["sweep"])
        .assert_code(0)
        .assert_data("8 processes: its state folder is gone");
    bench.assert_nothing_left();
    bench
        .run(&["sweep"])
        .assert_code(0)
        .assert_says("nothing to remove");
}

#[test]
fn next_environment_of_name_ends_leftovers() {
    let _ports = fixed_ports();
    let _turn = turn();
    let bench = Bench::new();
    bench.run(&["local-up"]).assert_code(0);
    let folder = bench.state().join("local");
    fs::remove_dir_all(&folder).unwrap();
    bench
        .run(&["local-up"])
        .assert_code(0)
        .assert_says("whose folder is gone: 8 processes")
        .assert_data("5/5");
    // A folder that was made anew is not taken for the one that is gone.
    bench
        .run(&["sweep"])
        .assert_code(0)
        .assert_says("nothing to remove");
    bench.run(&["trigger", "--count", "2"]).assert_code(0);
    bench.run(&["local-down"]).assert_code(0);
    bench.assert_nothing_left();
}

#[test]
fn a_record_that_cannot_be_read_loses_no_key() {
    let _ports = fixed_ports();
    let _turn = turn();
    let bench = Bench::new();
    let up = || bench.run(&["local-up", "international-ferry"]);
    up().assert_code(0);
    let key = fs::read(bench.state().join("local/identity/root.key")).unwrap();
    let record = bench.record("local").to_string();
    bench.write_record("local", &record[..record.len() / 2]);
    bench
        .run(&["status"])
        .assert_code(0)
        .assert_says("cannot be read");
    bench
        .run(&["local-down"])
        .assert_code(3)
        .assert_says("moves its folder aside");
    let swept = bench.run(&["sweep"]);
    let folders = aside(&bench);
    assert_eq!(folders.len(), 1);
    swept
        .assert_code(0)
        .assert_data("ended 8 processes of `local`")
        .assert_data(folders[0].to_str().unwrap());
    bench.assert_no_process();
    assert_eq!(fs::read(folders[0].join("identity/root.key")).unwrap(), key);
    let data = "pods/international-ferry.cluster-b.sink/data";
    assert!(fs::read_dir(folders[0].join(data)).unwrap().count() > 0);

    // The same, met by the command that wants the name.
    up().assert_code(0);
    fs::remove_file(bench.state().join("local/environment.json")).unwrap();
    let said = up();
    said.assert_code(0).assert_says("is kept as");
    assert_eq!(aside(&bench).len(), 2);
    bench.run(&["local-down"]).assert_code(0);
    for folder in aside(&bench) {
        assert!(folder.join("identity/root.key").exists());
        fs::remove_dir_all(folder).unwrap();
    }
    bench.assert_nothing_left();
}

#[test]
fn what_a_newer_ferry_made_is_left_alone() {
    let _turn = turn();
    let bench = Bench::new();
    let name = kept(&bench);
    let mut record = bench.record(&name);
    let good = record.to_string();
    record["schema_version"] = 99.into();
    bench.write_record(&name, &record.to_string());
    bench
        .run(&["sweep"])
        .assert_code(0)
        .assert_says("is left alone")
        .assert_says("schema version 99");
    bench
        .run(&["local-up", "--name", &name])
        .assert_code(2)
        .assert_says("use the Ferry that made");
    bench.write_record(&name, &good);
    bench
        .run(&["trigger", "--name", &name, "--count", "2"])
        .assert_code(0);
    bench.run(&["local-down", "--name", &name]).assert_code(0);
    bench.assert_nothing_left();
}

/// Every command that would change an environment refuses one that runs elsewhere.
fn assert_left_alone(run: impl Fn(&[&str]) -> Done, name: &str) {
    run(&["status"])
        .assert_code(0)
        .assert_data("runs elsewhere");
    for args in [
        &["local-down", "--name", name][..],
        &["local-up", "international-ferry", "--name", name],
        &["identity", "rotate", "--name", name],
    ] {
        run(args).assert_code(2).assert_says("runs elsewhere");
    }
    run(&["local-down", "--all"])
        .assert_code(0)
        .assert_says("runs elsewhere");
    run(&["sweep"])
        .assert_code(0)
        .assert_says("is left alone: it runs elsewhere");
}

#[test]
fn another_pid_namespace_is_left_alone() {
    let _turn = turn();
    let bench = Bench::new();
    let unshare = |command: &Command| {
        let mut inside = Command::new("unshare");
        inside.args(["--pid", "--fork", "--mount-proc"]);
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside.stdin(Stdio::null());
        inside
    };
    let allowed = unshare(&Command::new("true")).output();
    if !allowed.as_ref().is_ok_and(|done| done.status.success()) {
        ::e2e::testing::show(&format!(
            "NOT TESTED: this user may not make a PID namespace: {allowed:?}"
        ));
        return;
    }
    let name = kept(&bench);
    let inside = |args: &[&str]| finish(&mut unshare(&bench.command(args)));
    assert_left_alone(inside, &name);
    inside(&["status", "--json"])
        .assert_code(0)
        .assert_data("elsewhere");
    bench
        .run(&["trigger", "--name", &name, "--count", "2"])
        .assert_code(0);
    bench.run(&["local-down", "--name", &name]).assert_code(0);
    bench.assert_nothing_left();
}

#[test]
fn other_machine_is_kept_other_boot_is_over() {
    let _turn = turn();
    let bench = Bench::new();
    let name = kept(&bench);
    let good = bench.record(&name);
    let mut record = good.clone();
    record["seat"]["boot"] = "another".into();
    let rebooted = record.clone();
    record["seat"]["host"] = "ferry-7".into();
    bench.write_record(&name, &record.to_string());
    assert_left_alone(|args| bench.run(args), &name);
    bench
        .run(&["status"])
        .assert_data("runs elsewhere, on host `ferry-7`");

    if good["seat"]["machine"].as_str() == Some("") {
        ::e2e::testing::show("NOT TESTED: this machine has no `/etc/machine-id`");
    } else {
        // The numbers of its processes are somebody else's by now, even where they agree.
        bench.write_record(&name, &rebooted.to_string());
        bench.run(&["status"]).assert_code(0).assert_data("stopped");
        bench
            .run(&["sweep"])
            .assert_code(0)
            .assert_says("nothing of it runs");
    }
    bench.write_record(&name, &good.to_string());
    bench.run(&["local-down", "--name", &name]).assert_code(0);
    bench.assert_nothing_left();
}

/// A command that is told of no state root: it must write nothing, since what it finds by itself is not the test's.
fn without_state(bench: &Bench, args: &[&str], set: &[(&str, &str)]) -> Done {
    let mut command = bench.command(args);
    for name in ["FERRY_STATE", "XDG_STATE_HOME", "HOME"] {
        command.env_remove(name);
    }
    finish(command.envs(set.iter().copied()))
}

#[test]
fn deployments_are_found_outside_the_checkout() {
    let bench = Bench::new();
    let record = serde_json::json!({
        "schema_version": 1, "name": "far", "runtime": "existing", "created_at": "2026-01-01T00:00:00Z", "owner": null,
        "blueprints": {}, "clusters": [{ "name": "cluster-b", "reference": "two" }],
        "existing": { "kubeconfig": ["/nowhere"], "label": "far-0a" },
        "pods": [{
            "name": "sink.cluster-b.x.ferry.internal", "role": "sink", "namespace": "x-sink-ns", "stage": 0, "pod_name": "sink-1",
            "node": "n", "peer_address": null, "local_address": null, "token_file": null, "auto_trigger": 0, "downstreams": [],
            "started_at": null, "ready_at": null,
        }],
    });
    let home = bench.file("home", "");
    fs::remove_file(&home).unwrap();
    let folder = home.join(".local/state/ferry/far");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("environment.json"), record.to_string()).unwrap();
    let home = home.to_str().unwrap();
    let xdg = format!("{home}/.local/state");
    for set in [("HOME", home), ("XDG_STATE_HOME", xdg.as_str())] {
        without_state(&bench, &["status", "--name", "far"], &[set])
            .assert_code(0)
            .assert_data("far on the existing runtime");
        without_state(&bench, &["local-down", "--name", "far"], &[set])
            .assert_code(2)
            .assert_says("undeploy");
    }
    assert!(folder.join("environment.json").exists());
    let image = ["deploy", "--image", "registry.example/ferry:1"];
    without_state(&bench, &image, &[])
        .assert_code(2)
        .assert_says("neither `XDG_STATE_HOME` nor `HOME` is set");
}
