//! The only module that prints: data to standard output, everything else to standard error.
//!
//! A reader that closes the pipe (`cargo xtask trail | head -1`) is not an error; the rest of the
//! data is dropped. [`Output::finish`] reports any other error of writing to standard output.

mod progress;
mod stream;
mod table;

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _},
    sync::{Arc, Mutex, PoisonError},
};

use blueprint::failure::{Failure, Kind};
use host::timeline::Timeline;
use indicatif::{MultiProgress, ProgressDrawTarget};

use crate::interrupt::Interrupted;
use stream::Stream;

pub(crate) use progress::seconds;
pub(crate) use table::Table;

/// Colour of a word; never the only carrier of its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Green,
    Red,
    Yellow,
    Bold,
}

/// Whether a stream gets colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Coloured,
}

impl Style {
    /// Returns `Coloured` for a terminal, unless `NO_COLOR` has a value (<https://no-color.org>).
    fn of(terminal: bool) -> Self {
        let disabled = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if terminal && !disabled {
            Self::Coloured
        } else {
            Self::Plain
        }
    }

    /// Wraps the text in the colour's escape sequence, if the stream gets colours.
    pub(crate) fn paint(self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::Green => 32,
            Colour::Red => 31,
            Colour::Yellow => 33,
            Colour::Bold => 1,
        };
        match self {
            Self::Plain => text.into(),
            Self::Coloured => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
}

struct Streams {
    stdout: Stream,
    stderr: Stream,
    data_style: Style,
    note_style: Style,
    /// Present if standard error is a terminal.
    spinners: Option<MultiProgress>,
    /// Serialises writes, so that lines of several threads do not mix.
    write_lock: Mutex<()>,
}

/// Handle to both streams; clones share them.
#[derive(Clone)]
pub(crate) struct Output(Arc<Streams>);

impl Output {
    /// Opens both streams; adds spinners if standard error is a terminal.
    pub(crate) fn new() -> Self {
        let terminal = io::stderr().is_terminal();
        let animated = terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self(Arc::new(Streams {
            stdout: Stream::of(io::stdout()),
            stderr: Stream::of(io::stderr()),
            data_style: Style::of(io::stdout().is_terminal()),
            note_style: Style::of(terminal),
            spinners: animated
                .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10))),
            write_lock: Mutex::new(()),
        }))
    }

    /// Returns whether data gets colours.
    pub(crate) fn data_style(&self) -> Style {
        self.0.data_style
    }

    /// Creates a timeline whose steps are shown as they run.
    pub(crate) fn timeline(&self) -> Timeline {
        Timeline::new(progress::Progress::new(self.clone()))
    }

    /// Prints data for other programs to standard output, with a line end.
    pub(crate) fn data(&self, text: impl AsRef<str>) {
        self.locked(|| self.0.stdout.line(text.as_ref()));
    }

    /// Returns whether standard output was closed, so that a command that only prints may end.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.stdout.is_closed()
    }

    /// Prints a line for the user to standard error. Errors of writing are ignored.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        self.locked(|| self.0.stderr.line(text.as_ref()));
    }

    /// Prints a warning to standard error.
    pub(crate) fn warn(&self, text: impl AsRef<str>) {
        let label = self.0.note_style.paint(Colour::Yellow, "warning:");
        self.note(format!("{label} {}", text.as_ref()));
    }

    /// Prints the error of a failed command and returns the exit code.
    ///
    /// A successful command fails here if its data could not be written.
    pub(crate) fn finish(&self, result: anyhow::Result<()>) -> u8 {
        let lost = self.0.stdout.failure().map(lost_data);
        let mut code = 0;
        for error in result.err().into_iter().chain(lost) {
            self.note(error_text(&error, self.0.note_style));
            if code == 0 {
                code = match error.downcast_ref::<Interrupted>() {
                    Some(interrupted) => interrupted.exit_code(),
                    None => Failure::exit_code(&error),
                };
            }
        }
        code
    }

    /// Prints help or a usage error and returns the exit code.
    pub(crate) fn finish_usage(&self, error: &clap::Error) -> u8 {
        let text = error.render().to_string();
        if error.use_stderr() {
            self.note(text.trim_end());
            return Kind::Usage.exit_code();
        }
        self.data(text.trim_end());
        self.finish(Ok(()))
    }

    /// Prints an error that does not affect the exit code as a warning.
    pub(crate) fn warn_also(&self, what: &str, error: &anyhow::Error) {
        self.warn(format!("{what}: {}", chain_text(error)));
    }

    /// Runs `write` while no other thread prints and no spinner is visible.
    fn locked<T>(&self, write: impl FnOnce() -> T) -> T {
        let _lock = self
            .0
            .write_lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match &self.0.spinners {
            Some(spinners) => spinners.suspend(write),
            None => write(),
        }
    }
}

fn lost_data(cause: &io::Error) -> anyhow::Error {
    let hint = match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free disk space (`df -h`) and run the command again"
        }
        _ => "redirect the output to another place and run the command again",
    };
    Failure::infrastructure(format!(
        "cannot write to standard output: {cause}; the rest of the data is lost"
    ))
    .hint(hint)
    .into()
}

/// Formats an error as `error: <cause>`, the numbered causes below it, and `help: <hint>`.
fn error_text(error: &anyhow::Error, style: Style) -> String {
    let mut text = format!(
        "{} {}",
        style.paint(Colour::Red, "error:"),
        chain_text(error)
    );
    if let Some(hint) = Failure::of(error).and_then(Failure::next_step) {
        let _ = write!(text, "\n{} {hint}", style.paint(Colour::Bold, "help:"));
    }
    text
}

/// Joins an error's causes, outermost first and the others numbered. Skips a cause whose text is
/// part of one above it.
fn chain_text(error: &anyhow::Error) -> String {
    let mut causes: Vec<String> = vec![];
    for cause in error.chain().map(ToString::to_string) {
        if !causes.iter().any(|above| above.contains(&cause)) {
            causes.push(cause);
        }
    }
    let mut text = causes.first().cloned().unwrap_or_default();
    for (number, cause) in causes.iter().enumerate().skip(1) {
        let _ = write!(text, "\n  {number}: {}", cause.replace('\n', "\n     "));
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn error_shows_causes_and_hint() {
        let error = Err::<(), _>(anyhow::anyhow!("connection refused"))
            .context("cannot reach 127.0.0.1:30200")
            .context(
                Failure::infrastructure("sink in cluster-b does not answer")
                    .hint("look at its log"),
            )
            .unwrap_err();
        assert_eq!(
            error_text(&error, Style::Plain),
            "error: sink in cluster-b does not answer\n  1: cannot reach 127.0.0.1:30200\n  2: connection refused\nhelp: look at its log"
        );
    }

    #[test]
    fn an_error_says_nothing_twice() {
        let error =
            anyhow::anyhow!("port 30100 is taken").context("cluster-a: port 30100 is taken");
        assert_eq!(
            error_text(&error, Style::Plain),
            "error: cluster-a: port 30100 is taken"
        );
    }

    #[test]
    fn an_error_is_complete_without_colour() {
        let error = anyhow::Error::from(Failure::usage("no such blueprint").hint("name one"));
        let coloured = error_text(&error, Style::Coloured);
        let plain = coloured
            .replace("\u{1b}[31m", "")
            .replace("\u{1b}[1m", "")
            .replace("\u{1b}[0m", "");
        assert_ne!(coloured, plain);
        assert_eq!(plain, error_text(&error, Style::Plain));
    }
}
