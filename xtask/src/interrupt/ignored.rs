//! Finds the signals that the parent process set to be ignored.

use std::process::{Command, Stdio};

use super::Signal;

/// Returns the ignored signals. Must be called before this process listens for any of them.
pub(super) fn at_start() -> Vec<Signal> {
    match std::fs::read_to_string("/proc/self/status") {
        Ok(status) => of_status(&status),
        // The file exists on Linux only.
        Err(_) => of_shell(&["/bin/sh"]),
    }
}

/// Parses `SigIgn`, a hexadecimal mask whose lowest bit is signal 1.
/// <https://man7.org/linux/man-pages/man5/proc_pid_status.5.html>
fn of_status(status: &str) -> Vec<Signal> {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default();
    let is_ignored = |signal: &Signal| mask & (1 << (signal.number() - 1)) != 0;
    Signal::ALL.into_iter().filter(is_ignored).collect()
}

/// Asks a shell, which inherits the ignored signals: it survives sending one of them to itself.
///
/// `shell` is the program and its arguments before `-c`. Returns no signal if the shell is missing.
/// <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html#tag_19_12>
fn of_shell(shell: &[&str]) -> Vec<Signal> {
    let survives = |signal: &Signal| {
        let script = format!("kill -{} $$; exit 0", signal.number());
        let [program, args @ ..] = shell else {
            return false;
        };
        let status = Command::new(program)
            .args(args)
            .args(["-c", &script])
            .stdin(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    Signal::ALL.into_iter().filter(survives).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_says_which_signals_are_ignored() {
        for (mask, ignored) in [
            ("0000000000000000", vec![]),
            // SIGPIPE alone, as Rust's own start sets it.
            ("0000000000001000", vec![]),
            ("0000000000000001", vec![Signal::HangUp]),
            ("0000000000000006", vec![Signal::Interrupt]),
            ("0000000000005003", Signal::ALL.to_vec()),
            (
                "fffffffffffffffe",
                vec![Signal::Interrupt, Signal::Terminate],
            ),
            ("", vec![]),
        ] {
            let status = format!("Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t{mask}\n");
            let mut expected = ignored;
            expected.sort_by_key(|signal| signal.number());
            let mut seen = of_status(&status);
            seen.sort_by_key(|signal| signal.number());
            assert_eq!(seen, expected, "{mask}");
        }
        assert_eq!(of_status("Name:\tx\n"), []);
    }

    #[test]
    fn a_shell_finds_the_same_signals() {
        // Those that this test ignores, as under `nohup`, no shell below it can heed.
        let here = at_start();
        for (trap, expected) in [
            (":", vec![]),
            ("trap '' HUP", vec![Signal::HangUp]),
            ("trap '' INT QUIT", vec![Signal::Interrupt]),
            ("trap '' HUP INT TERM", Signal::ALL.to_vec()),
        ] {
            let script = format!(r#"{trap}; exec /bin/sh "$@""#);
            let ignored = |signal: &Signal| expected.contains(signal) || here.contains(signal);
            let expected: Vec<_> = Signal::ALL.into_iter().filter(ignored).collect();
            assert_eq!(
                of_shell(&["/bin/sh", "-c", &script, "sh"]),
                expected,
                "{trap}"
            );
        }
        assert_eq!(of_shell(&["/no/such/shell"]), []);
    }
}
