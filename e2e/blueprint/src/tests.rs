mod files;
mod hostile;
mod storage;
mod targets;

use rstest::rstest;

use super::*;

/// A good blueprint; cases replace lines of it.
const GOOD: &str = "\
# yaml-language-server: $schema=../blueprint.schema.json
name: tour
title: Tour
protocol: grpc
clusters: [a, b]
pods:
  - name: gate
    role: gateway
    cluster: a
    port: 30100
  - name: relay
    role: processor
    cluster: b
    port: 30200
  - name: end
    role: sink
    cluster: b
    port: 30300
connections:
  - from: gate
    to: relay
  - from: relay
    to: [end]
";

/// [`GOOD`] with some lines replaced.
fn with(lines: &[(usize, &str)]) -> String {
    let mut text: Vec<&str> = GOOD.lines().collect();
    for (line, replacement) in lines {
        text[line - 1] = replacement;
    }
    text.join("\n") + "\n"
}

fn parse(text: &str) -> Result<Blueprint, Problems> {
    Blueprint::parse(text, Path::new("tour.yaml"))
}

/// The problems of `text`, each as `line: problem; fix`.
fn problems(text: &str) -> Vec<String> {
    let Err(problems) = parse(text) else {
        return Vec::new();
    };
    let line = |problem: &Problem| problem.line.map_or(String::new(), |line| line.to_string());
    problems
        .iter()
        .map(|problem| format!("{}: {}", line(problem), problem.text))
        .collect()
}

#[track_caller]
fn assert_problems(text: &str, expected: &[&str]) {
    assert_eq!(
        problems(text),
        expected,
        "problems of this blueprint must be these and no others:\n{text}"
    );
}

#[test]
fn the_good_blueprint_is_read_as_it_is_written() {
    let tour = parse(GOOD).unwrap();
    assert_eq!(tour.clusters, ["a", "b"]);
    assert_eq!(tour.messages, 5);
    assert_eq!(tour.path(), Path::new("tour.yaml"));
    let relay = tour.pod("relay").unwrap();
    assert_eq!(
        (relay.role, relay.port, relay.pinhole, relay.line),
        (Role::Processor, 30200, false, 11)
    );
    assert_eq!(
        tour.workload(relay).unwrap().to_string(),
        "relay.b.tour.ferry.internal"
    );
    let edges: Vec<_> = tour.edges().map(|edge| (edge.from, edge.to)).collect();
    assert_eq!(edges, [("gate", "relay"), ("relay", "end")]);
}

#[test]
fn a_connection_may_have_a_protocol_of_its_own() {
    let text = with(&[(21, "    to: relay\n    protocol: websocket")]);
    let tour = parse(&text).unwrap();
    let protocols: Vec<_> = tour.edges().map(|edge| edge.protocol).collect();
    assert_eq!(protocols, [Protocol::Websocket, Protocol::Grpc]);
}

#[rstest]
#[case::block_list(&[(23, "    to:\n      - end")])]
#[case::flow_mapping(&[(22, "  - {from: relay, to: end}"), (23, "")])]
#[case::quoted(&[(2, "name: \"tour\""), (3, "title: '12'")])]
#[case::no_messages_by_itself(&[(3, "title: Tour\nmessages: 0")])]
#[case::most_messages(&[(3, "title: Tour\nmessages: 10000")])]
#[case::pinhole(&[(10, "    port: 30100\n    pinhole: true")])]
#[case::lowest_port(&[(10, "    port: 1024")])]
#[case::highest_port(&[(10, "    port: 65535")])]
#[case::same_port_in_another_cluster(&[(10, "    port: 30200")])]
#[case::document_marker(&[(1, "---")])]
#[case::byte_order_mark(&[(1, "\u{feff}# begins with a mark")])]
#[case::digits_where_no_service_is(&[(2, "name: 7-seas"), (5, "clusters: [1a, b]"), (9, "    cluster: 1a")])]
#[case::longest_cluster(&[(5, "clusters: [aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, b]"), (9, "    cluster: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")])]
#[case::nearly_of_kubernetes(&[(2, "name: kubelet")])]
#[case::longest_namespace(&[(2, "name: blueprint-whose-name-leaves-room-for-five-letters-aa")])]
fn what_is_allowed_passes(#[case] lines: &[(usize, &str)]) {
    assert_problems(&with(lines), &[]);
}

#[rstest]
// Keys
#[case::unknown_key(&[(10, "    port: 30100\n    colour: red")], &["11: unknown key `colour` in pod `gate`; remove it, the known keys are `name`, `role`, `cluster`, `port`, `pinhole`, `storage`"])]
#[case::key_with_a_slip(&[(10, "    prot: 30100")], &["10: unknown key `prot` in pod `gate`; did you mean `port`?"])]
#[case::merge_key(&[(3, "title: Tour\n<<: {a: b}")], &["4: unknown key `<<` in the blueprint; remove it, the known keys are `name`, `title`, `protocol`, `clusters`, `pods`, `connections`, `messages`, `targets`"])]
#[case::repeated_key(&[(10, "    port: 30100\n    port: 5000")], &["11: key `port` is repeated in pod `gate` (first on line 10); keep one of them"])]
#[case::missing_key(&[(3, "")], &["2: the blueprint lacks `title`; add `title: Fast International Ferry`"])]
#[case::missing_key_of_a_pod(&[(10, "")], &["7: pod `gate` lacks `port`; add `port: 30100`"])]
#[case::missing_key_of_a_connection(&[(21, "")], &["20: connection from `gate` lacks `to`; add `to: sink`"])]
#[case::key_that_is_a_list(&[(3, "title: Tour\n? [a, b]\n: c")], &["4: a key must be a word, not a list or a mapping; check the brackets, and quote text that begins with one"])]
// Types
#[case::port_is_nothing(&[(10, "    port:")], &["10: `port` must be a whole number from 1024 to 65535, not nothing; write for example `port: 30100`"])]
#[case::port_is_text(&[(10, "    port: \"30100\"")], &["10: `port` must be a whole number from 1024 to 65535, not text `30100`; remove the quotes"])]
#[case::port_is_a_list(&[(10, "    port: [30100]")], &["10: `port` must be a whole number from 1024 to 65535, not a list; write for example `port: 30100`"])]
#[case::port_is_a_word(&[(10, "    port: high")], &["10: `port` must be a whole number from 1024 to 65535, not `high`; write for example `port: 30100`"])]
#[case::port_is_a_fraction(&[(10, "    port: 30100.5")], &["10: `port` must be a whole number from 1024 to 65535, not `30100.5`; write for example `port: 30100`"])]
#[case::port_is_octal(&[(10, "    port: 030100")], &["10: `port` must be a whole number from 1024 to 65535, not `030100`; write for example `port: 30100`"])]
#[case::port_is_too_low(&[(10, "    port: 1023")], &["10: `port` must be a whole number from 1024 to 65535, not `1023`; write for example `port: 30100`"])]
#[case::port_is_too_high(&[(10, "    port: 65536")], &["10: `port` must be a whole number from 1024 to 65535, not `65536`; write for example `port: 30100`"])]
#[case::port_is_negative(&[(10, "    port: -30100")], &["10: `port` must be a whole number from 1024 to 65535, not `-30100`; write for example `port: 30100`"])]
#[case::too_many_messages(&[(3, "title: Tour\nmessages: 10001")], &["4: `messages` must be a whole number from 0 to 10000, not `10001`; write for example `messages: 5`"])]
#[case::name_is_a_number(&[(2, "name: 12")], &["2: `name` must be text, not a number `12`; put it in quotes"])]
#[case::name_is_a_truth_value(&[(2, "name: true")], &["2: `name` must be text, not a truth value `true`; put it in quotes"])]
#[case::name_is_null(&[(2, "name: ~")], &["2: `name` must be text, not nothing; write for example `name: fast-international-ferry`"])]
#[case::title_has_two_lines(&[(3, "title: \"a\\nb\"")], &["3: `title` must be one line of 1 to 100 characters; write for example `title: Fast International Ferry`"])]
#[case::pinhole_is_yes(&[(10, "    port: 30100\n    pinhole: yes")], &["11: `pinhole` must be `true` or `false`, not `yes`; write for example `pinhole: true`"])]
#[case::role_with_a_slip(&[(8, "    role: gatway")], &["8: `role` must be one of `gateway`, `processor`, `sink`, not `gatway`; did you mean `gateway`?"])]
#[case::unknown_protocol(&[(4, "protocol: mqtt")], &["4: `protocol` must be one of `websocket`, `grpc`, not `mqtt`; write for example `protocol: websocket`"])]
#[case::clusters_is_text(&[(5, "clusters: a")], &["5: `clusters` must be a list, not text `a`; write `clusters: [cluster-a, cluster-b]`, or one `- …` a line"])]
#[case::clusters_is_empty(&[(5, "clusters: []")], &["5: `clusters` is an empty list; write for example `clusters: [cluster-a, cluster-b]`"])]
#[case::cluster_is_a_list(&[(5, "clusters: [a, b, [c]]")], &["5: a cluster must be text, not a list; write for example `cluster-a`"])]
#[case::pod_is_text(&[(18, "    port: 30300\n  - lost")], &["19: a pod must be a mapping of keys to values, not text `lost`; write it as lines like `name: sink`"])]
// Names
#[case::pod_begins_with_a_digit(&[(15, "  - name: 2nd-end"), (23, "    to: [2nd-end]")], &["15: pod `2nd-end` begins with a digit, and its Service of that name must begin with a letter; give it another name, for example `pod-2nd-end`"])]
#[case::both_begin_with_a_digit(&[(7, "  - name: 1gate"), (15, "  - name: 2nd-end"), (20, "  - from: 1gate"), (23, "    to: [2nd-end]")], &[
    "7: pod `1gate` begins with a digit, and its Service of that name must begin with a letter; give it another name, for example `pod-1gate`",
    "15: pod `2nd-end` begins with a digit, and its Service of that name must begin with a letter; give it another name, for example `pod-2nd-end`",
])]
#[case::pod_is_a_number(&[(15, "  - name: \"7\""), (23, "    to: [\"7\"]")], &["15: pod `7` begins with a digit, and its Service of that name must begin with a letter; give it another name, for example `pod-7`"])]
#[case::pod_with_a_hyphen_last(&[(15, "  - name: end-"), (23, "    to: [end-]")], &["15: pod `end-` is no DNS label; use 1 to 63 of `a-z`, `0-9` and `-`, with a letter or digit at both ends, for example `end`"])]
#[case::namespaces_of_kubernetes(&[(2, "name: kube-ferry")], &["2: name of the blueprint `kube-ferry` makes namespaces that begin with `kube-`, which Kubernetes keeps for itself; use another, for example `ferry`"])]
#[case::namespaces_of_kubernetes_by_the_hyphen(&[(2, "name: kube")], &["2: name of the blueprint `kube` makes namespaces that begin with `kube-`, which Kubernetes keeps for itself; use another, for example `ferry`"])]
#[case::cluster_of_64(&[(5, "clusters: [a, b, aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]"), (13, "    cluster: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")], &[
    "5: cluster `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa` is no DNS label; use 1 to 63 of `a-z`, `0-9` and `-`, with a letter or digit at both ends, for example `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa`",
])]
#[case::no_label(&[(2, "name: Grand_Tour")], &["2: name of the blueprint `Grand_Tour` is no DNS label; use 1 to 63 of `a-z`, `0-9` and `-`, with a letter or digit at both ends, for example `grand-tour`"])]
#[case::cluster_no_label(&[(5, "clusters: [a, b, C!]"), (13, "    cluster: C!")], &["5: cluster `C!` is no DNS label; use 1 to 63 of `a-z`, `0-9` and `-`, with a letter or digit at both ends, for example `c`"])]
#[case::cluster_twice(&[(5, "clusters: [a, b, a]")], &["5: cluster `a` is named twice (first on line 5); rename or remove one of them"])]
#[case::pod_twice(&[(18, "    port: 30300\n  - {name: end, role: sink, cluster: a, port: 30400}")], &[
    "19: pod `end` is named twice (first on line 15); rename or remove one of them",
])]
#[case::cluster_without_pods(&[(5, "clusters: [a, b, c]")], &["5: cluster `c` has no pods; remove it from `clusters`, or place a pod in it"])]
#[case::unknown_cluster(&[(9, "    cluster: c")], &["9: pod `gate` is in unknown cluster `c`; add it to `clusters`, or use one of them: `a`, `b`"])]
#[case::namespace_too_long(&[(2, "name: blueprint-whose-name-leaves-room-for-four-letters-and-n")], &[
    "11: namespace `blueprint-whose-name-leaves-room-for-four-letters-and-n-relay-ns` of pod `relay` has 64 characters, more than 63; shorten the name of the pod or of the blueprint by 1",
])]
#[case::no_room_for_a_pod(&[(2, "name: blueprint-whose-name-leaves-no-room-for-the-name-of-its-pods")], &[
    "2: name of the blueprint `blueprint-whose-name-leaves-no-room-for-the-name-of-its-pods` has 60 characters, which leaves no room for a pod's in the namespace `<blueprint>-<pod>-ns`; use at most 58",
])]
// Pods
#[case::port_twice(&[(18, "    port: 30200")], &["18: port 30200 of cluster `b` is taken by pod `relay` (line 14); give pod `end` another"])]
#[case::pinhole_of_a_processor(&[(14, "    port: 30200\n    pinhole: true")], &["15: pod `relay` is a processor and has nothing to reach by a pinhole; remove `pinhole`"])]
#[case::no_gateway(&[(8, "    role: processor")], &[
    "6: no pod is a gateway, so messages have no source; add a pod with `role: gateway`",
    "7: pod `gate` is a processor and has no incoming connection; add one to it",
])]
#[case::no_sink(&[(16, "    role: processor")], &[
    "6: no pod is a sink, so messages have no end; add a pod with `role: sink`",
    "15: pod `end` is a processor and has no outgoing connection; add one from it",
])]
// Connections
#[case::unknown_pod(&[(23, "    to: [ent]")], &["23: connection with unknown pod `ent`; did you mean `end`?"])]
#[case::unknown_sender(&[(22, "  - from: someone")], &["22: connection with unknown pod `someone`; add it to `pods`, or use one of them: `gate`, `relay`, `end`"])]
#[case::to_itself(&[(23, "    to: [end, relay]")], &["23: pod `relay` is connected to itself; name another pod, or remove the connection"])]
#[case::connected_twice(&[(23, "    to: [end]\n  - {from: gate, to: [relay]}")], &["24: the connection from pod `gate` to pod `relay` is listed twice (first on line 21); keep one of them"])]
#[case::gateway_with_incoming(&[(18, "    port: 30300\n  - {name: other, role: gateway, cluster: a, port: 30400}"), (23, "    to: end\n  - {from: relay, to: other}\n  - {from: other, to: end}")], &[
    "25: pod `other` is a gateway and takes no incoming connection; make it a processor, or remove the connection from pod `relay`",
])]
#[case::sink_with_outgoing(&[(18, "    port: 30300\n  - {name: other, role: sink, cluster: a, port: 30400}"), (23, "    to: end\n  - {from: end, to: other}")], &[
    "25: pod `end` is a sink and takes no outgoing connection; make it a processor, or remove the connection to pod `other`",
])]
#[case::cycle(&[(18, "    port: 30300\n  - {name: back, role: processor, cluster: a, port: 30400}"), (23, "    to: [end, back]\n  - from: back\n    to: relay")], &[
    "26: messages would go round in a cycle: relay -> back -> relay; remove one of these connections",
])]
#[case::processor_without_incoming(&[(21, "    to: end")], &["11: pod `relay` is a processor and has no incoming connection; add one to it"])]
#[case::processor_without_outgoing(&[(21, "    to: [relay, end]"), (22, ""), (23, "")], &["11: pod `relay` is a processor and has no outgoing connection; add one from it"])]
#[case::unreachable_sink(&[(18, "    port: 30300\n  - {name: lost, role: sink, cluster: a, port: 30400}")], &[
    "19: pod `lost` is unreachable: no route leads to it from a gateway; add a connection to it",
])]
#[case::gateway_to_nowhere(&[(18, "    port: 30300\n  - {name: lost, role: gateway, cluster: a, port: 30400}")], &[
    "19: pod `lost` is a gateway that reaches no sink; add a connection from it",
])]
// YAML
#[case::unclosed_bracket(&[(9, "    cluster: [a")], &["10: not valid YAML: illegal placement of ':' indicator; check punctuation, quotes and indentation at column 9 and before"])]
#[case::tab(&[(9, "\tcluster: a")], &["9: a tab in the indentation, which is not valid YAML; indent with spaces"])]
#[case::anchors(&[(9, "    cluster: &x a"), (13, "    cluster: *x")], &[
    "9: YAML anchors and aliases (`&`, `*`) are not supported; write the value out",
    "13: YAML anchors and aliases (`&`, `*`) are not supported; write the value out",
])]
#[case::unknown_alias(&[(9, "    cluster: *x")], &["9: not valid YAML: while parsing node, found unknown anchor; check punctuation, quotes and indentation at column 14 and before"])]
#[case::tags(&[(9, "    cluster: !!str a"), (13, "    cluster: !mine b")], &[
    "9: YAML tags are not supported; remove `!!str`",
    "13: YAML tags are not supported; remove `!mine`",
])]
#[case::second_document(&[(23, "    to: [end]\n---\nname: x")], &["24: a second document begins here; keep one blueprint a file and remove the `---`"])]
#[case::too_deep(&[(23, "    to: [[[[[[[[[end]]]]]]]]]")], &["23: nested more than 8 levels deep; a blueprint needs four: check the brackets and the indentation"])]
#[case::control_character(&[(23, "    to: [end]\n# \u{0}")], &["24: control character U+0000; remove it, or write the file again as UTF-8 text"])]
fn problems_show_line_and_fix(#[case] lines: &[(usize, &str)], #[case] expected: &[&str]) {
    assert_problems(&with(lines), expected);
}

#[rstest]
#[case::no_byte("")]
#[case::only_a_comment("# nothing\n")]
#[case::only_a_marker("---\n")]
#[case::null("~\n")]
fn an_empty_file_is_called_so(#[case] text: &str) {
    assert_problems(
        text,
        &[
            "1: the file is empty; begin with `name: <name of the folder>`, or copy another blueprint",
        ],
    );
}

#[test]
fn problems_of_every_kind_are_said_in_one_go() {
    let text = with(&[
        (2, "name: Tour"),
        (4, "protocl: grpc"),
        (5, "clusters: [a, b, &c d]"),
        (8, "    role: gate"),
        (9, "    cluster: z"),
        (14, "    port: 80"),
        (17, "    cluster: a"),
        (18, "    port: 30100"),
        (23, "    to: [end, nobody]"),
    ]);
    assert_problems(
        &text,
        &[
            "2: name of the blueprint `Tour` is no DNS label; use 1 to 63 of `a-z`, `0-9` and `-`, with a letter or digit at both ends, for example `tour`",
            "4: unknown key `protocl` in the blueprint; did you mean `protocol`?",
            "5: YAML anchors and aliases (`&`, `*`) are not supported; write the value out",
            "8: `role` must be one of `gateway`, `processor`, `sink`, not `gate`; write for example `role: gateway`",
            "9: pod `gate` is in unknown cluster `z`; add it to `clusters`, or use one of them: `a`, `b`, `d`",
            "14: `port` must be a whole number from 1024 to 65535, not `80`; write for example `port: 30100`",
            "23: connection with unknown pod `nobody`; add it to `pods`, or use one of them: `gate`, `relay`, `end`",
        ],
    );
    let error = parse(&text).unwrap_err().to_string();
    assert!(
        error.starts_with("blueprint `tour.yaml` has 7 problems\ntour.yaml:2: name of"),
        "{error}"
    );
}

#[test]
fn text_before_syntax_error_is_checked() {
    assert_problems(
        &with(&[(8, "    role: gatewy"), (9, "    cluster: a: b")]),
        &[
            "8: `role` must be one of `gateway`, `processor`, `sink`, not `gatewy`; did you mean `gateway`?",
            "9: not valid YAML: mapping values are not allowed in this context; check punctuation, quotes and indentation at column 15 and before",
        ],
    );
}

#[test]
fn routes_are_limited_in_length_and_number() {
    let chain = |pods: usize| {
        let mut text =
            String::from("name: chain\ntitle: Chain\nprotocol: grpc\nclusters: [a]\npods:\n");
        for pod in 0..pods {
            let role = match pod {
                0 => Role::Gateway,
                pod if pod == pods - 1 => Role::Sink,
                _ => Role::Processor,
            };
            text += &format!(
                "  - {{name: p{pod}, role: {role}, cluster: a, port: {}}}\n",
                2000 + pod
            );
        }
        text += "connections:\n";
        for pod in 1..pods {
            text += &format!("  - {{from: p{}, to: p{pod}}}\n", pod - 1);
        }
        text
    };
    assert_problems(&chain(MAX_ROUTE_PODS), &[]);
    assert_problems(
        &chain(MAX_ROUTE_PODS + 1),
        &["6: the longest route from pod `p0` has 33 pods, and a trail holds 32 hops; shorten it"],
    );
    // Every second pod may be skipped: 2^9 routes.
    let mut wide = chain(20);
    for pod in (0..18).step_by(2) {
        wide += &format!("  - {{from: p{pod}, to: p{}}}\n", pod + 2);
    }
    assert_problems(
        &wide,
        &[
            "6: more than 256 routes lead from pod `p0` to the sinks, and each delivers every message; remove connections",
        ],
    );
}

#[test]
fn blueprint_name_matches_its_folder() {
    let named =
        |path: &str| Blueprint::parse(GOOD, Path::new(path)).map_err(|error| error.to_string());
    assert_eq!(
        named("manifests/voyage/blueprint.yaml").unwrap_err(),
        "blueprint `manifests/voyage/blueprint.yaml` has 1 problem\n\
         manifests/voyage/blueprint.yaml:2: the blueprint is named `tour`, but its folder `voyage`; give both the same name"
    );
    for path in [
        "/ferry/manifests/tour/blueprint.yaml",
        "manifests/voyage/other.yaml",
        "/tmp/anywhere/blueprint.yaml",
        "blueprint.yaml",
    ] {
        named(path).unwrap();
    }
}
