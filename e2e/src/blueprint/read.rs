//! From the tree to a draft: every value of the right type in its place, or a problem said and a gap left.

use std::{fmt, path::Path, str::FromStr};

use messages::{Protocol, Role};

use super::{
    Blueprint, Connection, DEFAULT_MESSAGES, MAX_MESSAGES, MAX_TITLE, PUBLIC_PORTS, Pod,
    problem::{Collector, list, quote},
    tree::{Node, Value},
};

/// A value and its line.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) line: usize,
    pub(super) value: T,
}

/// What could be read of a list; not `complete` when something of it could not, or could not be found.
#[derive(Debug)]
pub(super) struct Listed<T> {
    pub(super) line: usize,
    pub(super) items: Vec<T>,
    pub(super) complete: bool,
}

/// What could be read of a file. A gap is already reported; `None` for a key with a default means that it is absent.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) name: Option<At<String>>,
    pub(super) title: Option<At<String>>,
    pub(super) protocol: Option<At<Protocol>>,
    pub(super) clusters: Listed<At<String>>,
    pub(super) pods: Listed<DraftPod>,
    pub(super) connections: Listed<DraftConnection>,
    pub(super) messages: Option<At<u32>>,
}

#[derive(Debug)]
pub(super) struct DraftPod {
    pub(super) line: usize,
    pub(super) name: Option<At<String>>,
    pub(super) role: Option<At<Role>>,
    pub(super) cluster: Option<At<String>>,
    pub(super) port: Option<At<u16>>,
    pub(super) pinhole: Option<At<bool>>,
}

#[derive(Debug)]
pub(super) struct DraftConnection {
    pub(super) from: Option<At<String>>,
    pub(super) to: Listed<At<String>>,
    pub(super) protocol: Option<At<Protocol>>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self {
            line: 1,
            items: Vec::new(),
            complete: false,
        }
    }
}

/// A key that the format knows.
pub(super) struct KnownKey {
    pub(super) name: &'static str,
    pub(super) required: bool,
    /// How it is written; ends up in the fix of a problem.
    example: &'static str,
}

const fn required(name: &'static str, example: &'static str) -> KnownKey {
    KnownKey {
        name,
        required: true,
        example,
    }
}

const fn optional(name: &'static str, example: &'static str) -> KnownKey {
    KnownKey {
        name,
        required: false,
        example,
    }
}

pub(super) const BLUEPRINT_KEYS: &[KnownKey] = &[
    required("name", "name: fast-international-ferry"),
    required("title", "title: Fast International Ferry"),
    required("protocol", "protocol: websocket"),
    required("clusters", "clusters: [cluster-a, cluster-b]"),
    required(
        "pods",
        "pods: [{name: sink, role: sink, cluster: cluster-b, port: 30200}]",
    ),
    required("connections", "connections: [{from: gateway, to: sink}]"),
    optional("messages", "messages: 5"),
];

pub(super) const POD_KEYS: &[KnownKey] = &[
    required("name", "name: sink"),
    required("role", "role: gateway"),
    required("cluster", "cluster: cluster-a"),
    required("port", "port: 30100"),
    optional("pinhole", "pinhole: true"),
];

pub(super) const CONNECTION_KEYS: &[KnownKey] = &[
    required("from", "from: gateway"),
    required("to", "to: sink"),
    optional("protocol", "protocol: grpc"),
];

/// Reads what can be read of `root`; the rest is in `problems`.
pub(super) fn draft(root: Option<Node>, problems: &mut Collector) -> Draft {
    let Some(root) = root.filter(|root| !is_null(&root.value)) else {
        if problems.is_empty() {
            problems.add(1, "the file is empty; begin with `name: <name of the folder>`, or copy another blueprint");
        }
        return Draft::default();
    };
    let mut reader = Reader { problems };
    let Some(mut fields) = reader.fields("the blueprint", BLUEPRINT_KEYS, root) else {
        return Draft::default();
    };
    Draft {
        name: reader.text(fields.take("name")),
        title: reader.title(fields.take("title")),
        protocol: reader.choice(
            fields.take("protocol"),
            &Protocol::ALL.map(Protocol::as_str),
        ),
        clusters: reader.list(fields.take("clusters"), |reader, item| {
            reader.text(Some(Field {
                key: "a cluster",
                example: "cluster-a",
                node: item,
            }))
        }),
        pods: reader.list(fields.take("pods"), Reader::pod),
        connections: reader.list(fields.take("connections"), Reader::connection),
        messages: reader.number(fields.take("messages"), 0..=MAX_MESSAGES),
    }
}

/// The value of a known key.
struct Field {
    key: &'static str,
    example: &'static str,
    node: Node,
}

/// The known keys of a mapping.
struct Fields {
    line: usize,
    found: Vec<Field>,
}

impl Fields {
    fn take(&mut self, key: &str) -> Option<Field> {
        let index = self.found.iter().position(|field| field.key == key)?;
        Some(self.found.swap_remove(index))
    }
}

struct Reader<'a> {
    problems: &'a mut Collector,
}

impl Reader<'_> {
    fn pod(&mut self, item: Node) -> Option<DraftPod> {
        let label = label("pod", "name", &item);
        let mut fields = self.fields(&label, POD_KEYS, item)?;
        Some(DraftPod {
            line: fields.line,
            name: self.text(fields.take("name")),
            role: self.choice(fields.take("role"), &Role::ALL.map(Role::as_str)),
            cluster: self.text(fields.take("cluster")),
            port: self.number(fields.take("port"), PUBLIC_PORTS),
            pinhole: self.truth(fields.take("pinhole")),
        })
    }

    fn connection(&mut self, item: Node) -> Option<DraftConnection> {
        let label = label("connection from", "from", &item);
        let mut fields = self.fields(&label, CONNECTION_KEYS, item)?;
        Some(DraftConnection {
            from: self.text(fields.take("from")),
            to: self.one_or_more(fields.take("to")),
            protocol: self.choice(
                fields.take("protocol"),
                &Protocol::ALL.map(Protocol::as_str),
            ),
        })
    }

    /// The known keys of a mapping; problems for unknown, repeated and missing ones. `None` where it is no mapping.
    fn fields(&mut self, owner: &str, known: &[KnownKey], node: Node) -> Option<Fields> {
        let line = node.line;
        let (entries, complete) = match node.value {
            Value::Map { entries, complete } => (entries, complete),
            Value::Refused => return None,
            other => {
                let example = known.first().map_or("", |key| key.example);
                self.problems.add(
                    line,
                    format!("{owner} must be a mapping of keys to values, not {}; write it as lines like `{example}`", kind(&other)),
                );
                return None;
            }
        };
        let mut lines: Vec<(&str, usize)> = Vec::new();
        let mut slips: Vec<&str> = Vec::new();
        let mut found = Vec::new();
        for (key, node) in entries {
            let Some(KnownKey { name, example, .. }) =
                known.iter().find(|known| known.name == key.text)
            else {
                let names = || known.iter().map(|key| key.name);
                let near = self.problems.nearest(&key.text, names());
                slips.extend(near);
                let fix = near.map_or_else(
                    || format!("remove it, the known keys are {}", list(names())),
                    |near| format!("did you mean `{near}`?"),
                );
                self.problems.add(
                    key.line,
                    format!("unknown key {} in {owner}; {fix}", quote(&key.text)),
                );
                continue;
            };
            if let Some((_, first)) = lines.iter().find(|(other, _)| other == name) {
                self.problems.add(
                    key.line,
                    format!("key `{name}` is repeated in {owner} (first on line {first}); keep one of them"),
                );
                continue;
            }
            lines.push((name, key.line));
            found.push(Field {
                key: name,
                example,
                node,
            });
        }
        for KnownKey {
            name,
            required,
            example,
        } in known
        {
            let present = lines.iter().any(|(found, _)| found == name);
            // A slip is one problem, not two; what a broken file lacks is not known.
            if *required && complete && !present && !slips.contains(name) {
                self.problems
                    .add(line, format!("{owner} lacks `{name}`; add `{example}`"));
            }
        }
        Some(Fields { line, found })
    }

    fn list<T>(
        &mut self,
        field: Option<Field>,
        mut read: impl FnMut(&mut Self, Node) -> Option<T>,
    ) -> Listed<T> {
        let Some(Field { key, example, node }) = field else {
            return Listed::default();
        };
        let line = node.line;
        let (items, complete) = match node.value {
            Value::List { items, complete } => (items, complete),
            Value::Refused => return Listed::default(),
            other => {
                self.problems.add(
                    node.line,
                    format!(
                        "`{key}` must be a list, not {}; write `{example}`, or one `- …` a line",
                        kind(&other)
                    ),
                );
                return Listed::default();
            }
        };
        if items.is_empty() && complete {
            self.problems.add(
                node.line,
                format!("`{key}` is an empty list; write for example `{example}`"),
            );
            return Listed::default();
        }
        let count = items.len();
        let items: Vec<_> = items
            .into_iter()
            .filter_map(|item| read(self, item))
            .collect();
        let complete = complete && items.len() == count;
        Listed {
            line,
            items,
            complete,
        }
    }

    fn one_or_more(&mut self, field: Option<Field>) -> Listed<At<String>> {
        match field {
            Some(Field {
                key,
                example,
                node:
                    node @ Node {
                        value: Value::List { .. },
                        ..
                    },
            }) => self.list(Some(Field { key, example, node }), |reader, node| {
                reader.text(Some(Field { key, example, node }))
            }),
            field => {
                let line = field.as_ref().map_or(1, |field| field.node.line);
                let items: Vec<_> = self.text(field).into_iter().collect();
                let complete = !items.is_empty();
                Listed {
                    line,
                    items,
                    complete,
                }
            }
        }
    }

    /// A scalar and whether it is plain; a problem that expects `expected` for anything else.
    fn scalar(&mut self, field: &Field, expected: impl fmt::Display) -> Option<At<(String, bool)>> {
        let line = field.node.line;
        match &field.node.value {
            Value::Refused => None,
            value @ Value::Scalar { text, plain } if !is_null(value) => Some(At {
                line,
                value: (text.clone(), *plain),
            }),
            other => {
                self.expected(field, expected, &kind(other));
                None
            }
        }
    }

    fn expected(&mut self, field: &Field, expected: impl fmt::Display, found: &str) {
        let Field { key, example, node } = field;
        let key = if key.contains(' ') {
            (*key).to_owned()
        } else {
            format!("`{key}`")
        };
        self.problems.add(
            node.line,
            format!("{key} must be {expected}, not {found}; write for example `{example}`"),
        );
    }

    fn text(&mut self, field: Option<Field>) -> Option<At<String>> {
        let field = field?;
        let At { line, value } = self.scalar(&field, "text")?;
        let (text, plain) = value;
        if plain && let Some(other) = not_text(&text) {
            self.expected(&field, "text", &format!("{other} {}", quote(&text)));
            return None;
        }
        Some(At { line, value: text })
    }

    fn title(&mut self, field: Option<Field>) -> Option<At<String>> {
        let title = self.text(field)?;
        let text = title.value.trim();
        if text.is_empty() || text.chars().count() > MAX_TITLE || text.chars().any(char::is_control)
        {
            self.problems.add(
                title.line,
                format!("`title` must be one line of 1 to {MAX_TITLE} characters; write for example `title: Fast International Ferry`"),
            );
            return None;
        }
        Some(At {
            line: title.line,
            value: text.to_owned(),
        })
    }

    fn choice<T: FromStr>(&mut self, field: Option<Field>, choices: &[&str]) -> Option<At<T>> {
        let field = field?;
        let choices_text = format!("one of {}", list(choices.iter().copied()));
        let At { line, value } = self.scalar(&field, &choices_text)?;
        let (text, _) = value;
        match text.parse() {
            Ok(value) => Some(At { line, value }),
            Err(_) => {
                let fix = self
                    .problems
                    .nearest(&text, choices.iter().copied())
                    .map_or_else(
                        || format!("write for example `{}`", field.example),
                        |near| format!("did you mean `{near}`?"),
                    );
                self.problems.add(
                    line,
                    format!(
                        "`{}` must be {choices_text}, not {}; {fix}",
                        field.key,
                        quote(&text)
                    ),
                );
                None
            }
        }
    }

    fn number<T>(
        &mut self,
        field: Option<Field>,
        range: std::ops::RangeInclusive<T>,
    ) -> Option<At<T>>
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        let field = field?;
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let At { line, value } = self.scalar(&field, &expected)?;
        let (text, plain) = value;
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            // A leading zero is octal to some readers of YAML and decimal to others.
            Ok(value)
                if plain
                    && digits
                    && range.contains(&value)
                    && !(text.len() > 1 && text.starts_with('0')) =>
            {
                Some(At { line, value })
            }
            _ => {
                let found = if plain {
                    quote(&text)
                } else {
                    format!("text {}", quote(&text))
                };
                self.expected(&field, expected, &found);
                None
            }
        }
    }

    fn truth(&mut self, field: Option<Field>) -> Option<At<bool>> {
        let field = field?;
        let expected = "`true` or `false`";
        let At { line, value } = self.scalar(&field, expected)?;
        match (value.0.as_str(), value.1) {
            ("true", true) => Some(At { line, value: true }),
            ("false", true) => Some(At { line, value: false }),
            (text, plain) => {
                let text = quote(text);
                let found = if plain { text } else { format!("text {text}") };
                self.expected(&field, expected, &found);
                None
            }
        }
    }
}

/// How to call a mapping in messages: by its text under `key`, where it has one.
fn label(what: &str, key: &str, node: &Node) -> String {
    let Value::Map { entries, .. } = &node.value else {
        return format!("a {}", what.trim_end_matches(" from"));
    };
    entries
        .iter()
        .find_map(|(found, value)| match &value.value {
            Value::Scalar { text, .. } if found.text == key && !text.is_empty() => {
                Some(format!("{what} {}", quote(text)))
            }
            _ => None,
        })
        .unwrap_or_else(|| format!("a {}", what.trim_end_matches(" from")))
}

fn kind(value: &Value) -> String {
    match value {
        value if is_null(value) => "nothing".into(),
        Value::Scalar { text, plain } => {
            let what = not_text(text).filter(|_| *plain).unwrap_or("text");
            format!("{what} {}", quote(text))
        }
        Value::List { .. } => "a list".into(),
        Value::Map { .. } => "a mapping".into(),
        Value::Refused => "an alias".into(),
    }
}

fn is_null(value: &Value) -> bool {
    matches!(value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
}

/// What a plain scalar is to YAML where it is no text (<https://yaml.org/spec/1.2.2/#1032-tag-resolution>).
fn not_text(text: &str) -> Option<&'static str> {
    let truth = matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE");
    let unsigned = text.trim_start_matches(['+', '-']);
    let number = unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && (unsigned.parse::<f64>().is_ok()
            || unsigned.starts_with("0x")
            || unsigned.starts_with("0o"));
    if truth {
        Some("a truth value")
    } else if number {
        Some("a number")
    } else {
        None
    }
}

impl Draft {
    /// The blueprint, where nothing is missing.
    pub(super) fn finish(self, path: &Path) -> Option<Blueprint> {
        let pods = self.pods.items.into_iter().map(|pod| {
            Some(Pod {
                name: pod.name?.value,
                role: pod.role?.value,
                cluster: pod.cluster?.value,
                port: pod.port?.value,
                pinhole: pod.pinhole.is_some_and(|pinhole| pinhole.value),
                line: pod.line,
            })
        });
        let connections = self.connections.items.into_iter().map(|connection| {
            Some(Connection {
                from: connection.from?.value,
                to: connection.to.items.into_iter().map(|to| to.value).collect(),
                protocol: connection.protocol.map(|protocol| protocol.value),
            })
        });
        Some(Blueprint {
            name: self.name?.value,
            title: self.title?.value,
            protocol: self.protocol?.value,
            clusters: self
                .clusters
                .items
                .into_iter()
                .map(|cluster| cluster.value)
                .collect(),
            pods: pods.collect::<Option<_>>()?,
            connections: connections.collect::<Option<_>>()?,
            messages: self
                .messages
                .map_or(DEFAULT_MESSAGES, |messages| messages.value),
            path: path.to_path_buf(),
        })
    }
}
