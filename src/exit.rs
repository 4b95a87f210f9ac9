//! How the program ends: the exit statuses of the contract, and the one line that goes with each failure.
//!
//! Every failure that reaches `main` is a [`Failure`]; nothing else prints to stderr on the way out. It never holds a
//! secret.

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

/// The exit statuses (contract section 1; the numbers are those of `sysexits.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The command did its work and the answer is no: the smoke test or the demonstration did not come out well.
    Failed = 1,
    /// The command line is wrong.
    Usage = 64,
    /// A bug, or a spent restart budget.
    Bug = 70,
    /// Another instance holds the lock.
    Busy = 75,
    /// The configuration or the surroundings are wrong.
    Config = 78,
}

/// Why the program ends without having done what was asked. Displays as one line that names the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit status.
    pub status: Status,
    line: String,
}

impl Failure {
    /// A failure that ends with `status`; `line` says what is wrong and what to do.
    pub fn new(status: Status, line: impl fmt::Display) -> Self {
        Self { status, line: one_line(&line.to_string()) }
    }

    /// The configuration or the surroundings are wrong: status 78.
    pub fn config(line: impl fmt::Display) -> Self {
        Self::new(Status::Config, line)
    }

    /// The command line is wrong: status 64.
    pub fn usage(line: impl fmt::Display) -> Self {
        Self::new(Status::Usage, line)
    }

    /// The answer is no: status 1.
    pub fn failed(line: impl fmt::Display) -> Self {
        Self::new(Status::Failed, line)
    }

    /// Something that cannot happen did: status 70.
    pub fn bug(line: impl fmt::Display) -> Self {
        Self::new(Status::Bug, line)
    }

    /// Prints the line to stderr and gives the process's exit code.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        // Where stderr is gone there is nobody left to tell.
        let _ = writeln!(std::io::stderr(), "{self}");
        ExitCode::from(self.status as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ghost-bridge: {}", self.line)
    }
}

impl std::error::Error for Failure {}

/// `text` with line breaks, runs of white space and control characters each turned into one space.
#[must_use]
pub fn one_line(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Prints `text` to stdout.
///
/// # Errors
/// When stdout cannot be written; a reader that went away early is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot write to stdout: {error}; make room or redirect it elsewhere")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_whatever_it_was_made_of() {
        let failure = Failure::config("a\n  b\t\u{1b}[31mc");
        assert_eq!(failure.to_string(), "ghost-bridge: a b [31mc");
        assert_eq!(failure.status as u8, 78);
    }
}
