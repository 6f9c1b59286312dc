//! Texts of a new blueprint's files.

use std::fmt::Write as _;

use messages::Protocol;

use super::{Stop, Wish};

/// Longest list that rustfmt leaves on one line, in characters.
const ARRAY_WIDTH: usize = 60;

const TEST: &str = r#"//! PROTOCOL WAY.

const BLUEPRINT: &str = "NAME";
const PATH: [(&str, &str); COUNT] = STOPS;

e2e::blueprint_tests!(BLUEPRINT, PATH);
"#;

/// The blueprint's own file.
pub(super) fn blueprint(wish: &Wish, stops: &[Stop]) -> String {
    let mut text = format!(
        "# yaml-language-server: $schema=../blueprint.schema.json\nname: {}\ntitle: {}\nprotocol: {}\nclusters:\n",
        scalar(&wish.name),
        scalar(&title(&wish.name)),
        wish.protocol
    );
    for stop in stops {
        line(&mut text, format_args!("  - {}", scalar(&stop.cluster)));
    }
    text.push_str("pods:\n");
    let last = stops.len() - 1;
    for (place, stop) in stops.iter().enumerate() {
        let role = match place {
            0 => "gateway",
            place if place == last => "sink",
            _ => "processor",
        };
        line(&mut text, format_args!("  - name: {}", stop.pod));
        line(&mut text, format_args!("    role: {role}"));
        let cluster = scalar(&stop.cluster);
        line(&mut text, format_args!("    cluster: {cluster}"));
        line(&mut text, format_args!("    port: {}", stop.port));
        if role != "processor" {
            text.push_str("    pinhole: true\n");
        }
    }
    text.push_str("connections:\n");
    for pair in stops.windows(2) {
        line(&mut text, format_args!("  - from: {}", pair[0].pod));
        line(&mut text, format_args!("    to: {}", pair[1].pod));
    }
    text
}

/// Its test, as rustfmt would have it.
pub(super) fn test(wish: &Wish, stops: &[Stop]) -> String {
    let protocol = match wish.protocol {
        Protocol::Websocket => "WebSocket",
        Protocol::Grpc => "gRPC",
    };
    let way = match &wish.clusters[..] {
        [from, to] => format!("from {from} to {to}"),
        [from, over, to] => format!("from {from} over {over} to {to}"),
        all => format!("over {} clusters", all.len()),
    };
    TEST.replace("PROTOCOL WAY", &format!("{protocol} {way}"))
        .replace("NAME", &wish.name)
        .replace("COUNT", &stops.len().to_string())
        .replace("STOPS", &path(stops))
}

fn path(stops: &[Stop]) -> String {
    let pairs: Vec<_> = stops
        .iter()
        .map(|stop| format!("(\"{}\", \"{}\")", stop.cluster, stop.pod))
        .collect();
    let short = pairs.join(", ");
    if short.len() <= ARRAY_WIDTH {
        return format!("[{short}]");
    }
    let mut long = String::from("[\n");
    for pair in pairs {
        line(&mut long, format_args!("    {pair},"));
    }
    long + "]"
}

/// The list of tests with one more, in its place in the alphabet.
pub(super) fn listed(list: &str, module: &str) -> String {
    let name = |line: &str| -> Option<String> {
        Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_owned())
    };
    let mut lines: Vec<&str> = list.lines().collect();
    let later = lines
        .iter()
        .position(|line| name(line).is_some_and(|name| *name > *module));
    let last = lines.iter().rposition(|line| name(line).is_some());
    let place = later.or(last.map(|last| last + 1)).unwrap_or(lines.len());
    let new = format!("mod {module};");
    lines.insert(place, &new);
    lines.join("\n") + "\n"
}

/// `island-ferry` → `Island Ferry`
fn title(name: &str) -> String {
    let words = name.split('-').filter(|word| !word.is_empty());
    let words: Vec<_> = words
        .map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_ascii_uppercase() + rest
        })
        .collect();
    words.join(" ")
}

/// A text in YAML, in quotation marks where it would be taken for a number, a truth value or nothing.
fn scalar(text: &str) -> String {
    let words = ["true", "false", "yes", "no", "on", "off", "y", "n", "null"];
    let plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && !words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if plain {
        text.into()
    } else {
        format!("\"{text}\"")
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a `String` does not fail.
    let _ = writeln!(text, "{line}");
}
