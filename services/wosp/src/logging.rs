//! Logs go to standard error: human on a terminal, one JSON object a line otherwise.

use std::{io::IsTerminal as _, str::FromStr};

use tracing_subscriber::{EnvFilter, filter::ParseError};

/// A checked filter in the syntax of [`EnvFilter`]; `info` by default.
#[derive(Clone, Debug)]
pub struct Filter(String);

impl Default for Filter {
    fn default() -> Self {
        Self("info".into())
    }
}

impl FromStr for Filter {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        EnvFilter::builder().parse(text)?;
        Ok(Self(text.into()))
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Human on a terminal, JSON otherwise.
    #[default]
    Auto,
    Human,
    Json,
}

impl FromStr for Format {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}

/// Starts logging, once per process.
pub fn start(filter: &Filter, format: Format) {
    let terminal = std::io::stderr().is_terminal();
    let human = match format {
        Format::Auto => terminal,
        Format::Human => true,
        Format::Json => false,
    };
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&filter.0))
        .with_writer(std::io::stderr)
        .with_ansi(colours);
    // A second start, in a test, changes nothing.
    let _ = if human {
        builder.try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
}
