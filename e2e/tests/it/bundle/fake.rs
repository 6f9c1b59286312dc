//! Somebody with a bundle, and a `kubectl` that only writes down what it is asked.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Arc, Mutex},
};

use blueprint::{Blueprint, Target};
use harness::ops::bundle::{self, Request, Written};
use host::manifests;

/// All that the scripts may use beside the shell itself.
const TOOLS: [&str; 19] = [
    "awk", "cat", "cp", "curl", "cut", "date", "dirname", "env", "grep", "head", "mktemp", "mv",
    "rm", "sed", "sh", "tail", "tr", "true", "kill",
];

pub(crate) fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

pub(crate) fn request(blueprint: Blueprint, target: Target, out: PathBuf) -> Request {
    Request {
        blueprint,
        target,
        addresses: vec![],
        image: "registry.example/ferry:1.0".into(),
        envoy_image: None,
        pull_secret: None,
        architectures: vec!["amd64".parse().unwrap()],
        out: Some(out),
        identity: None,
    }
}

pub(crate) fn shipped(name: &str) -> Blueprint {
    manifests::load(manifests().join(name).join("blueprint.yaml")).unwrap()
}

/// A proxy that answers nothing and writes down what it is asked.
pub(crate) struct Recorder {
    port: u16,
    heard: Arc<Mutex<String>>,
}

impl Recorder {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let recorder = Self {
            port: listener.local_addr().unwrap().port(),
            heard: Arc::default(),
        };
        let heard = recorder.heard.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut head = [0; 4096];
                let length = stream.read(&mut head).unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..length]);
                *heard.lock().unwrap() += &format!("{head}----\n");
                let _ = stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
            }
        });
        recorder
    }

    pub(crate) fn heard(&self) -> String {
        self.heard.lock().unwrap().clone()
    }
}

pub(crate) struct Operator {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
    pub(crate) bundle: PathBuf,
    pub(crate) written: Written,
}

impl Operator {
    pub(crate) fn new(name: &str, addresses: &[&str]) -> Self {
        Self::with(shipped(name), addresses)
    }

    pub(crate) fn with(blueprint: Blueprint, addresses: &[&str]) -> Self {
        Self::with_target(blueprint, Target::Generic, addresses)
    }

    pub(crate) fn with_target(blueprint: Blueprint, target: Target, addresses: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("bundle");
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let contexts: Vec<String> = blueprint
            .clusters
            .iter()
            .map(|name| context(name))
            .collect();
        let written = bundle::write(&Request {
            addresses,
            ..request(blueprint, target, bundle.clone())
        })
        .unwrap();
        let operator = Self {
            folder,
            variables: vec![],
            bundle,
            written,
        };
        fs::create_dir_all(operator.state("")).unwrap();
        for context in &contexts {
            operator.cluster(context);
        }
        operator.set("contexts", &(contexts.join("\n") + "\n"));
        operator.set("address", "203.0.113.7 \n");
        operator.set(
            "log",
            "INFO 🔁 Auto-trigger complete — 5/5 messages sent.\n",
        );
        let tools = operator.tools();
        fs::create_dir_all(&tools).unwrap();
        for tool in TOOLS {
            let found = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(tool));
            let found = found.iter().find(|path| path.exists());
            if let Some(found) = found {
                symlink(found, tools.join(tool)).unwrap();
            }
        }
        operator.tool("kubectl", include_str!("kubectl.sh"));
        // What a script waits for is there at once, or never.
        operator.tool("sleep", "#!/bin/sh\n");
        operator
    }

    fn tools(&self) -> PathBuf {
        self.folder.path().join("tools")
    }

    fn tool(&self, name: &str, text: &str) {
        let path = self.tools().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn without(&self, tool: &str) {
        fs::remove_file(self.tools().join(tool)).unwrap();
    }

    fn state(&self, name: &str) -> PathBuf {
        self.folder.path().join("clusters").join(name)
    }

    /// Makes the cluster of a context.
    pub(crate) fn cluster(&self, context: &str) {
        fs::create_dir_all(self.state(context)).unwrap();
    }

    /// What the clusters say: see `kubectl.sh`.
    pub(crate) fn set(&self, name: &str, text: &str) {
        fs::write(self.state(name), text).unwrap();
    }

    pub(crate) fn get(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.state(name)).ok()
    }

    /// What `kubectl` was asked since the last time.
    pub(crate) fn calls(&self) -> String {
        let calls = self.get("calls").unwrap_or_default();
        self.set("calls", "");
        calls
    }

    pub(crate) fn sh(&self, line: &str) -> Output {
        Command::new("/bin/sh")
            .args(["-euc", line])
            .current_dir(&self.bundle)
            .env_clear()
            .env("PATH", self.tools())
            .env("FAKE", self.state(""))
            .envs(self.variables.iter().cloned())
            .output()
            .unwrap()
    }

    /// Sends all that obeys the environment or a `~/.curlrc` through a proxy; what reaches it is written down.
    pub(crate) fn behind_proxy(&mut self) -> Recorder {
        let recorder = Recorder::start();
        let proxy = format!("http://127.0.0.1:{}", recorder.port);
        let home = self.folder.path().display().to_string();
        fs::write(
            self.folder.path().join(".curlrc"),
            format!("proxy = \"{proxy}\"\n"),
        )
        .unwrap();
        let names = ["http_proxy", "https_proxy", "all_proxy"];
        let both = names.iter().map(|name| (*name).to_owned());
        self.variables = both
            .chain(names.iter().map(|name| name.to_ascii_uppercase()))
            .map(|name| (name, proxy.clone()))
            .chain([
                ("HOME".to_owned(), home),
                ("no_proxy".to_owned(), "elsewhere.example".to_owned()),
            ])
            .collect();
        recorder
    }

    /// Runs a line that must end so and say so; returns what it has printed as data.
    #[track_caller]
    pub(crate) fn expect(&self, line: &str, code: i32, says: &str) -> String {
        let done = self.sh(line);
        let [out, log] = [&done.stdout, &done.stderr].map(|text| String::from_utf8_lossy(text));
        assert!(
            done.status.code() == Some(code) && (out.contains(says) || log.contains(says)),
            "`{line}` must end with {code} and say `{says}`, not {}:\n{out}\n{log}\n{}",
            done.status,
            self.calls()
        );
        out.into_owned()
    }

    /// Answers at `/output` of the sink in `namespace` with these lines.
    pub(crate) fn serve(&self, namespace: &str, lines: &[String]) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        self.set("port", &listener.local_addr().unwrap().port().to_string());
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let token = format!("authorization: bearer token-of-{namespace}");
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let head: Vec<String> = BufReader::new(stream.try_clone().unwrap())
                    .lines()
                    .map_while(Result::ok)
                    .take_while(|line| !line.is_empty())
                    .map(|line| line.to_ascii_lowercase())
                    .collect();
                let asked = head
                    .first()
                    .is_some_and(|line| line.starts_with("get /output "));
                let status = if asked && head.contains(&token) {
                    "200 OK"
                } else {
                    "401 Unauthorized"
                };
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
    }
}

/// The context of a cluster, as odd as those of clouds are.
pub(crate) fn context(cluster: &str) -> String {
    format!("arn:aws:eks:eu-west-1:1:cluster/{cluster}")
}

/// A message that came by these pods: `cluster/pod`.
pub(crate) fn message(blueprint: &str, seq: usize, stops: &[&str]) -> String {
    let hops: Vec<String> = stops
        .iter()
        .map(|stop| {
            let (cluster, pod) = stop.split_once('/').unwrap();
            format!(
                r#"{{"pod":"{pod}-5d9c-x{seq}","role":"sink","cluster":"{cluster}","namespace":"{blueprint}-{pod}-ns","node":"n","at":"2026-01-01T00:00:00.000000Z","signature":"e30..x"}}"#
            )
        })
        .collect();
    // A payload that looks like a trail must not be taken for one.
    format!(
        r#"{{"id":"0190-{seq}","blueprint":"{blueprint}","seq":{seq},"payload":{{"trail":[{{"pod":"liar","cluster":"nowhere"}}]}},"trail":[{}]}}"#,
        hops.join(",")
    )
}
