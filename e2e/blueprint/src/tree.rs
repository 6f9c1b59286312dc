//! Parses YAML into a small tree with line numbers. Rejects aliases, so no file expands beyond
//! its size.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::problem::{Collector, quote};

/// A blueprint is four levels deep; beyond this, nothing is looked at.
const DEEPEST: usize = 8;

#[derive(Debug)]
pub(super) struct Node {
    /// For a value below a key: where the key is.
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Scalar {
        text: String,
        /// Written without quotes, so that `5` is a number and `true` a truth value.
        plain: bool,
    },
    List {
        items: Vec<Node>,
        complete: bool,
    },
    Map {
        entries: Vec<(Key, Node)>,
        complete: bool,
    },
    /// Refused and already reported; nothing more is to be said about it.
    Refused,
}

impl Value {
    /// The file broke off inside it, so what it was going to be is not known.
    pub(super) fn is_cut(&self) -> bool {
        matches!(
            self,
            Self::List {
                complete: false,
                ..
            } | Self::Map {
                complete: false,
                ..
            }
        )
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What it is, for a message.
    pub(super) fn kind(&self) -> String {
        match self {
            value if value.is_null() => "nothing".into(),
            Self::Scalar { text, plain } => {
                let what = not_text(text).filter(|_| *plain).unwrap_or("text");
                format!("{what} {}", quote(text))
            }
            Self::List { .. } => "a list".into(),
            Self::Map { .. } => "a mapping".into(),
            Self::Refused => "an alias".into(),
        }
    }
}

/// What a plain scalar is to YAML where it is no text (<https://yaml.org/spec/1.2.2/#1032-tag-resolution>).
pub(super) fn not_text(text: &str) -> Option<&'static str> {
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

#[derive(Debug)]
pub(super) struct Key {
    pub(super) line: usize,
    pub(super) text: String,
}

/// The tree of the one document in `text`; `None` when there is none. Where the text is no YAML, the tree ends there and
/// what was open is not `complete`.
pub(super) fn parse(text: &str, problems: &mut Collector) -> Option<Node> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(at) = text.find(is_forbidden) {
        let letter = text[at..].chars().next().unwrap_or_default();
        problems.add(
            line_at(text.as_bytes(), at),
            format!(
                "control character U+{:04X}; remove it, or write the file again as UTF-8 text",
                u32::from(letter)
            ),
        );
        return None;
    }
    let mut parser = Parser::new_from_str(text);
    let mut tree = Tree::default();
    let mut documents = 0;
    loop {
        match parser.next_event() {
            None | Some(Ok((Event::StreamEnd, _))) => return tree.root,
            Some(Ok((Event::DocumentStart(_), span))) => {
                documents += 1;
                if documents == 2 {
                    problems.add(
                        span.start.line(),
                        "a second document begins here; keep one blueprint a file and remove the `---`",
                    );
                    return tree.root;
                }
            }
            Some(Ok((event, span))) => {
                if tree.take(event, span, problems).is_err() {
                    return tree.cut();
                }
            }
            Some(Err(error)) => {
                let (line, column) = (error.marker().line().max(1), error.marker().col() + 1);
                // The parser blames the end of the line before.
                match (line..=line + 1).find(|line| begins_with_tab(text, *line)) {
                    Some(line) => problems.add(
                        line,
                        "a tab in the indentation, which is not valid YAML; indent with spaces",
                    ),
                    None => problems.add(
                        line,
                        format!(
                            "not valid YAML: {}; check punctuation, quotes and indentation at column {column} and before",
                            error.info()
                        ),
                    ),
                }
                return tree.cut();
            }
        }
    }
}

/// Line of the byte at `at`, from 1.
pub(super) fn line_at(text: &[u8], at: usize) -> usize {
    1 + text[..at.min(text.len())]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
}

fn begins_with_tab(text: &str, line: usize) -> bool {
    text.lines().nth(line - 1).is_some_and(|line| {
        line.chars()
            .take_while(|letter| letter.is_whitespace())
            .any(|letter| letter == '\t')
    })
}

/// What YAML 1.2 keeps out of a file (<https://yaml.org/spec/1.2.2/#51-character-set>). Checked here because the parser takes
/// a zero byte for the end of the file.
fn is_forbidden(letter: char) -> bool {
    matches!(letter, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}')
}

/// The tree under construction: what is open, outermost first.
#[derive(Default)]
struct Tree {
    root: Option<Node>,
    open: Vec<Open>,
}

struct Open {
    line: usize,
    contents: Contents,
}

enum Contents {
    List(Vec<Node>),
    Map {
        entries: Vec<(Key, Node)>,
        key: Option<Node>,
    },
}

/// Reading on makes no sense; the reason is reported.
struct Stop;

impl Tree {
    fn take(&mut self, event: Event<'_>, span: Span, problems: &mut Collector) -> Result<(), Stop> {
        let line = span.start.line().max(1);
        let (anchor, tag) = match &event {
            Event::Scalar(_, _, anchor, tag)
            | Event::SequenceStart(anchor, tag)
            | Event::MappingStart(anchor, tag) => (*anchor, tag.as_ref()),
            _ => (0, None),
        };
        if anchor != 0 || matches!(event, Event::Alias(_)) {
            problems.add(
                line,
                "YAML anchors and aliases (`&`, `*`) are not supported; write the value out",
            );
        }
        if let Some(tag) = tag {
            let written = if tag.is_yaml_core_schema() {
                format!("!!{}", tag.suffix)
            } else {
                tag.to_string()
            };
            problems.add(
                line,
                format!("YAML tags are not supported; remove {}", quote(&written)),
            );
        }
        match event {
            Event::Alias(_) => self.put(
                Node {
                    line,
                    value: Value::Refused,
                },
                problems,
            ),
            Event::Scalar(text, style, ..) => self.put(
                Node {
                    line,
                    value: Value::Scalar {
                        text: text.into_owned(),
                        plain: style == ScalarStyle::Plain,
                    },
                },
                problems,
            ),
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if self.open.len() == DEEPEST {
                    problems.add(
                        line,
                        format!(
                            "nested more than {DEEPEST} levels deep; a blueprint needs four: check the brackets and the indentation"
                        ),
                    );
                    return Err(Stop);
                }
                let contents = if matches!(event, Event::SequenceStart(..)) {
                    Contents::List(Vec::new())
                } else {
                    Contents::Map {
                        entries: Vec::new(),
                        key: None,
                    }
                };
                self.open.push(Open { line, contents });
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(true, problems),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn close(&mut self, complete: bool, problems: &mut Collector) {
        let Some(Open { line, contents }) = self.open.pop() else {
            return;
        };
        let value = match contents {
            Contents::List(items) => Value::List { items, complete },
            Contents::Map { entries, key } => {
                let mut entries = entries;
                if let Some((key, value)) = key.and_then(|key| {
                    let line = key.line;
                    let value = Value::Refused;
                    entry(key, Node { line, value }, &mut Collector::default())
                }) {
                    entries.push((key, value));
                }
                Value::Map { entries, complete }
            }
        };
        self.put(Node { line, value }, problems);
    }

    fn put(&mut self, node: Node, problems: &mut Collector) {
        match self.open.last_mut().map(|open| &mut open.contents) {
            None => self.root = Some(node),
            Some(Contents::List(items)) => items.push(node),
            Some(Contents::Map { entries, key }) => match key.take() {
                None => *key = Some(node),
                Some(key) => entries.extend(entry(key, node, problems)),
            },
        }
    }

    /// Closes what is open where the file cannot be read further.
    fn cut(mut self) -> Option<Node> {
        while !self.open.is_empty() {
            self.close(false, &mut Collector::default());
        }
        self.root
    }
}

/// An entry of a map; `None`, and reported, where the key is no text.
fn entry(key: Node, value: Node, problems: &mut Collector) -> Option<(Key, Node)> {
    let line = key.line;
    match key.value {
        Value::Scalar { text, .. } => Some((
            Key { line, text },
            Node {
                line,
                value: value.value,
            },
        )),
        Value::Refused => None,
        Value::List { .. } | Value::Map { .. } => {
            problems.add(
                line,
                "a key must be a word, not a list or a mapping; check the brackets, and quote text that begins with one",
            );
            None
        }
    }
}
