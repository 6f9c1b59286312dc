//! Runs a kubeconfig's `exec` plugin, which prints a user's credentials.
//!
//! The token or key that the program prints is a secret, and its arguments may hold one. Ferry shows
//! neither; it shows the program's standard error.

use std::io::IsTerminal as _;

use blueprint::failure::Failure;
use kube::{
    client::AuthError,
    config::{AuthInfo, ExecInteractiveMode},
};
use tower::BoxError;

use super::{must_work, refused};

/// Longest line of a program's standard error that is shown, in characters.
const LONGEST_LINE: usize = 300;

/// Gives a program this command's terminal only where there is one, as `kubectl` does: without one it would wait for
/// an answer that never comes, or read what was meant for this command.
pub(super) fn settle(user: Option<&mut AuthInfo>, context: &str) -> Result<(), Failure> {
    settle_for(user, context, std::io::stdin().is_terminal())
}

pub(super) fn settle_for(
    user: Option<&mut AuthInfo>,
    context: &str,
    terminal: bool,
) -> Result<(), Failure> {
    let Some(exec) = user.and_then(|user| user.exec.as_mut()) else {
        return Ok(());
    };
    match (&exec.interactive_mode, terminal) {
        (Some(ExecInteractiveMode::Always), false) => {
            let command = exec.command.as_deref().unwrap_or_default();
            Err(refused(
                context,
                &format!(
                    "`{command}` gives the credentials and must ask at a terminal, and standard input is none"
                ),
            ))
        }
        (_, false) => {
            exec.interactive_mode = Some(ExecInteractiveMode::Never);
            Ok(())
        }
        (_, true) => Ok(()),
    }
}

/// Takes the secrets out of an error of a request whose credentials could not be had.
pub(super) fn clean(error: BoxError, context: &str) -> BoxError {
    match error.downcast::<AuthError>() {
        Ok(error) => failure(&error, context).into(),
        Err(other) => other,
    }
}

/// Why there are no credentials.
pub(super) fn failure(error: &AuthError, context: &str) -> Failure {
    let cause = match error {
        AuthError::AuthExecRun { out, .. } => {
            let said = String::from_utf8_lossy(&out.stderr);
            let said = said.lines().rfind(|line| !line.trim().is_empty());
            let said: String = said
                .unwrap_or_default()
                .chars()
                .take(LONGEST_LINE)
                .collect();
            let colon = if said.is_empty() { "" } else { ": " };
            format!(
                "the program that gives its credentials ended with {}{colon}{said}",
                out.status
            )
        }
        AuthError::AuthExecStart(error) => {
            format!("the program that gives its credentials cannot be started: {error}")
        }
        AuthError::AuthExecParse(_) | AuthError::ParseTokenKey(_) => {
            "the program that gives its credentials printed no ExecCredential".into()
        }
        other => format!("its credentials cannot be had: {other}"),
    };
    Failure::infrastructure(format!("context `{context}`: {cause}")).hint(must_work(context))
}
