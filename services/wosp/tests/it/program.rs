//! The program itself, with a short rotation. Every wait has a deadline; nothing is asserted about
//! how long it took.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use messages::{
    IdentityReport,
    env::{self, IDENTITY_FILE},
};
use serde_json::Value;

use crate::support::{
    HOUR, Issuer, Request, authority_folder, resource, root, sink, verify, write_authority,
};

const DEADLINE: Duration = Duration::from_secs(300);

/// A running agent; killed when the test ends before it.
struct Program {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Program {
    fn start(settings: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_wosp"))
            .env_clear()
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            lines,
            seen: vec![],
        }
    }

    fn for_sink(authority: &Path, identity: &Path) -> Self {
        Self::start(&[
            (env::BLUEPRINT, "international-ferry"),
            (env::CLUSTER, "cluster-b"),
            (env::WORKLOAD, "sink"),
            (env::AUTHORITY_DIR, authority.to_str().unwrap()),
            (env::IDENTITY_DIR, identity.to_str().unwrap()),
            (env::WOSP_LISTEN, "127.0.0.1:0"),
            (env::IDENTITY_LIFETIME, "6s"),
            (env::ROTATION_INTERVAL, "1s"),
        ])
    }

    /// Returns the next log line, which must be JSON without a terminal.
    fn next_line(&mut self) -> Option<Value> {
        let line = self.lines.recv_timeout(DEADLINE).ok()?;
        let value = serde_json::from_str(&line).unwrap();
        self.seen.push(line);
        Some(value)
    }

    fn address(&mut self) -> SocketAddr {
        while let Some(line) = self.next_line() {
            if let Some(address) = line["address"].as_str() {
                return address.parse().unwrap();
            }
        }
        panic!("no address in {:#?}", self.seen);
    }

    fn ended(&mut self) -> ExitStatus {
        eventually("the end of wosp", || {
            self.child.try_wait().unwrap().ok_or("it runs".into())
        })
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        let done = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks until `look` finds something, or fails with what it saw last.
#[track_caller]
fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() > deadline => {
                panic!("{what} must come within {DEADLINE:?}; last seen: {seen}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Status and body of `GET path`.
fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

fn chain(identity: &Path) -> String {
    let secret = resource(&identity.join(IDENTITY_FILE));
    let chain = &secret["tls_certificate"]["certificate_chain"]["inline_string"];
    chain.as_str().unwrap().to_owned()
}

fn folders(root: &Issuer, request: &Request) -> (tempfile::TempDir, tempfile::TempDir) {
    (
        authority_folder(root, request),
        tempfile::tempdir().unwrap(),
    )
}

fn wait_until_ready(address: SocketAddr) {
    eventually("readiness", || match get(address, "/ready") {
        (200, _) => Ok(()),
        (status, body) => Err(format!("{status} {body}")),
    });
}

#[test]
fn identities_rotate_until_sigterm() {
    let root = root(10 * HOUR);
    let (authority, identity) = folders(&root, &Request::of(&sink(), 2 * HOUR));
    let mut wosp = Program::for_sink(authority.path(), identity.path());
    let address = wosp.address();
    wait_until_ready(address);

    let first = chain(identity.path());
    assert_eq!(
        verify(root.der(), &first, &sink(), Timestamp::now()),
        Ok(())
    );
    let second = eventually("another identity", || {
        let now = chain(identity.path());
        if now == first {
            return Err("the first one".into());
        }
        Ok(now)
    });
    assert_eq!(
        verify(root.der(), &second, &sink(), Timestamp::now()),
        Ok(())
    );

    let (status, metrics) = get(address, "/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("ferry_wosp_rotations_total"), "{metrics}");
    assert_eq!(get(address, "/admin").0, 404);

    wosp.terminate();
    assert_eq!(wosp.ended().code(), Some(0));
    while wosp.next_line().is_some() {}
    assert!(
        wosp.seen.iter().all(|line| !line.contains("PRIVATE")),
        "no key in the log"
    );
}

#[test]
fn new_authority_needs_no_restart() {
    let (old, new) = (root(10 * HOUR), root(10 * HOUR));
    let (authority, identity) = folders(&old, &Request::of(&sink(), HOUR));
    let mut wosp = Program::for_sink(authority.path(), identity.path());
    wait_until_ready(wosp.address());
    write_authority(authority.path(), &new, &Request::of(&sink(), HOUR));
    eventually("an identity of the new authority", || {
        verify(
            new.der(),
            &chain(identity.path()),
            &sink(),
            Timestamp::now(),
        )
        .map_err(|error| format!("{error:?}"))
    });
}

#[test]
fn expired_authority_is_why_not_ready() {
    let mut request = Request::of(&sink(), HOUR);
    request.not_before -= HOUR;
    request.not_after = Timestamp::now() - HOUR;
    let root = root(10 * HOUR);
    let (authority, identity) = folders(&root, &request);
    let mut wosp = Program::for_sink(authority.path(), identity.path());
    let address = wosp.address();
    eventually("the reason", || match get(address, "/ready") {
        (503, body) if body.contains("the authority expired at") => Ok(()),
        (status, body) => Err(format!("{status} {body}")),
    });
    assert!(!identity.path().join(IDENTITY_FILE).exists());
    // A restart would mend nothing, so the liveness probe must not ask for one.
    assert_eq!(get(address, "/health"), (200, "ok".to_owned()));
    write_authority(authority.path(), &root, &Request::of(&sink(), HOUR));
    wait_until_ready(address);
}

#[test]
fn wrong_settings_exit_2_with_every_problem() {
    let mut wosp = Program::start(&[
        (env::BLUEPRINT, "international-ferry"),
        (env::CLUSTER, "cluster-b"),
        (env::ROTATION_INTERVAL, "1h"),
        (env::LOG_FORMAT, "xml"),
    ]);
    assert_eq!(wosp.ended().code(), Some(2));
    while wosp.next_line().is_some() {}
    let log = wosp.seen.join("\n");
    for name in [
        env::WORKLOAD,
        env::AUTHORITY_DIR,
        env::IDENTITY_DIR,
        env::WOSP_LISTEN,
        env::ROTATION_INTERVAL,
        env::LOG_FORMAT,
    ] {
        assert!(log.contains(name), "`{name}` must be in:\n{log}");
    }
}

#[test]
fn port_in_use_exits_3() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut wosp = Program::start(&[
        (env::BLUEPRINT, "international-ferry"),
        (env::CLUSTER, "cluster-b"),
        (env::WORKLOAD, "sink"),
        (env::AUTHORITY_DIR, "/nowhere"),
        (env::IDENTITY_DIR, "/nowhere"),
        (env::WOSP_LISTEN, &address),
    ]);
    assert_eq!(wosp.ended().code(), Some(3));
    while wosp.next_line().is_some() {}
    assert!(wosp.seen.join("\n").contains(&address), "{:?}", wosp.seen);
}

#[test]
fn replaced_authority_is_used_and_reported() {
    let (authority, identity) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = root(10 * HOUR);
    write_authority(authority.path(), &first, &Request::of(&sink(), HOUR));
    let mut program = Program::start(&[
        (env::BLUEPRINT, "international-ferry"),
        (env::CLUSTER, "cluster-b"),
        (env::WORKLOAD, "sink"),
        (env::AUTHORITY_DIR, authority.path().to_str().unwrap()),
        (env::IDENTITY_DIR, identity.path().to_str().unwrap()),
        (env::WOSP_LISTEN, "127.0.0.1:0"),
        (env::IDENTITY_LIFETIME, "24h"),
        // Far longer than this test waits.
        (env::ROTATION_INTERVAL, "11h"),
    ]);
    let address = program.address();
    let report = |not: &str| {
        eventually("a report of a new authority", || {
            let (status, body) = get(address, messages::IDENTITY_REPORT_PATH);
            let report: Result<IdentityReport, _> = serde_json::from_str(&body);
            match report {
                Ok(report) if report.authority.fingerprint != not => Ok(report),
                _ => Err(format!("{status} {body}")),
            }
        })
    };
    // An authority of one hour makes no identity of a day.
    let (status, body) = get(address, messages::IDENTITY_REPORT_PATH);
    assert_eq!(
        (status, body.as_str()),
        (503, "no identity was published yet")
    );
    let days = 100 * HOUR;
    write_authority(authority.path(), &root(days), &Request::of(&sink(), days));
    let one = report("");
    assert_eq!(one.name, sink());
    let second = root(days);
    write_authority(authority.path(), &second, &Request::of(&sink(), days));
    let two = report(&one.authority.fingerprint);
    assert_ne!(one.identity.serial, two.identity.serial);
    let root = messages::CertificateReport::of(second.der()).unwrap();
    assert_eq!(two.roots, [root]);
}
