//! An API server of a test.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimePrinter};
use serde_json::json;

use crate::bench::Bench;

/// An API server that answers each `GET` as a test says, and writes down what it is asked.
pub(crate) struct FakeServer {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

/// Status and body for a path.
pub(crate) type Answer = fn(&str) -> (u16, serde_json::Value);

impl FakeServer {
    pub(crate) fn start(answer: Answer) -> Self {
        Self::with_clock(answer, 0)
    }

    /// One whose clock is so many seconds before this machine's.
    pub(crate) fn with_clock(answer: Answer, ahead: i64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            asked: Arc::default(),
        };
        let asked = server.asked.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let asked = asked.clone();
                std::thread::spawn(move || serve(&connection.unwrap(), answer, ahead, &asked));
            }
        });
        server
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Answers requests without a body until the client goes away.
fn serve(connection: &TcpStream, answer: Answer, ahead: i64, asked: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(connection).lines();
    while let Some(Ok(first)) = lines.next() {
        while lines
            .next()
            .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
        {}
        let request: Vec<_> = first.split(' ').take(2).collect();
        asked.lock().unwrap().push(request.join(" "));
        let (status, body) = answer(request[1]);
        let body = body.to_string();
        let now = Timestamp::now() + SignedDuration::from_secs(ahead);
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&now);
        let date = date.unwrap();
        let head = format!(
            "HTTP/1.1 {status} x\r\ndate: {date}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if (&mut &*connection)
            .write_all((head + &body).as_bytes())
            .is_err()
        {
            return;
        }
    }
}

pub(crate) fn version(minor: &str) -> serde_json::Value {
    json!({
        "major": "1", "minor": minor, "gitVersion": format!("v1.{minor}.4"), "gitCommit": "", "gitTreeState": "",
        "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
    })
}

/// A `Status` with the reason that an API server gives with this code: clients go by the reason, not by the code.
/// Source: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>.
pub(crate) fn status(code: u16, message: &str) -> serde_json::Value {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        _ => panic!("no reason is known for {code}"),
    };
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message })
}

/// A kubeconfig with the contexts `one` and `two`, both of this server.
pub(crate) fn kubeconfig(bench: &Bench, port: u16) -> PathBuf {
    kubeconfig_of(bench, [port; 2])
}

/// A kubeconfig with the contexts `one` and `two`, each of a server of its own.
pub(crate) fn kubeconfig_of(bench: &Bench, ports: [u16; 2]) -> PathBuf {
    let names = ["one", "two"];
    let context = |name| json!({ "name": name, "context": { "cluster": name, "user": "u" } });
    let clusters = names.iter().zip(ports).map(|(name, port)| {
        json!({ "name": name, "cluster": { "server": format!("http://127.0.0.1:{port}") } })
    });
    let config = json!({
        "apiVersion": "v1", "kind": "Config",
        "clusters": clusters.collect::<Vec<_>>(),
        "users": [{ "name": "u", "user": { "token": "s3cret" } }],
        "contexts": names.map(context),
    });
    bench.file("kubeconfig", &config.to_string())
}
