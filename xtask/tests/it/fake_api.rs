//! An API server of a test.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::{Arc, Mutex},
};

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
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            asked: Arc::default(),
        };
        let asked = server.asked.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let asked = asked.clone();
                std::thread::spawn(move || serve(&connection.unwrap(), answer, &asked));
            }
        });
        server
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Answers requests without a body until the client goes away.
fn serve(connection: &TcpStream, answer: Answer, asked: &Mutex<Vec<String>>) {
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
        let head = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
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
    let context = |name: &str| json!({ "name": name, "context": { "cluster": "c", "user": "u" } });
    let config = json!({
        "apiVersion": "v1", "kind": "Config",
        "clusters": [{ "name": "c", "cluster": { "server": format!("http://127.0.0.1:{port}") } }],
        "users": [{ "name": "u", "user": { "token": "s3cret" } }],
        "contexts": [context("one"), context("two")],
    });
    bench.file("kubeconfig", &config.to_string())
}
