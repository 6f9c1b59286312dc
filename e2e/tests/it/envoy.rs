//! Golden files of what the blueprints come to, and the properties that matter one by one. `live` runs real Envoys.

mod fixture;
mod golden;
mod live;

use fixture::{Pods, name, paths};
use serde_json::{Value, json};

use std::{collections::BTreeMap, path::Path};

use blueprint::plan::PodPlan;
use render::envoy::*;

/// Every object that is an `Any` of this message, wherever it stands.
fn all<'a>(config: &'a Value, message: &str) -> Vec<&'a Value> {
    let mut found = vec![];
    let mut open = vec![config];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                if value["@type"] == format!("type.googleapis.com/{message}") {
                    found.push(value);
                }
                open.extend(fields.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    found
}

const DOWNSTREAM_TLS: &str = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
const UPSTREAM_TLS: &str = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const HTTP: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

fn pins(context: &Value) -> &Value {
    &context["common_tls_context"]["combined_validation_context"]["default_validation_context"]["match_typed_subject_alt_names"]
}

/// The filter chain of the ingress with this name.
fn chain<'a>(config: &'a Value, name: &str) -> Option<&'a Value> {
    let chains = &config["static_resources"]["listeners"][0]["filter_chains"];
    let mut chains = chains.as_array().unwrap().iter();
    chains.find(|chain| chain["name"] == name)
}

/// The server's TLS of the tunnel.
fn tunnel(config: &Value) -> Option<&Value> {
    chain(config, "tunnel").map(|chain| &chain["transport_socket"]["typed_config"])
}

#[test]
fn pinhole_https_is_on_boundary_pods_alone() {
    let pods = Pods::ferry();
    let config = bootstrap(&pods.sink, &paths());
    let pinhole = chain(&config, "pinhole").expect("a pinhole");
    assert_eq!(
        pinhole["filter_chain_match"],
        json!({
            "transport_protocol": "tls",
            "server_names": ["pinhole.sink.cluster-b.international-ferry.ferry.internal"],
        })
    );
    let context = &pinhole["transport_socket"]["typed_config"];
    assert_eq!(context["require_client_certificate"], false);
    assert_eq!(context["disable_stateless_session_resumption"], true);
    assert_eq!(context["disable_stateful_session_resumption"], true);
    assert_eq!(
        context["common_tls_context"]["validation_context"],
        Value::Null
    );
    // The same as plaintext has, and nothing of the tunnel.
    let plaintext = chain(&config, "plaintext").unwrap();
    assert_eq!(
        routes(all(pinhole, HTTP)[0]),
        routes(all(plaintext, HTTP)[0])
    );
    assert!(
        !pinhole.to_string().contains(r#""identity""#),
        "{pinhole:#}"
    );
    assert!(!tunnel(&config).unwrap().to_string().contains("pinhole"));

    let closed = PodPlan {
        pinhole: false,
        ..pods.sink
    };
    let config = bootstrap(&closed, &paths());
    assert!(chain(&config, "pinhole").is_none(), "{config:#}");
    assert!(tunnel(&config).is_some());
}

#[test]
fn pinhole_certificate_is_watched_in_its_folder() {
    let file = pinhole(&EnvoyPaths::in_pod());
    assert_eq!(
        file["resources"][0]["tls_certificate"],
        json!({
            "certificate_chain": { "filename": "/etc/ferry/pinhole/tls.crt" },
            "private_key": { "filename": "/etc/ferry/pinhole/tls.key" },
            "watched_directory": { "path": "/etc/ferry/pinhole" },
        })
    );
}

#[test]
fn ingress_accepts_exactly_the_upstream_pods() {
    let pods = Pods::fan_in();
    let config = bootstrap(&pods.sink, &paths());
    let context = tunnel(&config).expect("a tunnel");
    assert_eq!(
        pins(context),
        &json!([
            { "san_type": "DNS", "matcher": { "exact": "left.cluster-a.fan.ferry.internal" } },
            { "san_type": "DNS", "matcher": { "exact": "right.cluster-b.fan.ferry.internal" } },
        ])
    );
    assert_eq!(context["require_client_certificate"], true);
    assert_eq!(context["disable_stateless_session_resumption"], true);
    assert_eq!(context["disable_stateful_session_resumption"], true);
}

#[test]
fn egress_demands_exactly_the_downstream_pod() {
    let pods = Pods::ferry();
    let file = peers(&pods.gateway, &pods.addresses, &paths());
    let [context] = all(&file, UPSTREAM_TLS)[..] else {
        panic!("one client context expected in {file:#}");
    };
    let sink = "sink.cluster-b.international-ferry.ferry.internal";
    assert_eq!(context["sni"], sink);
    assert_eq!(context["max_session_keys"], 0);
    assert_eq!(
        pins(context),
        &json!([{ "san_type": "DNS", "matcher": { "exact": sink } }])
    );
}

#[test]
fn both_sides_speak_tls_1_3_alone() {
    let pods = Pods::ferry();
    let server = bootstrap(&pods.sink, &paths());
    let client = peers(&pods.gateway, &pods.addresses, &paths());
    for context in [
        all(&server, DOWNSTREAM_TLS)[0],
        all(&server, DOWNSTREAM_TLS)[1],
        all(&client, UPSTREAM_TLS)[0],
    ] {
        assert_eq!(
            context["common_tls_context"]["tls_params"],
            json!({ "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" })
        );
    }
}

#[test]
fn a_pod_without_upstreams_has_no_tunnel() {
    let config = bootstrap(&Pods::ferry().gateway, &paths());
    assert!(tunnel(&config).is_none(), "{config:#}");
    assert!(!config.to_string().contains("\"relay\""), "{config:#}");
}

#[test]
fn egress_ports_follow_blueprint_order() {
    let pods = Pods::fan_out();
    let config = bootstrap(&pods.gateway, &paths());
    let ports: Vec<_> = config["static_resources"]["listeners"]
        .as_array()
        .unwrap()
        .iter()
        .map(|listener| {
            (
                listener["name"].as_str().unwrap(),
                listener["address"]["socket_address"]["port_value"]
                    .as_u64()
                    .unwrap(),
            )
        })
        .collect();
    assert_eq!(
        ports,
        [
            ("ingress", 18000),
            ("egress/cluster-b/zulu", 18001),
            ("egress/cluster-a/alpha", 18002),
            ("stats", 9902),
        ]
    );
}

#[test]
fn no_listener_shares_its_port() {
    let pods = Pods::fan_out();
    let balancer = load_balancer(
        &[(
            "127.1.1.1:30200".parse().unwrap(),
            "127.1.1.2:18000".parse().unwrap(),
        )],
        "127.1.1.1:1".parse().unwrap(),
        Path::new("admin.sock"),
    );
    for config in [bootstrap(&pods.gateway, &paths()), balancer] {
        for listener in config["static_resources"]["listeners"].as_array().unwrap() {
            assert_eq!(listener["enable_reuse_port"], false, "{listener:#}");
        }
    }
}

/// (method, path) of every route of a manager, the last one being the refusal.
fn routes(manager: &Value) -> Vec<(String, String)> {
    manager["route_config"]["virtual_hosts"][0]["routes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|route| {
            let text = |value: &Value| value.as_str().unwrap_or("any").to_owned();
            (
                text(&route["match"]["headers"][0]["string_match"]["exact"]),
                text(&route["match"]["path"]),
            )
        })
        .collect()
}

#[test]
fn plaintext_reaches_health_and_pinhole_alone() {
    let pods = Pods::ferry();
    let open = |pod: &PodPlan| {
        let config = bootstrap(pod, &paths());
        let listener = config["static_resources"]["listeners"][0].clone();
        let routes = routes(all(&listener, HTTP)[0]);
        routes
            .iter()
            .map(|(method, path)| format!("{method} {path}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        open(&pods.gateway),
        ["GET /health", "POST /trigger", "any any"]
    );
    assert_eq!(
        open(&pods.sink),
        ["GET /health", "GET /output", "POST /output/read", "any any"]
    );
    let closed = PodPlan {
        pinhole: false,
        ..pods.sink
    };
    assert_eq!(open(&closed), ["GET /health", "any any"]);
}

#[test]
fn a_target_without_address_is_left_out() {
    let pods = Pods::fan_out();
    let none = peers(&pods.gateway, &BTreeMap::new(), &paths());
    assert_eq!(none, json!({ "version_info": "no peers", "resources": [] }));
    let mut one = pods.addresses.clone();
    one.remove(&name("fan", "cluster-b", "zulu"));
    let file = peers(&pods.gateway, &one, &paths());
    assert_eq!(file["version_info"], "alpha=127.81.0.1:30101");
    assert_eq!(file["resources"].as_array().unwrap().len(), 1);
    assert_eq!(
        file["resources"][0]["name"],
        peer_cluster(&name("fan", "cluster-a", "alpha"))
    );
}

#[test]
fn peers_file_excludes_other_pods() {
    let pods = Pods::ferry();
    let file = peers(&pods.sink, &pods.addresses, &paths());
    assert_eq!(file["resources"], json!([]));
}

#[test]
fn who_listens_everywhere_is_dialled_on_loopback() {
    let config = bootstrap(&Pods::ferry().sink, &EnvoyPaths::in_pod());
    let app = &config["static_resources"]["clusters"][0];
    assert_eq!(
        app["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"],
        json!({ "socket_address": { "address": "127.0.0.1", "port_value": 8000 } })
    );
}

#[test]
fn the_admin_interface_is_a_socket_of_its_owner() {
    let config = bootstrap(&Pods::ferry().sink, &paths());
    assert_eq!(
        config["admin"]["address"],
        json!({ "pipe": { "path": "admin.sock", "mode": 0o600 } })
    );
}
