//! Shows a timeline: spinners on a terminal, plain lines otherwise.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use host::timeline::{Event, Observer};
use indicatif::{ProgressBar, ProgressStyle};

use super::{Colour, Output, Style};

/// Interval at which a long step prints its progress if there is no spinner.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// The steps that are running, and where to show them.
pub(super) struct Progress {
    output: Output,
    running: Mutex<HashMap<usize, Running>>,
}

struct Running {
    spinner: Option<ProgressBar>,
    /// Start, or the last time its progress was printed.
    reported: Instant,
}

impl Progress {
    pub(super) fn new(output: Output) -> Self {
        Self {
            output,
            running: Mutex::default(),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<usize, Running>) -> T) -> T {
        work(&mut self.running.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn start(&self, name: &str) -> Running {
        let spinner = self.output.0.spinners.as_ref().map(|spinners| {
            let spinner = spinners.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("  {spinner}  {elapsed:>5}  {wide_msg}")
            {
                spinner.set_style(style);
            }
            spinner.set_message(name.to_owned());
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner
        });
        Running {
            spinner,
            reported: Instant::now(),
        }
    }
}

impl Observer for Progress {
    fn observe(&self, event: &Event<'_>) {
        let style = self.output.0.note_style;
        match *event {
            Event::Started { step, name } => {
                let running = self.start(name);
                self.with(|all| all.insert(step, running));
            }
            Event::Progress { step, name, text } => {
                let overdue = self.with(|all| {
                    let running = all.get_mut(&step)?;
                    match &running.spinner {
                        Some(spinner) => {
                            spinner.set_message(format!("{name}: {text}"));
                            None
                        }
                        None if running.reported.elapsed() < PROGRESS_INTERVAL => None,
                        None => {
                            running.reported = Instant::now();
                            Some(())
                        }
                    }
                });
                if overdue.is_some() {
                    self.output.note(format!("  ..          {name}: {text}"));
                }
            }
            Event::Finished { step, name, took } => {
                self.end(step);
                self.output.note(step_line(Verdict::Ok, took, name, style));
            }
            Event::Failed { step, name, took } => {
                self.end(step);
                self.output
                    .note(step_line(Verdict::Failed, took, name, style));
            }
            Event::Note { text } => self.output.note(text),
            Event::Warning { text } => self.output.warn(text),
        }
    }
}

impl Progress {
    fn end(&self, step: usize) {
        let running = self.with(|all| all.remove(&step));
        if let Some(spinner) = running.and_then(|running| running.spinner) {
            spinner.finish_and_clear();
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Verdict {
    Ok,
    Failed,
}

/// Formats a finished step: `  ok      1.2s  step`.
fn step_line(verdict: Verdict, took: Duration, name: &str, style: Style) -> String {
    let word = match verdict {
        Verdict::Ok => style.paint(Colour::Green, "ok    "),
        Verdict::Failed => style.paint(Colour::Red, "failed"),
    };
    format!("  {word}  {:>6}  {name}", seconds(took))
}

/// Formats a duration: `0.4s`, `12.0s`, `3m07s`.
pub(crate) fn seconds(took: Duration) -> String {
    let all = took.as_secs();
    if all < 100 {
        format!("{:.1}s", took.as_secs_f64())
    } else {
        format!("{}m{:02}s", all / 60, all % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_line_has_its_verdict_time_and_name() {
        assert_eq!(
            step_line(
                Verdict::Ok,
                Duration::from_millis(1240),
                "build services",
                Style::Plain
            ),
            "  ok        1.2s  build services"
        );
        assert_eq!(
            step_line(
                Verdict::Failed,
                Duration::from_secs(187),
                "prove",
                Style::Plain
            ),
            "  failed   3m07s  prove"
        );
    }
}
