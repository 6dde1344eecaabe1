//! Tables that are printed as text and written into a page.

use crate::charts::escape;

/// A table. The first column is aligned to the left, the others to the right.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) title: String,
    pub(super) head: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

/// Returns a measure such as `0.874`, or a dash for NaN.
pub(super) fn number(x: f64) -> String {
    if x.is_nan() { "–".to_owned() } else { format!("{x:.3}") }
}

/// Escapes control characters. Names come from files of others, and must not control the terminal.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|letter| if letter.is_control() { letter.escape_default().collect() } else { vec![letter] })
        .collect()
}

impl Table {
    /// Returns the table as text in columns.
    pub(super) fn text(&self) -> String {
        let lines: Vec<Vec<String>> = std::iter::once(&self.head)
            .chain(&self.rows)
            .map(|row| row.iter().map(|cell| printable(cell)).collect())
            .collect();
        let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            lines.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = format!("{}\n", printable(&self.title));
        for row in &lines {
            let cell = |(column, (cell, width)): (usize, (&String, &usize))| match column {
                0 => format!("{cell:<width$}", width = *width),
                _ => format!("{cell:>width$}", width = *width),
            };
            let cells: Vec<String> = row.iter().zip(&widths).enumerate().map(cell).collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
    }

    /// Returns the table as HTML.
    pub(super) fn html(&self) -> String {
        let cells = |tag: &str, row: &[String]| -> String {
            row.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect()
        };
        let rows: String = self.rows.iter().map(|row| format!("<tr>{}</tr>", cells("td", row))).collect();
        format!(
            "<section><h2>{}</h2><div class=\"scroll\"><table><thead><tr>{}</tr></thead><tbody>{rows}</tbody></table></div></section>\n",
            escape(&self.title),
            cells("th", &self.head)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_names_cannot_control_the_terminal() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let table = Table {
            title: "by <kind>".into(),
            head: row(["kind", "AUC"]),
            rows: vec![row(["a\u{1b}[2J", ".5"]), row(["é", "1.000"])],
        };
        assert_eq!(table.text(), "by <kind>\nkind          AUC\na\\u{1b}[2J     .5\né           1.000\n");
        assert!(table.html().contains("by &lt;kind&gt;") && !table.html().contains('\u{1b}'));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.8741, 1.0, -0.25, f64::NAN].map(number), ["0.874", "1.000", "-0.250", "–"]);
    }
}
