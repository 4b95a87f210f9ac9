//! The one table that is printed.

use std::fmt;

/// One measurement.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub what: String,
    pub measured: String,
    pub peer: String,
    pub ratio: String,
    pub aim: String,
    /// Whether the aim is met; `None` where there is none, or the peer is missing.
    pub met: Option<bool>,
}

/// All of them; some of their figures are needed by later rows.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
    /// The bridge's, without history.
    pub throughput: Option<crate::throughput::Rates>,
    /// The baseline's.
    pub baseline: Option<f64>,
}

impl Table {
    /// Adds a row, and prints it at once: others may take long.
    pub fn add(&mut self, row: Row) {
        eprintln!("  {}: {} | {} | {}", row.what, row.measured, row.peer, row.ratio);
        self.rows.push(row);
    }
}

impl Row {
    fn cells(&self) -> [&str; 6] {
        let met = match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        [&self.what, &self.measured, &self.peer, &self.ratio, &self.aim, met]
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["what", "measured", "peer", "ratio", "aim", ""];
        let mut lines = vec![head, ["---"; 6]];
        lines.extend(self.rows.iter().map(Row::cells));
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        for line in lines {
            write!(f, "|")?;
            for (cell, width) in line.iter().zip(&widths) {
                write!(f, " {cell:width$} |")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
