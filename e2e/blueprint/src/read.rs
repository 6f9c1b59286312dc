//! Reads a draft from the tree: each value of the right type, or a problem and a gap.

mod storage;
mod targets;

use std::{fmt, str::FromStr};

use messages::{Protocol, Role};

use super::{
    MAX_MESSAGES, MAX_TITLE, PUBLIC_PORTS,
    draft::{At, Draft, DraftConnection, DraftPod, Listed},
    keys::{BLUEPRINT_KEYS, CONNECTION_KEYS, KnownKey, POD_KEYS},
    problem::{Collector, list, quote},
    tree::{self, Node, Value},
};

/// Reads what can be read of `root`; the rest is in `problems`.
pub(super) fn draft(root: Option<Node>, problems: &mut Collector) -> Draft {
    let Some(root) = root.filter(|root| !root.value.is_null()) else {
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
        clusters: reader.texts(fields.take("clusters"), "a cluster", "cluster-a"),
        pods: reader.list(fields.take("pods"), Reader::pod),
        connections: reader.list(fields.take("connections"), Reader::connection),
        messages: reader.number(fields.take("messages"), 0..=MAX_MESSAGES),
        targets: reader.targets(fields.take("targets")),
    }
}

/// The value of a known key.
struct Field {
    key: &'static str,
    /// How messages call it.
    called: String,
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
            storage: self.storage(fields.take("storage")),
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
            other if other.is_cut() => return None,
            other => {
                let example = known.first().map_or("", |key| key.example);
                self.problems.add(
                    line,
                    format!("{owner} must be a mapping of keys to values, not {}; write it as lines like `{example}`", other.kind()),
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
                called: format!("`{name}`"),
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
        let Some(Field {
            called,
            example,
            node,
            ..
        }) = field
        else {
            return Listed::default();
        };
        let line = node.line;
        let (items, complete) = match node.value {
            Value::List { items, complete } => (items, complete),
            Value::Refused => return Listed::default(),
            other if other.is_cut() => return Listed::default(),
            other => {
                self.problems.add(
                    node.line,
                    format!(
                        "{called} must be a list, not {}; write `{example}`, or one `- …` a line",
                        other.kind()
                    ),
                );
                return Listed::default();
            }
        };
        if items.is_empty() && complete {
            self.problems.add(
                node.line,
                format!("{called} is an empty list; write for example `{example}`"),
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

    /// A list of texts; messages call an item `called`.
    fn texts(
        &mut self,
        field: Option<Field>,
        called: &str,
        example: &'static str,
    ) -> Listed<At<String>> {
        let key = field.as_ref().map_or("", |field| field.key);
        self.list(field, |reader, node| {
            let called = called.to_owned();
            reader.text(Some(Field {
                key,
                called,
                example,
                node,
            }))
        })
    }

    fn one_or_more(&mut self, field: Option<Field>) -> Listed<At<String>> {
        let is_list = |field: &Field| matches!(field.node.value, Value::List { .. });
        if field.as_ref().is_some_and(is_list) {
            return self.texts(field, "a pod in `to`", "sink");
        }
        let line = field.as_ref().map_or(1, |field| field.node.line);
        let items: Vec<_> = self.text(field).into_iter().collect();
        let complete = !items.is_empty();
        Listed {
            line,
            items,
            complete,
        }
    }

    /// A scalar and whether it is plain; a problem that expects `expected` for anything else.
    fn scalar(&mut self, field: &Field, expected: impl fmt::Display) -> Option<At<(String, bool)>> {
        let line = field.node.line;
        match &field.node.value {
            Value::Refused => None,
            other if other.is_cut() => None,
            value @ Value::Scalar { text, plain } if !value.is_null() => Some(At {
                line,
                value: (text.clone(), *plain),
            }),
            other => {
                self.expected(field, expected, &other.kind());
                None
            }
        }
    }

    fn expected(&mut self, field: &Field, expected: impl fmt::Display, found: &str) {
        let fix = format!("write for example `{}`", field.example);
        self.mismatch(field, expected, found, &fix);
    }

    fn mismatch(&mut self, field: &Field, expected: impl fmt::Display, found: &str, fix: &str) {
        self.problems.add(
            field.node.line,
            format!("{} must be {expected}, not {found}; {fix}", field.called),
        );
    }

    fn text(&mut self, field: Option<Field>) -> Option<At<String>> {
        let field = field?;
        let At { line, value } = self.scalar(&field, "text")?;
        let (text, plain) = value;
        if plain && let Some(other) = tree::not_text(&text) {
            let found = format!("{other} {}", quote(&text));
            self.mismatch(&field, "text", &found, "put it in quotes");
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
                        "{} must be {choices_text}, not {}; {fix}",
                        field.called,
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
        // A leading zero is octal to some readers of YAML and decimal to others.
        let decimal = text.bytes().all(|byte| byte.is_ascii_digit())
            && (text.len() == 1 || !text.starts_with('0'));
        let number = text
            .parse()
            .ok()
            .filter(|number| decimal && range.contains(number));
        match number {
            Some(value) if plain => Some(At { line, value }),
            Some(_) => {
                let found = format!("text {}", quote(&text));
                self.mismatch(&field, expected, &found, "remove the quotes");
                None
            }
            None => {
                self.expected(&field, expected, &quote(&text));
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
            ("true" | "false", false) => {
                let found = format!("text {}", quote(&value.0));
                self.mismatch(&field, expected, &found, "remove the quotes");
                None
            }
            (text, _) => {
                self.expected(&field, expected, &quote(text));
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
