//! A Markdown table with aligned columns, readable in a terminal and on a page.

use std::fmt;

pub struct Table {
    /// The first line is the head.
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

/// Returns a cell, or an empty one if the line is shorter than the head.
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
                // Aligns names left and numbers right.
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
