//! Unified diffs, git's and plain ones: read as `git apply` reads them, and applied whole or not at all.
//!
//! Everything here is pure: bytes and a way to look at files in, images out. [`parse`] finds the files of a diff,
//! [`apply`] puts one file's hunks in place, [`files`] lets the files of one diff take effect together, [`reverse`]
//! turns a file's patch around.
//!
//! Git decides what a diff means (creations and deletions, renames, modes, quoting), with these differences:
//! - A hunk goes in where exactly one place is right, whatever its numbers say, and nowhere else; `place` has the rules.
//!   Git takes the nearest of several places, looks on from a place that was changed already, and ties hunks
//!   without context on one side to the file's ends.
//! - Hunks may come in any order, and a file may be named more than once: all is held against the file as it was before
//!   the diff. Two hunks may share context; they may not change the same line.
//! - Counts that the lines do not bear out, or that are not there, are made up for only where the text says for certain
//!   where a hunk ends. What git silently leaves out is an error: lines beyond the counts, a header without anything
//!   to do, `---` and `+++` without a hunk.
//! - Of names, `a/` and `b/` (and what git writes with `diff.mnemonicPrefix`) go where they stand on their sides; any
//!   other name is taken as it is. Two sides that name two files need rename or copy lines.
//! - Fences around a diff and prose between its files are passed over.
//! - A diff without any CR fits a file whose lines all end in CR LF; what it adds ends so, too.
//!
//! The module is own code because no crate does this. `diffy` 0.5.2 (of which `flickzeug` is a fork) reads git's diffs,
//! but of 249 text diffs from the tests of `git apply`, it took 64 otherwise than git: it applies hunks to the nearest
//! place without tying them to the file's ends, reads other names, and knows no files that change places. Of a conflict it
//! says the hunk's number alone, and it moves all lines of a file for each hunk.

pub mod apply;
pub mod binary;
pub mod envelope;
mod explain;
pub mod files;
mod header;
pub mod hunk;
mod names;
pub mod near;
pub mod parse;
mod place;
pub mod reverse;

use std::fmt;

pub use hunk::Hunk;
use protocol::hint::Hint;

/// The most characters of a line that a detail shows.
pub const MAX_SHOWN_CHARS: usize = 120;

/// A file's name as a diff spells it, unquoted, without `a/` or `b/`. It is judged by nobody yet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Vec<u8>);

impl Name {
    /// The name; `None` where it is no UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// As it is where it is short and plain, else quoted and shortened.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_str() {
            Some(text) if text.chars().count() <= MAX_SHOWN_CHARS && format!("{text:?}").len() == text.len() + 2 => {
                f.write_str(text)
            }
            _ => f.write_str(&shown(&self.0)),
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

/// Bytes as a detail shows them: in quotes, escaped, without the newline at the end, at most [`MAX_SHOWN_CHARS`]
/// characters.
#[must_use]
pub fn shown(bytes: &[u8]) -> String {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    // A character has four bytes at most, so that a huge line is not decoded whole.
    let head = line.get(..MAX_SHOWN_CHARS.saturating_mul(4)).unwrap_or(line);
    let text = String::from_utf8_lossy(head);
    let short: String = text.chars().take(MAX_SHOWN_CHARS).collect();
    let is_cut = short.len() < text.len() || head.len() < line.len();
    // Debug escapes whatever is no visible character.
    if is_cut { format!("{short:?}…") } else { format!("{short:?}") }
}

/// What one file's patch carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Hunks, in order; none where only names or modes change, or an empty file comes or goes.
    Text(Vec<Hunk>),
    /// Bytes that are no text: the literals of a `GIT binary patch`, or nothing where the diff only says that they differ.
    Binary(Option<binary::Literals>),
}

/// The patch of one file. Ranges are into the text of the [`Diff`] that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePatch {
    /// The file that is changed; `None` for one that is made.
    pub old: Option<Name>,
    /// The file that comes of it; `None` for one that is deleted.
    pub new: Option<Name>,
    /// What the file is called if there is none of that name: both sides have git's prefix of one of them.
    pub otherwise: Option<Name>,
    /// Whether the file is made; `None` where a plain diff leaves it open, and the tree decides.
    pub creates: Option<bool>,
    /// Whether the file is deleted.
    pub deletes: bool,
    /// Whether a deletion takes all lines that there are; else the hunks name them.
    pub takes_all: bool,
    /// Whether it is a rename.
    pub renames: bool,
    /// Whether it is a copy.
    pub copies: bool,
    /// The mode before, where the diff says one.
    pub old_mode: Option<u32>,
    /// The mode after, where the diff says one.
    pub new_mode: Option<u32>,
    /// The blob ids of the `index` line, before and after, as they are written.
    pub ids: Option<(String, String)>,
    /// What changes.
    pub body: Body,
    /// The number of the header's first line in the diff, from 1.
    pub line: usize,
}

impl FilePatch {
    /// Every name that it may touch.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.old.iter().chain(&self.new).chain(&self.otherwise)
    }

    /// The same about the file that it is about if there is none of its first name.
    fn renamed_otherwise(&self) -> Self {
        Self { old: self.otherwise.clone(), new: self.otherwise.clone(), otherwise: None, ..self.clone() }
    }

    /// What details call it.
    #[must_use]
    pub fn label(&self) -> String {
        self.new.as_ref().or(self.old.as_ref()).map_or_else(|| "(no name)".to_owned(), Name::to_string)
    }

    /// The hunks; none of a binary one.
    #[must_use]
    pub fn hunks(&self) -> &[Hunk] {
        match &self.body {
            Body::Text(hunks) => hunks,
            Body::Binary(_) => &[],
        }
    }

    /// Whether it changes the file's content or mode, and not its name alone.
    #[must_use]
    pub fn edits(&self) -> bool {
        let mode = matches!((self.old_mode, self.new_mode), (Some(old), Some(new)) if old != new);
        mode || matches!(&self.body, Body::Binary(_)) || !self.hunks().is_empty()
    }
}

/// A diff that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// Its text.
    pub text: Vec<u8>,
    /// The patches of its files, in order.
    pub files: Vec<FilePatch>,
}

/// Why a diff cannot be read or applied. Displays as one sentence that names file, hunk and line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The text is no diff at this line.
    #[error("line {line} of the diff: {what}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// The patch of a file as a whole cannot be applied.
    #[error("{file}: {what}")]
    File {
        /// The file.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// A hunk is malformed or does not fit.
    #[error("{file} hunk {number} ({header}): {what}")]
    Hunk {
        /// The file.
        file: String,
        /// The hunk's number in its file's patch, from 1.
        number: usize,
        /// The `@@` line, without what follows the ranges.
        header: String,
        /// What is wrong.
        what: String,
        /// The same for a program.
        hints: Vec<Hint>,
    },
    /// It asks for more work than one diff may.
    #[error("{0}")]
    TooMuch(String),
}

impl PatchError {
    pub(crate) fn syntax(line: usize, what: impl Into<String>) -> Self {
        Self::Syntax { line, what: what.into() }
    }

    pub(crate) fn file(file: &str, what: impl Into<String>) -> Self {
        Self::File { file: file.to_owned(), what: what.into() }
    }

    /// What a program can act on.
    #[must_use]
    pub fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Syntax { .. } | Self::TooMuch(_) => Vec::new(),
            Self::File { file, .. } => vec![Hint { file: Some(file.clone()), ..Hint::default() }],
            Self::Hunk { hints, .. } => hints.clone(),
        }
    }
}
