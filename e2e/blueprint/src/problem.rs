//! Problems of a blueprint: all of them together, each with its line and its fix.

use std::{fmt, path::PathBuf};

use crate::failure::Failure;

/// Most problems shown for one file; what comes after is counted only.
const MOST_SHOWN: usize = 50;

/// Longest piece of the file that is repeated in a message, in characters.
const LONGEST_QUOTE: usize = 70;

/// Most names that a wrong one is compared with.
const MOST_COMPARED: usize = 200;

/// One problem of a blueprint file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1; `None` where the file as a whole is meant.
    pub line: Option<usize>,
    /// `problem; fix`
    pub text: String,
}

/// All problems of one blueprint file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    path: PathBuf,
    problems: Vec<Problem>,
}

impl Problems {
    pub fn new(path: impl Into<PathBuf>, problems: Vec<Problem>) -> Self {
        Self {
            path: path.into(),
            problems,
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }
}

impl fmt::Display for Problems {
    /// "blueprint `path` has N problems", then `path:line: problem; fix`, one a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, count) = (self.path.display(), self.problems.len());
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "blueprint `{path}` has {count} problem{plural}")?;
        for Problem { line, text } in self.problems.iter().take(MOST_SHOWN) {
            match line {
                Some(line) => write!(f, "\n{path}:{line}: {text}")?,
                None => write!(f, "\n{path}: {text}")?,
            }
        }
        if count > MOST_SHOWN {
            write!(
                f,
                "\n{path}: and {} more; fix these first",
                count - MOST_SHOWN
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::usage(problems.to_string())
    }
}

/// Collects problems while a file is read.
#[derive(Debug, Default)]
pub(super) struct Collector(Vec<Problem>);

impl Collector {
    pub(super) fn add(&mut self, line: usize, text: impl Into<String>) {
        self.0.push(Problem {
            line: Some(line),
            text: text.into(),
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// [`nearest`] while that is still of help: a file with hundreds of problems is no file with a slip in it.
    pub(super) fn nearest<'a>(
        &self,
        text: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Option<&'a str> {
        (self.0.len() < 2 * MOST_SHOWN)
            .then(|| nearest(text, candidates.into_iter().take(MOST_COMPARED)))
            .flatten()
    }

    /// The problems by line; those of one line in the order they were found, a repeated one once.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        self.0.sort_by_key(|problem| problem.line);
        self.0.dedup();
        self.0
    }
}

/// A piece of the file for a message: in back-ticks, short, without control characters.
pub fn quote(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(LONGEST_QUOTE)
        .flat_map(|letter| {
            // `escape_debug` also escapes quotes, which need none between back-ticks.
            let plain = matches!(letter, '"' | '\'' | '\\');
            let escaped = (!plain).then(|| letter.escape_debug());
            plain
                .then_some(letter)
                .into_iter()
                .chain(escaped.into_iter().flatten())
        })
        .collect();
    if text.chars().nth(LONGEST_QUOTE).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// Names in back-ticks, at most ten.
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().map(quote).collect();
    match names.len() {
        0 => "none".into(),
        1..=10 => names.join(", "),
        more => format!("{}, and {} more", names[..10].join(", "), more - 10),
    }
}

/// The candidate that `text` is probably a slip of, if one is near enough.
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = text.chars().count();
    if length > 64 {
        return None;
    }
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= 64)
        .filter_map(|candidate| {
            let farthest = length.max(candidate.chars().count()) / 3;
            let distance = distance(&text.to_lowercase(), &candidate.to_lowercase());
            (distance <= farthest && candidate != text).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Letters to add, remove, replace or swap with their neighbour (optimal string alignment).
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<_>, Vec<_>) = (from.chars().collect(), to.chars().collect());
    let mut before_last = vec![0; to.len() + 1];
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1; to.len() + 1];
        for (j, b) in to.iter().enumerate() {
            let replaced = last[j] + usize::from(a != b);
            row[j + 1] = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                row[j + 1] = row[j + 1].min(before_last[j - 1] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_key_suggests_nearest_word() {
        let known = ["port", "pinhole", "cluster", "role"];
        assert_eq!(nearest("prot", known), Some("port"));
        assert_eq!(nearest("pinhol", known), Some("pinhole"));
        assert_eq!(nearest("Cluster", known), Some("cluster"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest(&"p".repeat(100_000), known), None);
    }

    #[test]
    fn quote_is_short_and_escaped() {
        assert_eq!(quote("it's \"fine\""), "`it's \"fine\"`");
        assert_eq!(quote("\u{1b}[31m\n"), "`\\u{1b}[31m\\n`");
        assert_eq!(quote(&"x".repeat(1000)).chars().count(), 70 + 3);
    }
}
