//! Structured logs on stderr: human on a terminal, JSON otherwise.

use std::io::IsTerminal as _;

use messages::env;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, util::SubscriberInitExt as _};

/// Sets logging up from [`env::LOG`] and [`env::LOG_FORMAT`]. Returns what was wrong with them; logging then runs with
/// the defaults, so that the problems can be reported.
pub fn init() -> Vec<String> {
    let mut problems = Vec::new();
    let filter = filter(std::env::var(env::LOG).ok().as_deref()).unwrap_or_else(|problem| {
        problems.push(problem);
        EnvFilter::new("info")
    });
    let human = format_is_human(
        std::env::var(env::LOG_FORMAT).ok().as_deref(),
        std::io::stderr().is_terminal(),
    )
    .unwrap_or_else(|problem| {
        problems.push(problem);
        true
    });
    let colour = match std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        true => Colour::Ansi,
        false => Colour::None,
    };
    let format = if human {
        Format::Human(colour)
    } else {
        Format::Json
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
    Human(Colour),
    /// One object a line, with the text in its member `message`.
    Json,
}

/// Whether a human line has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Ansi,
    None,
}

/// The subscriber that [`init`] installs.
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
        // Flattened, so that the text stands in the object itself.
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
                "{}: `{text}` is no filter: {error}; use such as `info` or `info,node=debug`",
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
            "{}: `{other}` is no log format; use `human` or `json`",
            env::LOG_FORMAT
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_the_terminal_unless_told() {
        assert_eq!(format_is_human(None, true), Ok(true));
        assert_eq!(format_is_human(Some(""), false), Ok(false));
        assert_eq!(format_is_human(Some("human"), false), Ok(true));
        assert_eq!(format_is_human(Some("json"), true), Ok(false));
        assert!(
            format_is_human(Some("xml"), true)
                .unwrap_err()
                .contains("FERRY_LOG_FORMAT")
        );
    }

    #[test]
    fn a_bad_filter_is_reported_with_its_variable() {
        assert!(filter(Some("node=debug,info")).is_ok());
        assert!(filter(Some("node=loud")).unwrap_err().contains("FERRY_LOG"));
    }
}
