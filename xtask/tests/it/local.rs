//! `local-up` and the commands that look around in what it leaves running. All of these use the fixed public ports.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Stdio,
};

use crate::{
    bench::{Bench, LONGEST, fixed_ports, turn},
    report,
};

/// What `curl` would print of `http://127.0.0.1:<port><path>`.
fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(LONGEST)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[track_caller]
fn assert_status(port: u16, path: &str, status: &str) {
    let answer = get(port, path);
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status}")),
        "port {port} must answer `{path}` with {status}: {answer}"
    );
}

#[test]
fn an_environment_stays_up_answers_and_goes_away() {
    let _ports = fixed_ports();
    let _turn = turn();
    let bench = Bench::new();
    let up = bench.run(&["local-up"]);
    up.assert_code(0).assert_says("runtime: embedded");
    for text in [
        "127.0.0.1:30100",
        "127.0.0.1:30200",
        "cargo xtask trigger",
        "cargo xtask local-down",
    ] {
        up.assert_data(text);
    }

    assert_status(30100, "/health", "200");
    assert_status(30200, "/health", "200");
    assert_status(30200, "/metrics", "404");
    assert_status(30200, "/output", "401");

    bench
        .run(&["status"])
        .assert_code(0)
        .assert_data("terminator")
        .assert_data("ready");
    let status = bench.run(&["status", "--json"]);
    assert_eq!(status.assert_code(0).json_lines().len(), 1, "{status}");

    bench
        .run(&["trigger", "--count", "3"])
        .assert_code(0)
        .assert_says("3 of 3 delivered");
    let payload = bench.file("payload.json", r#"{"deck": 2, "car":  "blue"}"#);
    let acks = bench.run(&["trigger", "--payload", payload.to_str().unwrap(), "--json"]);
    let acks = acks.assert_code(0).json_lines();
    assert_eq!(acks.len(), 1);
    assert_eq!(acks[0]["outcome"], "delivered", "{acks:#?}");

    let trail = bench.run(&["trail", "--json"]);
    let messages = trail.assert_code(0).json_lines();
    assert_eq!(messages.len(), 9, "five by itself, three, and one: {trail}");
    trail.assert_data(r#"{"deck": 2, "car":  "blue"}"#);
    verified(&bench, &trail.stdout);
    bench
        .run(&["trail"])
        .assert_code(0)
        .assert_data("cluster-a")
        .assert_data("cluster-b");

    bench
        .run(&["logs", "initiator", "--container", "app"])
        .assert_code(0)
        .assert_data("🔁 Auto-trigger complete — 5/5 messages sent.");
    bench
        .run(&["logs", "purser"])
        .assert_code(2)
        .assert_says("terminator");

    let report = bench.state().join("local/report.html");
    report::assert_proven(&report);
    let evidence = bench.state().join("local/evidence.txt");
    std::fs::write(&evidence, "of a failure that is over").unwrap();
    let again = bench.run(&["local-up"]);
    assert!(!evidence.exists(), "it has been proven since");
    again
        .assert_code(0)
        .assert_says("already")
        .assert_data("127.0.0.1:30200");

    bench.run(&["local-down"]).assert_code(0);
    bench.assert_nothing_left();
    for port in [30100, 30200] {
        TcpListener::bind(("127.0.0.1", port)).unwrap();
    }
    bench
        .run(&["local-down"])
        .assert_code(2)
        .assert_says("`local`");
}

#[test]
fn followed_logs_end_with_their_reader() {
    let _ports = fixed_ports();
    let _turn = turn();
    let bench = Bench::new();
    bench.run(&["local-up"]).assert_code(0);
    let mut child = bench
        .command(&["logs", "-f", "initiator", "--container", "app"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    assert!(first.contains("INFO"), "{first}");
    // Its reader is gone now; it notices with the next line.
    bench.run(&["local-down"]).assert_code(0);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    bench.assert_nothing_left();
}

#[test]
fn payload_is_read_from_stdin_and_checked() {
    let _ports = fixed_ports();
    let _turn = turn();
    let bench = Bench::new();
    bench
        .run(&["local-up", "international-ferry", "--name", "stdin"])
        .assert_code(0);
    let trigger = |input: &[u8]| {
        let mut child = bench
            .command(&["trigger", "--name", "stdin", "--payload", "-", "--json"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    assert_eq!(trigger(b"[1, 2]").0, Some(0));
    // As editors and shells of other systems write it.
    let marked = [&b"\xef\xbb\xbf"[..], b"[1, 2]\r\n"].concat();
    let wide: Vec<u8> = "\u{feff}[1, 2]"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for input in [marked, wide] {
        assert_eq!(trigger(&input).0, Some(0), "{input:?}");
    }
    for (input, says) in [
        (&b"[1, 2"[..], "JSON"),
        (b"[\xff]", "UTF-8"),
        (b"\xef\xbb\xbf", "JSON"),
    ] {
        let (code, said) = trigger(input);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(says), "{said}");
    }
    bench.run(&["local-down", "--all"]).assert_code(0);
    bench.assert_nothing_left();
}

#[test]
fn a_port_in_use_is_named_with_its_holder() {
    let _ports = fixed_ports();
    let _turn = turn();
    let bench = Bench::new();
    let _taken = TcpListener::bind(("127.0.0.1", 30200)).unwrap();
    bench
        .run(&["local-up"])
        .assert_code(3)
        .assert_says("30200")
        .assert_says(&std::process::id().to_string())
        .assert_says("help:");
    bench.assert_nothing_left();
}

/// The trails as they are, then as somebody would like them to be.
fn verified(bench: &Bench, lines: &str) {
    bench
        .run(&["trail", "--verify"])
        .assert_code(0)
        .assert_says("9 messages, 18 signed hops: every trail is valid");
    let roots = bench.state().join("local/identity/root.crt");
    let verify = |text: &str| {
        let file = bench.file("evidence.ndjson", text);
        let file = file.to_str().unwrap();
        bench.run(&[
            "trail",
            "--verify",
            "--from",
            file,
            "--roots",
            roots.to_str().unwrap(),
        ])
    };
    verify(lines).assert_code(0).assert_says("9 messages");
    let foreign = format!("\u{feff}{}", lines.replace('\n', "\r\n"));
    verify(&foreign).assert_code(0).assert_says("9 messages");
    let tampered = lines.replacen("\"role\":\"sink\"", "\"role\":\"processor\"", 1);
    assert_ne!(tampered, lines);
    verify(&tampered)
        .assert_code(1)
        .assert_data("hop 2 (`terminator-")
        .assert_data("altered")
        .assert_says("1 problem in the trails of 9 messages");
    verify("").assert_code(2).assert_says("no stored message");
    verify("{}").assert_code(1).assert_says("line 1");
    let file = bench.file("evidence.ndjson", lines);
    let none = [
        "trail",
        "--verify",
        "--from",
        file.to_str().unwrap(),
        "--roots",
        file.to_str().unwrap(),
    ];
    bench
        .run(&none)
        .assert_code(2)
        .assert_says("cannot read roots from");
}
