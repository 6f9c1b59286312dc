//! Formats tables as text.

use super::{Colour, Style};

/// Rows of cells under a header, columns two spaces apart.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Creates a table without rows.
    pub(crate) fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Self {
            header: header.into_iter().map(Into::into).collect(),
            rows: vec![],
        }
    }

    /// Adds a row.
    pub(crate) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Returns the table, indented by two spaces and without a trailing line end.
    pub(crate) fn text(&self, style: Style) -> String {
        let mut widths = vec![0; self.header.len()];
        for row in std::iter::once(&self.header).chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |row: &Vec<String>| {
            let mut text = String::from("  ");
            for (width, cell) in widths.iter().zip(row) {
                text.push_str(&format!("{cell:<width$}  "));
            }
            text.trim_end().to_owned()
        };
        let header = style.paint(Colour::Bold, &line(&self.header));
        std::iter::once(header)
            .chain(self.rows.iter().map(line))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_without_trailing_space() {
        let mut table = Table::new(["pod", "cluster", "state"]);
        table.row(["sink", "cluster-b", "ready"]);
        table.row(["gateway → x", "a", ""]);
        assert_eq!(
            table.text(Style::Plain),
            "  pod          cluster    state\n  sink         cluster-b  ready\n  gateway → x  a"
        );
    }
}
