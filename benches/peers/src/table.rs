//! A table in Markdown, so that it can be read on a screen and put into a page as it is.

use std::fmt;

pub struct Table {
    /// The first is the head.
    lines: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: Vec<String>) -> Self {
        Self { lines: vec![head] }
    }

    pub fn push(&mut self, line: Vec<String>) {
        self.lines.push(line);
    }
}

/// A line may be shorter than the head.
fn cell(line: &[String], column: usize) -> &str {
    line.get(column).map_or("", String::as_str)
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<usize> = (0..self.lines[0].len())
            .map(|column| self.lines.iter().map(|line| cell(line, column).chars().count()).max().unwrap_or(0))
            .collect();
        for (index, line) in self.lines.iter().enumerate() {
            for (column, &width) in widths.iter().enumerate() {
                let cell = cell(line, column);
                // Names to the left, numbers to the right.
                if column == 0 { write!(f, "| {cell:<width$} ")? } else { write!(f, "| {cell:>width$} ")? }
            }
            writeln!(f, "|")?;
            if index == 0 {
                for (column, &width) in widths.iter().enumerate() {
                    let rule = "-".repeat(width);
                    if column == 0 { write!(f, "|-{rule}-")? } else { write!(f, "|-{rule}:")? }
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}
