mod fakes;
mod plugins;

use std::net::Ipv6Addr;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use fakes::{Answer, Certificate, Fake, fake, fake_at};
use serde_json::json;

use super::*;

/// What no proxy may ever hear.
const TOKEN: &str = "s3cret-of-the-user";

/// One context, `x`: its cluster has these members.
fn kubeconfig(cluster: serde_json::Value) -> serde_json::Value {
    json!({
        "clusters": [{ "name": "c", "cluster": cluster }],
        "users": [{ "name": "u", "user": { "token": TOKEN } }],
        "contexts": [{ "name": "x", "context": { "cluster": "c", "user": "u", "namespace": "elsewhere" } }],
    })
}

async fn connect(config: serde_json::Value, variables: &[(&str, &str)]) -> anyhow::Result<Client> {
    let config = serde_json::from_value(config)?;
    open(config, Some("x"), &variables.iter().copied().collect()).await
}

/// What the server's version is, or the error's whole chain.
async fn ask(config: serde_json::Value, variables: &[(&str, &str)]) -> Result<String, String> {
    let asked = async {
        let client = connect(config, variables).await?;
        Ok::<_, anyhow::Error>(client.apiserver_version().await?.git_version)
    };
    asked.await.map_err(|error| format!("{error:#}"))
}

/// What the server was asked for, and whether by the user.
fn requests(server: &Fake) -> Vec<String> {
    let token = format!("authorization: bearer {TOKEN}");
    let of = |head: String| {
        let known = head.to_ascii_lowercase().contains(&token);
        format!(
            "{}{}",
            head.lines().next().unwrap(),
            if known { "" } else { " without token" }
        )
    };
    server.heard().into_iter().map(of).collect()
}

fn assert_asked(server: &Fake, path: &str) {
    assert_eq!(requests(server), [format!("GET {path} HTTP/1.1")]);
}

#[tokio::test]
async fn every_kind_of_proxy_leads_to_the_server() {
    let certificate = Certificate::new(&["127.0.0.1"]);
    for secure in [false, true] {
        let of_server = secure.then_some(&certificate);
        for (scheme, user, answer) in [
            ("http", "", Answer::Through),
            ("http", "ferry:p%40ss@", Answer::Through),
            ("https", "", Answer::Through),
            ("socks5", "", Answer::Socks(None)),
            (
                "socks5",
                "ferry:p%40ss@",
                Answer::Socks(Some(("ferry", "p@ss"))),
            ),
            // One that does not ask for them.
            ("socks5", "ferry:p%40ss@", Answer::Socks(None)),
        ] {
            let server = fake(Answer::Version, of_server).await;
            let of_proxy = (scheme == "https").then_some(&certificate);
            let proxy = fake(answer, of_proxy).await;
            let url = format!("{scheme}://{user}{}", proxy.address);
            let config = kubeconfig(json!({
                "server": format!("{}://{}", if secure { "https" } else { "http" }, server.address),
                "certificate-authority-data": BASE64_STANDARD.encode(&certificate.pem),
                "proxy-url": url,
            }));
            let version = ask(config, &[("NO_PROXY", "*")]).await;
            assert_eq!(version.as_deref(), Ok("v1.34.0"), "{url}");
            assert_asked(&server, "/version");
            let heard = proxy.heard();
            let first = heard[0].lines().next().unwrap().to_owned();
            match scheme {
                "socks5" => assert_eq!(first, format!("SOCKS {}", server.address)),
                _ => assert_eq!(first, format!("CONNECT {} HTTP/1.1", server.address)),
            }
            let basic = BASE64_STANDARD.encode("ferry:p@ss");
            let told = heard
                .concat()
                .contains(&format!("proxy-authorization: Basic {basic}"));
            assert_eq!(told, scheme == "http" && !user.is_empty(), "{heard:?}");
            assert!(!heard.concat().contains(TOKEN), "{heard:?}");
        }
    }
}

#[tokio::test]
async fn proxy_variable_applies_but_for_exceptions() {
    let server = fake(Answer::Version, None).await;
    let proxy = fake(Answer::Through, None).await;
    let url = format!("http://{}", proxy.address);
    let config = kubeconfig(json!({ "server": format!("http://{}", server.address) }));
    // This machine is never reached by one, and a variable for the other scheme says nothing.
    for name in [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
    ] {
        let version = ask(config.clone(), &[(name, &*url)]).await;
        assert_eq!(version.as_deref(), Ok("v1.34.0"), "{name}");
    }
    assert!(proxy.heard().is_empty());
    // One that is not there is named.
    let nowhere = kubeconfig(json!({ "server": "http://127.0.0.1:9" }));
    let error = ask(nowhere, &[("HTTP_PROXY", &*url)]).await.unwrap_err();
    assert!(error.contains("127.0.0.1:9: Connection refused"), "{error}");
    // A name that only the proxy knows.
    let asked = fake(Answer::Says("HTTP/1.1 404 Not Found\r\n\r\n"), None).await;
    let url = format!("http://{}", asked.address);
    let config = kubeconfig(json!({ "server": "https://api.invalid:6443" }));
    for name in ["HTTPS_PROXY", "https_proxy"] {
        let error = ask(config.clone(), &[(name, &*url)]).await.unwrap_err();
        assert!(
            error.contains(&format!("the proxy {url} to api.invalid:6443 answers 404")),
            "{error}"
        );
    }
    assert_eq!(asked.heard().len(), 2);
    let excepted = [
        ("HTTPS_PROXY", &*url),
        ("no_proxy", "b.example, .invalid:6443"),
    ];
    let error = ask(config, &excepted).await.unwrap_err();
    assert!(!error.contains("proxy"), "{error}");
    assert_eq!(asked.heard().len(), 2);
}

#[tokio::test]
async fn refusing_proxy_is_named_with_hint() {
    let certificate = Certificate::new(&["127.0.0.1"]);
    let gone = "http://127.0.0.1:9".to_owned();
    for (answer, scheme, user, says, hint, passes) in [
        (
            "HTTP/1.1 403 Forbidden\r\n\r\n",
            "http",
            "",
            "answers 403 Forbidden",
            "`NO_PROXY`",
            false,
        ),
        (
            "HTTP/1.1 407 x\r\n\r\n",
            "http",
            "",
            "asks for a user and a password",
            "USER:PASSWORD@",
            false,
        ),
        (
            "HTTP/1.1 407 x\r\n\r\n",
            "http",
            "f:pa55@",
            "refuses the user and the password",
            "correct them",
            false,
        ),
        (
            "HTTP/1.1 502 Bad Gateway\r\n\r\n",
            "http",
            "f:pa55@",
            "answers 502 Bad Gateway",
            "whether the proxy reaches api.invalid:443",
            true,
        ),
        (
            "HTTP/1.1 301 x\r\nlocation: /\r\n\r\n",
            "http",
            "",
            "answers 301",
            "`NO_PROXY`",
            false,
        ),
        (
            "SSH-2.0-x\r\n\r\n",
            "http",
            "",
            "is no HTTP proxy, or broke off",
            "correct the proxy",
            false,
        ),
        (
            "",
            "http",
            "",
            "is no HTTP proxy, or broke off",
            "correct the proxy",
            false,
        ),
        (
            "",
            "https",
            "",
            "speaks no TLS that is trusted",
            "certificate-authority",
            false,
        ),
        (
            "HTTP/1.1 400 Bad Request\r\n\r\n",
            "gone",
            "",
            "cannot be reached",
            "correct the proxy",
            false,
        ),
    ] {
        let of_proxy = (scheme == "https").then_some(&certificate);
        let proxy = fake(Answer::Says(answer), of_proxy).await;
        let url = match scheme {
            "gone" => gone.clone(),
            scheme => format!("{scheme}://{user}{}", proxy.address),
        };
        let config = kubeconfig(json!({ "server": "https://api.invalid" }));
        let client = connect(config, &[("HTTPS_PROXY", &*url)]).await.unwrap();
        let error = client.apiserver_version().await.unwrap_err();
        let trouble = no_way(&error).unwrap();
        assert_eq!(trouble.may_pass(), passes, "{trouble}");
        let error = anyhow::Error::from(error);
        let failure = Failure::of(&error).unwrap();
        let next = failure.next_step().unwrap();
        let text = format!("{error:#} {failure} {next}");
        assert!(failure.to_string().contains(says), "{text}");
        assert!(failure.to_string().contains("to api.invalid:443"), "{text}");
        assert!(
            next.contains(hint) && next.contains("`HTTPS_PROXY`"),
            "{text}"
        );
        assert!(!text.contains("pa55"), "{text}");
        assert_eq!(Failure::exit_code(&error), 3);
    }
}

#[tokio::test]
async fn what_a_socks_proxy_answers_is_told() {
    let wanted = Answer::Socks(Some(("a", "b")));
    for (answer, user, says, passes) in [
        (wanted, "", "asks for a user and a password", false),
        (
            wanted,
            "f:pa55@",
            "refuses the user and the password",
            false,
        ),
        (
            Answer::SocksRefusal(2),
            "",
            "does not allow that server",
            false,
        ),
        (
            Answer::SocksRefusal(5),
            "",
            "answers: connection refused",
            true,
        ),
        (Answer::SocksRefusal(9), "", "answers with code 9", false),
    ] {
        let proxy = fake(answer, None).await;
        let config = kubeconfig(json!({
            "server": "https://api.invalid",
            "proxy-url": format!("socks5://{user}{}", proxy.address),
        }));
        let client = connect(config, &[]).await.unwrap();
        let error = client.apiserver_version().await.unwrap_err();
        let trouble = no_way(&error).unwrap();
        assert_eq!(trouble.may_pass(), passes, "{trouble}");
        assert!(trouble.to_string().contains(says), "{trouble}");
        let hint = trouble.failure("").next_step().unwrap().to_owned();
        assert!(hint.contains("`proxy-url` of the kubeconfig"), "{hint}");
    }
}

#[tokio::test]
async fn a_server_is_read_as_kubectl_reads_it() {
    let certificate = Certificate::new(&["127.0.0.1", "::1", "api.example"]);
    let plain = fake(Answer::Version, None).await;
    let secure = fake(Answer::Version, Some(&certificate)).await;
    let sixth = (Ipv6Addr::LOCALHOST, 0).into();
    let sixth = fake_at(sixth, Answer::Version, Some(&certificate)).await;
    let authority = BASE64_STANDARD.encode(&certificate.pem);
    let with = |server: String, name: Option<&str>| json!({ "server": server, "certificate-authority-data": authority, "tls-server-name": name });
    let (p, s) = (plain.address, secure.address);
    for (cluster, server, path) in [
        (
            json!({ "server": format!("http://{p}/") }),
            &plain,
            "/version",
        ),
        // As Rancher has it.
        (
            json!({ "server": format!("http://{p}/k8s/clusters/c-1") }),
            &plain,
            "/k8s/clusters/c-1/version",
        ),
        (
            json!({ "server": format!("http://{p}/a/b/") }),
            &plain,
            "/a/b/version",
        ),
        // Without a scheme it is HTTPS where there are certificates.
        (json!({ "server": p.to_string() }), &plain, "/version"),
        (with(s.to_string(), None), &secure, "/version"),
        (
            with(format!("https://{s}"), Some("api.example")),
            &secure,
            "/version",
        ),
        (
            with(
                format!("https://localhost:{}", s.port()),
                Some("api.example"),
            ),
            &secure,
            "/version",
        ),
        (
            json!({ "server": s.to_string(), "insecure-skip-tls-verify": true }),
            &secure,
            "/version",
        ),
        (
            with(format!("https://{}", sixth.address), None),
            &sixth,
            "/version",
        ),
        (with(sixth.address.to_string(), None), &sixth, "/version"),
    ] {
        let before = server.heard().len();
        let version = ask(kubeconfig(cluster.clone()), &[]).await;
        assert_eq!(version.as_deref(), Ok("v1.34.0"), "{cluster}");
        assert_eq!(requests(server)[before..], [format!("GET {path} HTTP/1.1")]);
    }
    for (server, says) in [
        ("", "has no `server`"),
        ("api.example:6443/k8s", "`api.example:6443/k8s`, is no URL"),
        ("ftp://api.example", "is no URL"),
        ("https://", "is no URL"),
        ("https://u:pa55@a b", "its `server` is no URL"),
    ] {
        let error = connect(kubeconfig(json!({ "server": server })), &[])
            .await
            .err()
            .unwrap();
        assert!(error.to_string().contains(says), "{server}: {error:#}");
        assert!(!format!("{error:#}").contains("pa55"), "{error:#}");
        assert_eq!(Failure::exit_code(&error), 2);
    }
    // The name of another server is not taken.
    let error = ask(
        kubeconfig(with(format!("https://{s}"), Some("other.example"))),
        &[],
    )
    .await;
    assert!(error.unwrap_err().contains("certificate"));
}

#[tokio::test]
async fn the_namespace_of_a_context_goes_nowhere() {
    let server = fake(Answer::Version, None).await;
    let config = kubeconfig(json!({ "server": format!("http://{}", server.address) }));
    let cluster = super::super::Cluster {
        name: "cluster-a".into(),
        client: connect(config, &[]).await.unwrap(),
    };
    // What comes is no namespace; what was asked for counts.
    let _ = cluster.owner_of("ours", "label").await;
    let _ = cluster.log("ours", "pod", "app").await;
    let asked = requests(&server).concat();
    assert!(
        asked.contains("/namespaces/ours") && !asked.contains("elsewhere"),
        "{asked}"
    );
}
