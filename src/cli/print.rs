//! The output of commands: tables for people, JSON for programs.

use clap::ValueEnum;
use serde::Serialize;

use super::Failure;
use crate::ops::Exit;
use crate::ops::stdout::{self, outln};

/// The format of the output.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Text for people
    Text,
    /// JSON for programs
    Json,
}

/// Prints one JSON value.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(Exit::Internal, error))?;
    outln!("{text}");
    Ok(())
}

/// Prints rows in columns. The columns in `right` are aligned to the right. The last one is never padded.
pub fn table(rows: &[Vec<String>], right: &[usize]) {
    stdout::print(&columns(rows, right));
}

fn columns(rows: &[Vec<String>], right: &[usize]) -> String {
    let mut wide: Vec<usize> = Vec::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match wide.get_mut(at) {
                Some(widest) => *widest = width.max(*widest),
                None => wide.push(width),
            }
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&wide).enumerate().map(|(at, (cell, wide))| {
            let wide = *wide;
            if right.contains(&at) { format!("{cell:>wide$}") } else { format!("{cell:<wide$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Returns a row of a table.
pub fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

/// Escapes control characters. Text of records comes from others, and must not control the terminal.
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|letter| if letter.is_control() { letter.escape_default().collect() } else { vec![letter] })
        .collect()
}

/// Returns the first digits of a hash, enough to distinguish two.
pub fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [row(["name", "p", "what"]), row(["é", "0.5", "x"]), row(["longer", "-0.25", ""])];
        assert_eq!(columns(&rows, &[1]), "name        p  what\né         0.5  x\nlonger  -0.25\n");
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("a\u{1b}[2Jé"), "a\\u{1b}[2Jé");
    }
}
