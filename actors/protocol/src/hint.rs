//! What a program needs to mend an edit that was refused.

use serde::Serialize;

/// The longest text of a hint, in characters; what is longer is cut.
pub const MAX_TEXT_CHARS: usize = 4096;
/// The most candidates of a hint.
pub const MAX_CANDIDATES: usize = 16;
/// The most hints of one verdict.
pub const MAX_HINTS: usize = 16;

/// One thing that keeps an edit from fitting. What does not apply is null.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Hint {
    /// The file, as the command names it.
    pub file: Option<String>,
    /// The op's number, from 1.
    pub op: Option<usize>,
    /// The hunk's number in its file's patch, from 1.
    pub hunk: Option<usize>,
    /// The line of the file that it is about, from 1.
    pub line: Option<usize>,
    /// The line as the command has it, without its newline; null where the command has no such line and should.
    pub sent: Option<String>,
    /// The line as the file has it, without its newline; null where the file has no such line.
    pub found: Option<String>,
    /// The lines at which it would fit, or did, from 1.
    pub candidates: Option<Vec<usize>>,
    /// The hunk's header as it would be right.
    pub header: Option<String>,
}

impl Hint {
    /// The same, about op `number`.
    #[must_use]
    pub fn of_op(mut self, number: usize) -> Self {
        self.op = Some(number);
        self
    }
}

/// Bytes of a line as a hint shows them: without the newline, at most [`MAX_TEXT_CHARS`] characters.
#[must_use]
pub fn text(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let head = line.get(..MAX_TEXT_CHARS * 4).unwrap_or(line);
    String::from_utf8_lossy(head).chars().take(MAX_TEXT_CHARS).collect()
}
