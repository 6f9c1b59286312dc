//! The only printer. Data goes to standard output, everything else to standard error.
//!
//! A reader that goes away (`cargo xtask trail | head -1`) is no failure: what it does not read is dropped. Any other error
//! in writing standard output is one, told at the end by [`Output::finish`]: the data is not where it was asked for.

mod progress;
mod stream;
mod table;

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _},
    sync::{Arc, Mutex, PoisonError},
};

use e2e::{
    failure::{Failure, Kind},
    timeline::Timeline,
};
use indicatif::{MultiProgress, ProgressDrawTarget};

pub(crate) use progress::seconds;
use stream::Stream;
pub(crate) use table::Table;

use crate::interrupt::Interrupted;

/// Colour of a word that is complete without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Green,
    Red,
    Yellow,
    Bold,
}

/// Whether a stream takes colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Coloured,
}

impl Style {
    /// Colours are for terminals, and never with `NO_COLOR` set to anything (<https://no-color.org>).
    fn of(terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if terminal && !refused {
            Self::Coloured
        } else {
            Self::Plain
        }
    }

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
    data: Style,
    talk: Style,
    /// Present where standard error is a terminal.
    spinners: Option<MultiProgress>,
    /// Keeps lines of several threads apart.
    turn: Mutex<()>,
}

/// A handle to both streams; clones write to the same ones.
#[derive(Clone)]
pub(crate) struct Output(Arc<Streams>);

impl Output {
    pub(crate) fn new() -> Self {
        let terminal = io::stderr().is_terminal();
        let animated = terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self(Arc::new(Streams {
            stdout: Stream::of(io::stdout()),
            stderr: Stream::of(io::stderr()),
            data: Style::of(io::stdout().is_terminal()),
            talk: Style::of(terminal),
            spinners: animated
                .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10))),
            turn: Mutex::new(()),
        }))
    }

    /// Whether what goes to standard output may carry colours.
    pub(crate) fn data_style(&self) -> Style {
        self.0.data
    }

    /// A timeline that is shown as it happens.
    pub(crate) fn timeline(&self) -> Timeline {
        Timeline::new(progress::Progress::new(self.clone()))
    }

    /// Data, with a line end: what another program may read.
    pub(crate) fn data(&self, text: impl AsRef<str>) {
        self.alone(|| self.0.stdout.line(text.as_ref()));
    }

    /// True once standard output takes no more: a command that only prints may end.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.stdout.is_closed()
    }

    /// A line for the person at the screen. There is nowhere left to complain about a standard error that takes no more.
    pub(crate) fn say(&self, text: impl AsRef<str>) {
        self.alone(|| self.0.stderr.line(text.as_ref()));
    }

    pub(crate) fn warn(&self, text: impl AsRef<str>) {
        let label = self.0.talk.paint(Colour::Yellow, "warning:");
        self.say(format!("{label} {}", text.as_ref()));
    }

    /// Shows how the command ended and gives its exit code. Data that could not be written fails a command that went well.
    pub(crate) fn finish(&self, result: anyhow::Result<()>) -> u8 {
        let lost = self.0.stdout.failure().map(lost_data);
        let mut code = 0;
        for error in result.err().into_iter().chain(lost) {
            self.say(error_text(&error, self.0.talk));
            if code == 0 {
                code = match error.downcast_ref::<Interrupted>() {
                    Some(interrupted) => interrupted.exit_code(),
                    None => Failure::exit_code(&error),
                };
            }
        }
        code
    }

    /// Shows help or what is wrong with the usage, and gives the exit code.
    pub(crate) fn finish_usage(&self, words: &clap::Error) -> u8 {
        let text = words.render().to_string();
        if words.use_stderr() {
            self.say(text.trim_end());
            return Kind::Usage.exit_code();
        }
        self.data(text.trim_end());
        self.finish(Ok(()))
    }

    /// Shows an error that does not decide the command's exit code.
    pub(crate) fn beside(&self, what: &str, error: &anyhow::Error) {
        self.warn(format!("{what}: {}", chain_text(error)));
    }

    fn alone<T>(&self, write: impl FnOnce() -> T) -> T {
        let _turn = self.0.turn.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.0.spinners {
            Some(spinners) => spinners.suspend(write),
            None => write(),
        }
    }
}

fn lost_data(cause: &io::Error) -> anyhow::Error {
    let hint = match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room where it is written to (`df -h`), and ask again"
        }
        _ => "write it to another place, and ask again",
    };
    Failure::infrastructure(format!("standard output: {cause}; the rest of it is lost"))
        .hint(hint)
        .into()
}

/// `error: <cause>`, the causes below it numbered, and `help: <next step>`.
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

/// The outermost cause, then those below it, numbered; what a cause above already says is not repeated.
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
    fn an_error_shows_its_cause_the_causes_below_and_the_next_step() {
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
