//! Structured logs on standard error: human on a terminal, JSON otherwise.

use std::io::IsTerminal as _;

use messages::env;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, util::SubscriberInitExt as _};

/// Sets logging up from [`env::LOG`] and [`env::LOG_FORMAT`].
///
/// Returns the problems of the two. A wrong one is replaced by its default, so that the problems
/// can be logged.
pub fn init() -> Vec<String> {
    let mut problems = Vec::new();
    let terminal = std::io::stderr().is_terminal();
    let filter = filter(std::env::var(env::LOG).ok().as_deref()).unwrap_or_else(|problem| {
        problems.push(problem);
        EnvFilter::new("info")
    });
    let format = std::env::var(env::LOG_FORMAT).ok();
    let human = format_is_human(format.as_deref(), terminal).unwrap_or_else(|problem| {
        problems.push(problem);
        terminal
    });
    // <https://no-color.org>: an empty value counts as absent.
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = match terminal && !no_colour {
        true => Colour::Ansi,
        false => Colour::None,
    };
    let format = match human {
        true => Format::Human(colour),
        false => Format::Json,
    };
    if let Err(error) = subscriber(format, filter, std::io::stderr).try_init() {
        // A second pod in one process, as in tests: the first one's logging stays.
        tracing::debug!(%error, "logging was set up before");
    }
    problems
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text for people.
    Human(Colour),
    /// One object a line, with the text in its member `message`.
    Json,
}

/// Whether a human line has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// ANSI escape sequences.
    Ansi,
    /// Plain text.
    None,
}

/// Returns the subscriber that [`init`] installs.
pub fn subscriber<W>(
    format: Format,
    filter: EnvFilter,
    writer: W,
) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    match format {
        Format::Human(colour) => Box::new(
            builder
                .with_ansi(colour == Colour::Ansi)
                .with_target(false)
                .finish(),
        ),
        // Flattened, so that the text is a member of the object itself.
        Format::Json => Box::new(
            builder
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .finish(),
        ),
    }
}

fn filter(text: Option<&str>) -> Result<EnvFilter, String> {
    match text.filter(|text| !text.is_empty()) {
        None => Ok(EnvFilter::new("info")),
        Some(text) => EnvFilter::try_new(text).map_err(|error| {
            format!(
                "{}: `{text}` is not a log filter: {error}; use one such as `info,node=debug`",
                env::LOG
            )
        }),
    }
}

fn format_is_human(text: Option<&str>, terminal: bool) -> Result<bool, String> {
    match text.filter(|text| !text.is_empty()) {
        None => Ok(terminal),
        Some("human") => Ok(true),
        Some("json") => Ok(false),
        Some(other) => Err(format!(
            "{}: `{other}` is not a log format; use `human` or `json`",
            env::LOG_FORMAT
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_defaults_to_that_of_the_output() {
        assert_eq!(format_is_human(None, true), Ok(true));
        assert_eq!(format_is_human(Some(""), false), Ok(false));
        assert_eq!(format_is_human(Some("human"), false), Ok(true));
        assert_eq!(format_is_human(Some("json"), true), Ok(false));
        let problem = format_is_human(Some("xml"), true).unwrap_err();
        assert!(problem.starts_with("FERRY_LOG_FORMAT: `xml`"), "{problem}");
    }

    #[test]
    fn bad_filter_is_reported() {
        assert!(filter(Some("node=debug,info")).is_ok());
        for bad in ["node=loud", "info,,="] {
            let problem = filter(Some(bad)).unwrap_err();
            assert!(problem.starts_with("FERRY_LOG: "), "{problem}");
        }
    }
}
