//! Panics. That of a hook ends its message, any other ends the process: the pod would be live and
//! ready without the task that panicked.

use std::{cell::Cell, future::poll_fn, process::exit};

use futures_util::{FutureExt as _, future::BoxFuture};

/// Exit code of a Rust program whose main thread panicked.
const PANICKED: i32 = 101;

thread_local! {
    /// Whether this thread runs code whose panics are caught.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Ends the process with exit code 101 on every panic outside of [`caught`].
pub(crate) fn end_the_process() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        if !CAUGHT.get() {
            exit(PANICKED);
        }
    }));
}

/// Runs `future`, whose panics the caller catches. A panic of a task that it spawns ends the process.
pub(crate) async fn caught<T>(mut future: BoxFuture<'_, T>) -> T {
    poll_fn(|context| {
        let _inside = Inside(CAUGHT.replace(true));
        future.poll_unpin(context)
    })
    .await
}

/// Restores [`CAUGHT`], after a panic as well.
struct Inside(bool);

impl Drop for Inside {
    fn drop(&mut self) {
        CAUGHT.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::{panic::AssertUnwindSafe, process::Command};

    use super::*;

    /// Set in the process that panics.
    const CHILD: &str = "PANICS_OF_A_TEST";

    #[expect(clippy::panic, clippy::print_stderr, reason = "the parent reads it")]
    async fn panic_in_a_hook_then_in_a_task() {
        end_the_process();
        let hook = Box::pin(async { panic!("a hook of a test") });
        let result: Result<(), _> = AssertUnwindSafe(caught(hook)).catch_unwind().await;
        assert!(result.is_err());
        eprintln!("alive after the hook");
        let task = tokio::spawn(async { panic!("a task of a test") });
        let _ = task.await;
        eprintln!("alive after the task");
    }

    #[tokio::test]
    async fn a_panicked_task_ends_the_process() {
        const SELF: &str = "panics::tests::a_panicked_task_ends_the_process";
        if std::env::var_os(CHILD).is_some() {
            return panic_in_a_hook_then_in_a_task().await;
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args([SELF, "--exact", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(PANICKED), "{text}");
        assert!(text.contains("alive after the hook"), "{text}");
        assert!(!text.contains("alive after the task"), "{text}");
    }
}
