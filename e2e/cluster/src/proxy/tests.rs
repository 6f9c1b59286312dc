use proptest::prelude::*;

use super::*;

const SERVERS: [&str; 11] = [
    "https://example.com",
    "https://api.example.com:6443",
    "https://notexample.com",
    "https://EXAMPLE.com:8443",
    "http://example.com",
    "https://10.1.2.3:6443",
    "https://10.1.2.3",
    "https://192.168.1.9:6443",
    "https://[fd00::1]:6443",
    "https://[fd00::2]",
    "https://[2001:db8::1]:6443",
];

/// `NO_PROXY`, and which of [`SERVERS`] it excepts: what `golang.org/x/net/http/httpproxy` v0.62.0 says.
const EXCEPTED: [(&str, &[usize]); 41] = [
    ("", &[]),
    ("example.com", &[0, 1, 3, 4]),
    ("EXAMPLE.COM", &[0, 1, 3, 4]),
    (".example.com", &[1]),
    ("*.example.com", &[1]),
    ("example.com:6443", &[1]),
    ("example.com:443", &[0]),
    ("api.example.com:6443", &[1]),
    ("example.com:", &[0, 1, 3, 4]),
    ("*", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ("other.example, *", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ("*:6443", &[]),
    ("*example.com", &[]),
    ("  example.com ,10.1.2.3 ", &[0, 1, 3, 4, 5, 6]),
    ("example.com 10.1.2.3", &[]),
    (",, ,", &[]),
    ("10.1.2.3", &[5, 6]),
    ("10.1.2.3:6443", &[5]),
    ("10.1.2.3:443", &[6]),
    ("10.0.0.0/8", &[5, 6]),
    ("10.0.0.0/33", &[]),
    ("10.0.0.0/+8", &[]),
    ("10.1.2.3/32", &[5, 6]),
    ("0.0.0.0/0", &[5, 6, 7]),
    ("::/0", &[8, 9, 10]),
    ("192.168.0.0/16,10.1.0.0/16", &[5, 6, 7]),
    ("fd00::1", &[8]),
    ("[fd00::1]", &[]),
    ("[fd00::1]:6443", &[8]),
    ("fd00::/8", &[8, 9]),
    ("fd00::/128", &[]),
    ("::ffff:10.1.2.3", &[5, 6]),
    ("com", &[0, 1, 2, 3, 4]),
    (".", &[]),
    ("com:80", &[4]),
    ("https://example.com", &[]),
    ("10.1", &[]),
    ("api.example.com.", &[]),
    (":6443", &[]),
    ("[]:6443", &[]),
    ("e[x:6443", &[]),
];

fn server(url: &str) -> Server {
    let uri: hyper::Uri = url.parse().unwrap();
    let secure = uri.scheme_str() == Some("https");
    Server::new(secure, uri.host().unwrap(), uri.port_u16())
}

fn variables(all: &[(&str, &str)]) -> Variables {
    all.iter().copied().collect()
}

/// What is taken, in text; the words of a refusal.
fn chosen(url: &str, proxy_url: Option<&str>, all: &[(&str, &str)]) -> String {
    match choose(&server(url), proxy_url, &variables(all)) {
        Ok(None) => "direct".into(),
        Ok(Some(proxy)) => format!("{proxy:?}"),
        Err(failure) => failure.to_string(),
    }
}

#[test]
fn exceptions_are_those_of_kubectl() {
    for (list, excepted) in EXCEPTED {
        for (at, url) in SERVERS.iter().enumerate() {
            for name in ["NO_PROXY", "no_proxy"] {
                let all = [("HTTPS_PROXY", "p"), ("HTTP_PROXY", "p"), (name, list)];
                let is_direct = chosen(url, None, &all) == "direct";
                assert_eq!(is_direct, excepted.contains(&at), "{name}={list} for {url}");
            }
        }
    }
}

#[test]
fn each_scheme_of_a_server_has_its_own_variable() {
    let of = |all: &[(&str, &str)]| {
        [
            chosen("https://a.example", None, all),
            chosen("http://a.example", None, all),
        ]
    };
    for (all, secure, plain) in [
        (&[][..], "direct", "direct"),
        (
            &[("HTTPS_PROXY", "http://p:3128")],
            "http://p:3128 of `HTTPS_PROXY`",
            "direct",
        ),
        (
            &[("http_proxy", "p:3128/")],
            "direct",
            "http://p:3128 of `http_proxy`",
        ),
        // Upper case first, and one that is empty is not set.
        (
            &[("https_proxy", "l"), ("HTTPS_PROXY", "u")],
            "http://u:80 of `HTTPS_PROXY`",
            "direct",
        ),
        (
            &[("https_proxy", "l"), ("HTTPS_PROXY", "")],
            "http://l:80 of `https_proxy`",
            "direct",
        ),
        // kubectl has no eye for it, and neither have we.
        (
            &[("ALL_PROXY", "http://p:3128"), ("all_proxy", "p")],
            "direct",
            "direct",
        ),
        // The lower case is not looked at where the upper case is set.
        (
            &[
                ("HTTPS_PROXY", "p"),
                ("NO_PROXY", "b.example"),
                ("no_proxy", "*"),
            ],
            "http://p:80 of `HTTPS_PROXY`",
            "direct",
        ),
    ] {
        assert_eq!(of(all), [secure, plain], "{all:?}");
    }
}

#[test]
fn loopback_bypasses_proxy_variables() {
    for host in [
        "localhost",
        "LOCALHOST",
        "127.0.0.1",
        "127.9.9.9",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "[::]",
    ] {
        let url = format!("https://{host}:6443");
        assert_eq!(
            chosen(&url, None, &[("HTTPS_PROXY", "p")]),
            "direct",
            "{host}"
        );
        // The one of the kubeconfig was written for this very cluster.
        assert_eq!(
            chosen(&url, Some("http://p:1"), &[("NO_PROXY", "*")]),
            "http://p:1 of `proxy-url` of the kubeconfig"
        );
    }
    for host in ["x.localhost", "localhost.example", "128.0.0.1", "[::2]"] {
        let url = format!("https://{host}:6443");
        assert_ne!(
            chosen(&url, None, &[("HTTPS_PROXY", "p")]),
            "direct",
            "{host}"
        );
    }
}

#[test]
fn the_kubeconfigs_own_comes_first() {
    let all = [("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", "a.example")];
    assert_eq!(chosen("https://a.example", None, &all), "direct");
    assert_eq!(chosen("https://a.example", Some(""), &all), "direct");
    assert_eq!(
        chosen("https://a.example", Some("socks5://k"), &all),
        "socks5://k:1080 of `proxy-url` of the kubeconfig"
    );
}

#[test]
fn what_is_no_proxy_is_refused_and_not_quoted() {
    for (value, says) in [
        ("ftp://u:s3cret@p:21", "its scheme is none of"),
        ("http://u:s3cret@", "it has no host"),
        ("http://u:s3cret@p:x", "its port is none"),
        ("http://u:s3cret@p:0", "its port is none"),
        ("http://u:s3cret@p:70000", "its port is none"),
        ("http://u:s3cret@[::1", "it has no host"),
        ("http://u:s3cret@[p]:1", "it has no host"),
        ("http://u:s3cret@a b", "it has no host"),
        ("//s3cret", "it has no host"),
    ] {
        for (proxy_url, all) in [(Some(value), &[][..]), (None, &[("HTTPS_PROXY", value)])] {
            let text = chosen("https://a.example", proxy_url, all);
            let scheme_first = proxy_url.is_some() && !value.contains("://");
            let says = if scheme_first {
                "it has no scheme"
            } else {
                says
            };
            assert!(text.contains(says), "{value}: {text}");
            assert!(!text.contains("s3cret"), "{text}");
        }
    }
    // As kubectl has it: a variable may leave the scheme out, the kubeconfig may not.
    let text = chosen("https://a.example", Some("127.0.0.1:3128"), &[]);
    assert!(text.contains("it has no scheme"), "{text}");
    // What is not taken is not looked at.
    let all = [("HTTPS_PROXY", "ftp://p"), ("NO_PROXY", "a.example")];
    assert_eq!(chosen("https://a.example", None, &all), "direct");
}

#[test]
fn user_and_password_are_decoded_and_never_shown() {
    for (url, user, password) in [
        ("http://ferry:s3cret@p:1", "ferry", "s3cret"),
        ("ferry:s3cret@p:1", "ferry", "s3cret"),
        ("socks5://fe%40rry:s%3A3%2Fc@p:1", "fe@rry", "s:3/c"),
        ("https://ferry@p:1", "ferry", ""),
        ("http://ferry:a@b:c@p:1", "ferry", "a@b:c"),
        ("http://%zz:%ff@p:1", "%zz", "\u{fffd}"),
    ] {
        let proxy = Proxy::parse(url, Source::Variable("HTTPS_PROXY")).unwrap();
        let has = proxy.credentials().unwrap();
        assert_eq!((&*has.user, &*has.password), (user, password), "{url}");
        assert_eq!((proxy.host(), proxy.port()), ("p", 1), "{url}");
        let shown = format!("{proxy} {proxy:?} {has:?}");
        assert!(!shown.contains("rry") && !shown.contains("s3"), "{shown}");
    }
    let all = variables(&[("HTTPS_PROXY", "http://ferry:s3cret@p:1")]);
    assert_eq!(format!("{all:?}"), r#"{"HTTPS_PROXY"}"#);
}

#[test]
fn a_proxy_may_be_an_address_of_either_family() {
    for (url, shown) in [
        ("http://[::1]:3128", "http://[::1]:3128"),
        ("[fd00::1]", "http://[fd00::1]:80"),
        ("https://10.0.0.1/x?y#z", "https://10.0.0.1:443"),
        ("SOCKS5H://Proxy.Example:", "socks5://proxy.example:1080"),
        (" http://p:8080 ", "http://p:8080"),
    ] {
        let proxy = Proxy::parse(url, Source::Variable("HTTPS_PROXY")).unwrap();
        assert_eq!(proxy.to_string(), shown, "{url}");
    }
}

proptest! {
    #[test]
    fn no_text_brings_it_down(value in ".{0,40}", list in "[-a-z0-9.:/*,\\[\\] ]{0,40}", any in ".{0,40}") {
        for url in SERVERS {
            let _ = chosen(url, None, &[("HTTPS_PROXY", &*value), ("HTTP_PROXY", &*list), ("NO_PROXY", &*list)]);
            let _ = chosen(url, Some(&*any), &[("NO_PROXY", &*any)]);
            let _ = chosen(url, None, &[("HTTPS_PROXY", "p"), ("NO_PROXY", &*any)]);
        }
    }
}
