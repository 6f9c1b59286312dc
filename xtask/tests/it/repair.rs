//! `local-up` on an environment that is there: what has ended or changed is started again alone, and nothing that a sink has
//! stored is lost by it. All of these use the fixed public ports.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use host::process::ProcessId;

use crate::bench::{Bench, Done, eventually, finish, fixed_ports, services, turn};

const BLUEPRINT: &str = "international-ferry";

/// The sink's messages.
pub(crate) fn count(bench: &Bench) -> usize {
    let trail = bench.run(&["trail", "--json"]);
    trail.assert_code(0).json_lines().len()
}

/// Which of the processes that were there before are others now.
fn changed(before: &BTreeMap<String, u64>, bench: &Bench) -> Vec<String> {
    let now = bench.processes();
    assert_eq!(
        now.keys().collect::<Vec<_>>(),
        before.keys().collect::<Vec<_>>()
    );
    let changed = now.into_iter().filter(|(name, pid)| before[name] != *pid);
    changed.map(|(name, _)| name).collect()
}

fn signal(signal: &str, pids: impl IntoIterator<Item = u64>) {
    let pids: Vec<_> = pids.into_iter().map(|pid| pid.to_string()).collect();
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{signal} {}", pids.join(" "))])
        .status();
    assert!(status.unwrap().success());
}

/// Kills processes; returns when they have ended, which takes the kernel a moment.
fn kill(pids: impl IntoIterator<Item = u64>) {
    let pids: Vec<_> = pids.into_iter().collect();
    let processes: Vec<_> = pids
        .iter()
        .map(|pid| ProcessId::of(u32::try_from(*pid).unwrap()).unwrap())
        .collect();
    signal("KILL", pids);
    eventually("the end of killed processes", || {
        let ended = !processes.iter().any(|process| process.is_running());
        ended.then_some(())
    });
}

#[test]
fn what_has_ended_is_started_again_alone() {
    let _ports = fixed_ports();
    let _turn = turn();
    let bench = Bench::new();
    let up = || bench.run(&["local-up", BLUEPRINT]);
    up().assert_code(0);
    bench.run(&["trigger", "--count", "100"]).assert_code(0);
    let mut stored = 105;
    assert_eq!(count(&bench), stored);

    let before = bench.processes();
    up().assert_code(0)
        .assert_says("already")
        .assert_data("5/5");
    stored += 5;
    assert_eq!(count(&bench), stored);
    assert_eq!(changed(&before, &bench), [""; 0], "nothing is to be done");

    for (victim, by_itself) in [
        ("gateway app", 5),
        ("sink app", 0),
        ("sink envoy", 0),
        ("gateway wosp", 0),
        ("cluster-b load-balancer", 0),
    ] {
        let before = bench.processes();
        kill([before[victim]]);
        up().assert_code(0)
            .assert_says("it had ended")
            .assert_data("5/5");
        stored += 5 + by_itself;
        assert_eq!(count(&bench), stored, "{victim}");
        assert_eq!(changed(&before, &bench), [victim]);
    }
    let before = bench.processes();
    signal("STOP", [before["sink envoy"]]);
    up().assert_code(0).assert_says("did not answer");
    stored += 5;
    assert_eq!(count(&bench), stored);
    assert_eq!(changed(&before, &bench), ["sink envoy"]);

    // As after a start of the machine.
    let before = bench.processes();
    kill(before.values().copied());
    bench
        .run(&["status"])
        .assert_code(0)
        .assert_data("app crashed");
    up().assert_code(0)
        .assert_says("is stopped")
        .assert_data("5/5");
    stored += 10;
    assert_eq!(count(&bench), stored);
    assert_eq!(changed(&before, &bench).len(), before.len());

    // Taken down, and kept: nothing runs, and `sweep` leaves it.
    bench
        .run(&["local-down", "--keep-data"])
        .assert_code(0)
        .assert_says(&format!("its sinks keep {stored} messages"));
    bench.assert_no_process();
    bench.run(&["sweep"]).assert_code(0);
    up().assert_code(0).assert_data("5/5");
    stored += 10;
    assert_eq!(count(&bench), stored);

    bench.run(&["trail", "--verify"]).assert_code(0);
    bench
        .run(&["local-down"])
        .assert_code(0)
        .assert_says(&format!(
            "{stored} messages that its sinks keep are deleted"
        ));
    bench.assert_nothing_left();
}

#[test]
fn what_a_file_says_decides_and_not_its_time() {
    let _ports = fixed_ports();
    let _turn = turn();
    let bench = Bench::new();
    let copy = Copy::new(&bench);
    let (text, bin) = (&copy.text, &copy.bin);
    let up = || copy.up(&bench, "embedded");
    up().assert_code(0);
    let before = bench.processes();

    // Written anew, and in other words.
    bench.file("blueprint.yaml", &format!("# a comment\n\n{text}\n"));
    // A build that has changed nothing.
    for name in ["gateway", "sink", "wosp"] {
        replace(&bin.join(name), |_| ());
    }
    up().assert_code(0);
    assert_eq!(changed(&before, &bench), [""; 0]);

    // Another gateway, by one byte after its end.
    replace(&bin.join("gateway"), |content| content.push(0));
    up().assert_code(0).assert_says("its program has changed");
    assert_eq!(changed(&before, &bench), ["gateway app"]);

    // What only the gateway is told.
    let before = bench.processes();
    bench.file("blueprint.yaml", &format!("{text}messages: 7\n"));
    up().assert_code(0)
        .assert_says("configured differently")
        .assert_data("7/7");
    assert_eq!(changed(&before, &bench), ["gateway app"]);
    // By itself 5, 5 and 7, and four proofs.
    assert_eq!(count(&bench), 5 + 5 + 5 + 5 + 7 + 7);
    bench.run(&["local-down"]).assert_code(0);
    bench.assert_nothing_left();
}

/// The blueprint and the services, copied to where they may be changed.
pub(crate) struct Copy {
    /// Of the blueprint: `blueprint.yaml` of the bench.
    pub(crate) text: String,
    file: PathBuf,
    /// The folder of the services.
    pub(crate) bin: PathBuf,
}

impl Copy {
    pub(crate) fn new(bench: &Bench) -> Self {
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
        let text = fs::read_to_string(manifests.join(BLUEPRINT).join("blueprint.yaml")).unwrap();
        let file = bench.file("blueprint.yaml", &text);
        let (bin, built) = (bench.folder("bin"), services());
        for name in ["gateway", "processor", "sink", "wosp", "probe"] {
            fs::copy(built.join(name), bin.join(name)).unwrap();
        }
        Self { text, file, bin }
    }

    /// `local-up` with both.
    pub(crate) fn up(&self, bench: &Bench, runtime: &str) -> Done {
        let file = self.file.to_str().unwrap();
        let mut command = bench.command(&["local-up", file, "--runtime", runtime]);
        finish(command.env("FERRY_BIN_DIR", &self.bin))
    }
}

/// As a build does: a new file by a rename.
pub(crate) fn replace(program: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut content = fs::read(program).unwrap();
    change(&mut content);
    let new = program.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::set_permissions(&new, fs::metadata(program).unwrap().permissions()).unwrap();
    fs::rename(new, program).unwrap();
}

#[test]
fn other_blueprints_take_over_and_give_back() {
    let _ports = fixed_ports();
    let _turn = turn();
    let bench = Bench::new();
    bench.run(&["local-up", BLUEPRINT]).assert_code(0);
    bench.run(&["trigger", "--count", "20"]).assert_code(0);
    bench
        .run(&["local-up"])
        .assert_code(0)
        .assert_says("what it has stored stays in")
        .assert_data("fast-international-ferry");
    assert_eq!(bench.records()[0]["pods"].as_array().unwrap().len(), 2);
    bench.run(&["local-up", BLUEPRINT]).assert_code(0);
    assert!(count(&bench) >= 30, "the sink has all that it had");
    bench.run(&["trail", "--verify"]).assert_code(0);

    bench
        .run(&["local-up", BLUEPRINT, "--runtime", "k3d"])
        .assert_code(2)
        .assert_says("messages, which would be lost")
        .assert_says("--fresh");
    assert!(count(&bench) >= 30, "what was refused has changed nothing");
    bench
        .run(&["local-up", BLUEPRINT, "--fresh"])
        .assert_code(0)
        .assert_says("recreating");
    assert_eq!(count(&bench), 5);
    bench.run(&["local-down"]).assert_code(0);
    bench.assert_nothing_left();
}
