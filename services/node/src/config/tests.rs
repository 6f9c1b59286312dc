//! Complete, wrong and missing settings.

use std::collections::BTreeMap;

use super::*;

fn sink() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        (env::BLUEPRINT, "international-ferry"),
        (env::WORKLOAD, "sink"),
        (env::ROLE, "sink"),
        (env::CLUSTER, "cluster-b"),
        (env::POD_NAME, "sink-6d4f5c-x2k4p"),
        (env::NAMESPACE, "international-ferry-sink-ns"),
        (env::NODE, "node-1"),
        (env::HTTP_LISTEN, "127.0.0.1:8000"),
        (env::RELAY_LISTEN, "127.0.0.1:8001"),
        (
            env::CONNECTIONS,
            "gateway.cluster-a.international-ferry.ferry.internal>\
             sink.cluster-b.international-ferry.ferry.internal",
        ),
        (env::IDENTITY_DIR, "/run/ferry/identity"),
        (env::DATA_DIR, "/var/lib/ferry"),
    ])
}

fn read(role: Role, variables: &BTreeMap<&str, &str>) -> Result<Config, InvalidSettings> {
    Config::read(role, |name| variables.get(name).map(OsString::from))
}

#[test]
fn complete_environment_has_documented_defaults() {
    let config = read(Role::Sink, &sink()).unwrap();
    assert_eq!(config.window, limits::DEFAULT_WINDOW);
    assert_eq!(config.session_lifetime, Duration::from_secs(600));
    assert_eq!(config.drain_limit, Duration::from_secs(10));
    assert_eq!(config.auto_trigger, 0);
    assert_eq!(config.retention, Retention::default());
    assert_eq!(config.repeats, Duration::from_secs(3600));
    assert!(config.token.is_none());
    assert!(config.downstream.is_empty());
}

#[test]
fn connections_keep_order_and_protocol() {
    let mut variables = sink();
    variables.remove(env::DATA_DIR);
    variables.insert(env::ROLE, "gateway");
    variables.insert(
        env::DOWNSTREAM,
        "left=ws://127.0.0.1:18001, right=grpc://[::1]:18002",
    );
    variables.insert(env::AUTO_TRIGGER, "5");
    let config = read(Role::Gateway, &variables).unwrap();
    let seen: Vec<_> = config
        .downstream
        .iter()
        .map(|one| (one.pod.as_str(), one.protocol, one.address.port()))
        .collect();
    assert_eq!(
        seen,
        [
            ("left", Protocol::Websocket, 18001),
            ("right", Protocol::Grpc, 18002)
        ]
    );
    assert_eq!(config.auto_trigger, 5);
}

#[test]
fn all_problems_are_reported() {
    let error = read(Role::Sink, &BTreeMap::new()).unwrap_err();
    for variable in sink().keys() {
        assert!(
            error.0.iter().any(|line| line.starts_with(variable)),
            "{variable} must be reported: {error}"
        );
    }
}

#[test]
fn bad_values_are_reported_with_a_fix() {
    for (variable, value) in [
        (env::WORKLOAD, "Sink!"),
        (env::NAMESPACE, "default"),
        (env::ROLE, "gateway"),
        (env::ROLE, "pirate"),
        (env::HTTP_LISTEN, "localhost:8000"),
        (env::RELAY_LISTEN, "127.0.0.1"),
        (env::RELAY_LISTEN, "[::]:8001"),
        (env::CONNECTIONS, "gateway>sink"),
        (env::DOWNSTREAM, "sink=ws://127.0.0.1:1"),
        (env::AUTO_TRIGGER, "5"),
        (env::AUTO_TRIGGER, "many"),
        (env::WINDOW, "0"),
        (env::SESSION_LIFETIME, "10"),
        (env::SESSION_LIFETIME, "0s"),
        (env::DRAIN_LIMIT, "999h"),
        (env::TOKEN_FILE, "/nowhere/token"),
    ] {
        let mut variables = sink();
        variables.insert(variable, value);
        let error = read(Role::Sink, &variables).unwrap_err();
        let lines: Vec<_> = error
            .0
            .iter()
            .filter(|line| line.starts_with(variable))
            .collect();
        assert!(
            lines.iter().any(|line| line.contains("; ")),
            "{variable}={value} must be reported with its fix: {error}"
        );
    }
}

#[test]
fn bad_connections_are_each_reported() {
    for entry in [
        "x",
        "x=1.2.3.4:5",
        "x=http://1.2.3.4:5",
        "X=ws://1.2.3.4:5",
        "x=ws://host:5",
        "",
    ] {
        assert_eq!(parse_downstream(entry), None, "`{entry}` must be refused");
    }
    let mut variables = sink();
    variables.insert(env::ROLE, "gateway");
    variables.insert(env::DOWNSTREAM, "a=ws://1.2.3.4:5,a=ws://1.2.3.4:6,b");
    let error = read(Role::Gateway, &variables).unwrap_err();
    assert_eq!(error.0.len(), 2, "both must be reported: {error}");
}

#[test]
fn token_is_compared_and_never_shown() {
    let token = Token::from_text(" 0123456789abcdef\n").unwrap();
    assert!(token.matches(b"0123456789abcdef"));
    assert!(!token.matches(b"0123456789abcdeF"));
    assert!(!token.matches(b""));
    assert_eq!(format!("{token:?}"), "Token(…)");
    assert!(Token::from_text("short").is_none());
    assert!(Token::from_text("two words in one token").is_none());
}

#[test]
fn retention_is_read_and_checked() {
    let mut variables = sink();
    variables.insert(env::RETENTION_MESSAGES, "10000000");
    variables.insert(env::RETENTION_BYTES, "5000000000");
    variables.insert(env::RETENTION_AGE, "720h");
    variables.insert(env::RETENTION_WHEN_FULL, "refuse");
    variables.insert(env::REPEATS, "2h");
    let config = read(Role::Sink, &variables).unwrap();
    let expected = Retention {
        messages: 10_000_000,
        bytes: 5_000_000_000,
        age: Some(30 * DAY),
        when_full: WhenFull::Refuse,
    };
    assert_eq!(config.retention, expected);
    assert_eq!(config.repeats, Duration::from_secs(7200));
    for (variable, value, cause) in [
        (env::RETENTION_MESSAGES, "0", "a number from 1"),
        (env::RETENTION_BYTES, "2GiB", "a number from 1"),
        (env::RETENTION_AGE, "a while", "not a duration"),
        (
            env::RETENTION_WHEN_FULL,
            "drop",
            "`drop-oldest` or `refuse`",
        ),
        (env::REPEATS, "10m", "less than a session"),
    ] {
        let mut wrong = variables.clone();
        wrong.insert(variable, value);
        let problems = read(Role::Sink, &wrong).unwrap_err().to_string();
        assert!(
            problems.contains(variable) && problems.contains(cause),
            "{problems}"
        );
    }
}

#[test]
fn repeats_follow_long_sessions() {
    let mut variables = sink();
    variables.insert(env::SESSION_LIFETIME, "6h");
    let config = read(Role::Sink, &variables).unwrap();
    assert!(config.repeats > Duration::from_secs(6 * 3600));
}
