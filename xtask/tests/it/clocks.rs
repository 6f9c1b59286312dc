//! Whole ferries whose clusters' clocks differ, and are set while messages flow.
//!
//! Every program of a cluster's pods, Envoy too, sees a wall clock of its own: a library that is loaded before libc's adds what
//! stands in a file of that cluster. Clocks that are never set stay as they are, as on a machine whose clock is set.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use ::e2e::testing;
use host::{
    binaries::{self, Profile},
    envoy_binary,
    timeline::Timeline,
};
use serde_json::Value;

use crate::bench::{Bench, Done, finish, turn};

const GRAND_TOUR: &str = "grand-tour-ferry";

/// The library, in C: nothing else can be loaded before libc.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *milliseconds;

__attribute__((constructor)) static void look(void) {
    int file = open(getenv("CLOCK_FILE"), O_RDONLY | O_CLOEXEC);
    void *page = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    if (page == MAP_FAILED) _exit(86);
    milliseconds = page;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int failed = (int)syscall(SYS_clock_gettime, clock, time);
    if (failed || !milliseconds || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return failed;
    int64_t nanoseconds = (int64_t)time->tv_sec * 1000000000 + time->tv_nsec + *milliseconds * 1000000;
    time->tv_sec = nanoseconds / 1000000000;
    time->tv_nsec = nanoseconds % 1000000000;
    return 0;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"#;

/// The clocks of `cluster-a`, `cluster-b` and `cluster-c`.
struct Clocks {
    folder: tempfile::TempDir,
}

impl Clocks {
    /// With these differences from this machine's, in milliseconds; `None` where there is no C compiler.
    fn new(ahead: [i64; 3]) -> Option<Self> {
        let compiler = testing::program(&["cc", "gcc", "clang"], "clocks that differ").unwrap()?;
        let clocks = Self {
            folder: tempfile::Builder::new()
                .prefix("ferry-clocks-")
                .tempdir()
                .unwrap(),
        };
        for (cluster, ahead) in ["cluster-a", "cluster-b", "cluster-c"]
            .into_iter()
            .zip(ahead)
        {
            clocks.set(cluster, ahead);
        }
        let source = clocks.path("clock.c");
        fs::write(&source, LIBRARY).unwrap();
        let compiled = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([clocks.path("clock.so"), source])
            .output()
            .unwrap();
        assert!(compiled.status.success(), "{compiled:?}");
        let silent = Timeline::default();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let services = runtime
            .block_on(binaries::binaries(Profile::Dev, &silent))
            .unwrap();
        for (name, program) in services.all() {
            clocks.wrap(name, program);
        }
        let envoy = runtime.block_on(envoy_binary::envoy(&silent)).unwrap();
        clocks.wrap("envoy", &envoy);
        Some(clocks)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sets the clock of a cluster so many milliseconds before, or behind, this machine's.
    fn set(&self, cluster: &str, ahead: i64) {
        use std::os::unix::fs::FileExt as _;
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.path(cluster))
            .unwrap();
        file.write_all_at(&ahead.to_ne_bytes(), 0).unwrap();
    }

    /// A program that runs in a pod's folder, with the clock of that pod's cluster. Sessions are short, so that there are
    /// handshakes all the time.
    fn wrap(&self, name: &str, program: &Path) {
        let folder = self.folder.path().display();
        let script = format!(
            "#!/bin/sh\n\
             for cluster in cluster-a cluster-b cluster-c; do\n\
             case \"$PWD\" in *\".$cluster.\"*) export LD_PRELOAD='{folder}/clock.so' CLOCK_FILE=\"{folder}/$cluster\" ;; esac\n\
             done\n\
             export FERRY_SESSION_LIFETIME=1s\n\
             exec '{}' \"$@\"\n",
            program.display()
        );
        // Written by another process: one that is forked meanwhile would hold the file open, and it could not be run.
        let target = self.path(name);
        let source = self.path(&format!("{name}.sh"));
        fs::write(&source, script).unwrap();
        let installed = Command::new("install")
            .args(["-m", "755"])
            .args([source, target])
            .status()
            .unwrap();
        assert!(installed.success());
    }

    fn run(&self, bench: &Bench, args: &[&str]) -> Done {
        let mut command = bench.command(args);
        command
            .env("FERRY_BIN_DIR", self.folder.path())
            .env("FERRY_ENVOY", self.path("envoy"));
        finish(&mut command)
    }
}

/// Runs side by side, each with clocks of its own, in milliseconds before this machine's.
fn each_of(cases: &[[i64; 3]], work: impl Fn(&Bench, &Clocks, [i64; 3]) + Sync) {
    thread::scope(|scope| {
        for ahead in cases {
            scope.spawn(|| {
                let _turn = turn();
                let bench = Bench::new();
                if let Some(clocks) = Clocks::new(*ahead) {
                    work(&bench, &clocks, *ahead);
                    bench.assert_no_process();
                }
            });
        }
    });
}

#[test]
fn clocks_that_differ_by_up_to_45_s_cost_nothing() {
    let cases = [
        [5, 0, -5],
        [-20, 0, 20],
        [9_000, 0, -2_000],
        [0, -9_000, 0],
        [45_000, 0, 45_000],
        [0, 45_000, 0],
        // The ends do not speak to each other.
        [-45_000, 0, 45_000],
    ];
    each_of(&cases, |bench, clocks, ahead| {
        let done = clocks.run(bench, &["e2e", GRAND_TOUR, "--json"]);
        done.assert_code(0);
        let run = &done.json_lines()[0];
        assert_eq!(run["blueprints"][0]["delivered"], 5, "{ahead:?}: {run:#}");
        let messages = &run["blueprints"][0]["sinks"][0]["messages"];
        for message in messages.as_array().unwrap() {
            // By one clock: neither negative nor longer by what the clocks differ.
            let took = message["took_us"].as_u64();
            assert!(
                took.is_some_and(|took| (1..40_000_000).contains(&took)),
                "{ahead:?}: {message:#}"
            );
        }
    });
}

#[test]
fn distant_clock_is_named_with_difference() {
    let cases = [
        [0, 0, 120_000],
        [-120_000, 0, 0],
        [0, 120_000, 0],
        [0, 0, -86_400_000],
    ];
    each_of(&cases, |bench, clocks, ahead| {
        let done = clocks.run(bench, &["e2e", GRAND_TOUR]);
        done.assert_code(3).assert_says("chronyc makestep");
        let words = match ahead {
            [0, 0, 120_000] => ["the clock of cluster-c is 1", " s ahead of cluster-b's"],
            [-120_000, 0, 0] => ["the clock of cluster-b is 1", " s ahead of cluster-a's"],
            [0, 120_000, 0] => ["the clock of cluster-b is 1", " s ahead of cluster-c's"],
            _ => ["the clock of this machine is 8", " s ahead of cluster-c's"],
        };
        for words in words {
            done.assert_says(words);
        }
    });
}

#[test]
fn setting_clocks_under_traffic_loses_nothing() {
    let _turn = turn();
    let bench = Bench::new();
    let Some(clocks) = Clocks::new([0; 3]) else {
        return;
    };
    let up = clocks.run(&bench, &["e2e", "international-ferry", "--keep"]);
    up.assert_code(0);
    let name = bench.records()[0]["name"].as_str().unwrap().to_owned();
    let trigger = |count: &str| {
        let done = bench.run(&["trigger", "--name", &name, "--count", count, "--json"]);
        let acks = done.assert_code(0).json_lines();
        let delivered = |ack: &Value| ack["outcome"] == "delivered";
        assert!(acks.iter().all(delivered), "{done}");
        acks.len() as u64
    };
    let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        // Messages are under way at each step.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                sent.fetch_add(trigger("300"), Ordering::Relaxed);
            }
        });
        let steps = [2_000, -2_000, 20_000, -20_000, 45_000, -45_000, 0];
        for (cluster, ahead) in ["cluster-a", "cluster-b"]
            .into_iter()
            .flat_map(|cluster| steps.map(|ahead| (cluster, ahead)))
        {
            clocks.set(cluster, ahead);
            sent.fetch_add(trigger("20"), Ordering::Relaxed);
        }
        over.store(true, Ordering::Relaxed);
    });
    let trail = bench.run(&["trail", "--name", &name, "--json"]);
    let stored = trail.assert_code(0).json_lines().len() as u64;
    assert_eq!(stored, 5 + sent.into_inner(), "each message once");
    let verified = bench.run(&["trail", "--name", &name, "--verify"]);
    verified.assert_code(0).assert_says("every trail is valid");

    // What people are shown of it.
    clocks.set("cluster-b", -30_000);
    let status = bench.run(&["status", "--name", &name]);
    status.assert_code(0).assert_data("cluster-b -30.0 s");
    clocks.set("cluster-b", -100_000);
    let status = bench.run(&["status", "--name", &name]);
    status
        .assert_code(0)
        .assert_says("the clock of cluster-a is 100.0 s ahead of cluster-b's");
    // Ages are by the clock of the pod that made what is old.
    let identities = bench.run(&["identity", "show", "--name", &name]);
    identities.assert_code(0).assert_data("sink");
    assert!(!identities.stdout.contains("expired"), "{identities}");
    let doctor = bench.run(&["doctor", "--runtime", "embedded"]);
    doctor
        .assert_code(3)
        .assert_data(&format!("clocks of `{name}`"));

    bench.run(&["local-down", "--name", &name]).assert_code(0);
    bench.assert_nothing_left();
}
