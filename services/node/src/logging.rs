//! Structured logs on stderr: human on a terminal, JSON otherwise.

use std::io::IsTerminal as _;

use messages::env;
use tracing_subscriber::EnvFilter;

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
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let result = if human {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        builder.with_ansi(colour).with_target(false).try_init()
    } else {
        // Flattened, so that a message stands in the top-level field `message`.
        builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init()
    };
    if let Err(error) = result {
        // A second pod in one process, as in tests: the first one's logging stays.
        tracing::debug!(%error, "logging was set up before");
    }
    problems
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
