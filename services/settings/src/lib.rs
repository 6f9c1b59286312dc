//! What the services share at their start: settings from the environment, logging, replaced files.
//!
//! Names and meaning of the variables are in [`messages::env`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::process::ExitCode;

mod content;
pub mod logging;
mod reader;

pub use content::ContentHash;
pub use reader::{InvalidSettings, Reader};

/// Exit code of wrong settings.
const WRONG_SETTINGS: u8 = 2;

/// Starts logging, then reads the settings of a program with `read`.
///
/// # Errors
///
/// Returns exit code 2 if a setting is wrong. Every problem is logged, each on its own line.
pub fn start<T>(read: impl FnOnce() -> Result<T, InvalidSettings>) -> Result<T, ExitCode> {
    let mut problems = logging::init();
    match read() {
        Ok(settings) if problems.is_empty() => return Ok(settings),
        Ok(_) => {}
        Err(InvalidSettings(more)) => problems.extend(more),
    }
    for problem in problems {
        tracing::error!("{problem}");
    }
    Err(ExitCode::from(WRONG_SETTINGS))
}
