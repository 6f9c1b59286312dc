//! Formats measurements.

use harness::ops::bench::Measured;

use crate::output::{Style, Table};

/// Formats the scenarios with their ratios to the first one.
pub(crate) fn measured(all: &[Measured], style: Style) -> String {
    let mut table = Table::new([
        "scenario",
        "median",
        "99 %",
        "per second",
        "median, ratio",
        "rate, ratio",
    ]);
    let milliseconds =
        |microseconds: u64| format!("{}.{} ms", microseconds / 1000, microseconds % 1000 / 100);
    for each in all {
        let base = &all[0];
        table.row([
            each.scenario.to_owned(),
            milliseconds(each.median_us),
            milliseconds(each.p99_us),
            format!("{:.0}", each.per_second),
            format!("{:.2}", each.median_to(base)),
            format!("{:.2}", each.rate_to(base)),
        ]);
    }
    table.text(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_ratios_of_the_first() {
        let of = |scenario, median_us, per_second| Measured {
            scenario,
            messages: 10,
            median_us,
            p99_us: 2 * median_us,
            per_second,
        };
        let text = measured(
            &[of("this", 1500, 800.0), of("that", 3000, 200.0)],
            Style::Plain,
        );
        let words = |line: usize| -> Vec<_> {
            text.lines()
                .nth(line)
                .unwrap()
                .split_whitespace()
                .collect::<Vec<_>>()
        };
        assert_eq!(
            words(1),
            ["this", "1.5", "ms", "3.0", "ms", "800", "1.00", "1.00"]
        );
        assert_eq!(
            words(2),
            ["that", "3.0", "ms", "6.0", "ms", "200", "2.00", "0.25"]
        );
    }
}
