//! The format in which some models write edits: files between `*** Begin Patch` and `*** End Patch`, hunks without
//! numbers.
//!
//! ```text
//! *** Begin Patch
//! *** Update File: src/a.py
//! *** Move to: src/b.py
//! @@ class A:
//! @@     def f(self):
//!      x = 1
//! -    y = 2
//! +    y = 3
//! *** End of File
//! *** Add File: notes.txt
//! +one line
//! *** Delete File: old.txt
//! *** End Patch
//! ```
//!
//! A hunk fits where all of its old lines stand, letter for letter, and must fit at one place alone. `@@` quotes a line
//! above it, without the white space at its ends, that is there once behind the one quoted before; the hunk lies behind
//! it. `*** End of File` ties it to the end, and lines without any context can only be added there.

use super::header::blank;
use super::hunk::{self, Hunk, first_line};
use super::{Body, FilePatch, Name, PatchError, shown};

/// Said where there is no envelope.
pub(super) const MISSING: &str =
    "the text has no line \"*** Begin Patch\"; a unified diff goes into applyDiff instead of applyPatch";

const BEGIN: &[u8] = b"*** Begin Patch";
const END: &[u8] = b"*** End Patch";
const END_OF_FILE: &[u8] = b"*** End of File";

/// Where an envelope begins: the first line that is one's, before anything that a unified diff has.
pub(super) fn find(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if line.trim_ascii() == BEGIN {
            return Some(at);
        }
        if line.starts_with(b"diff --git ") || line.starts_with(b"--- ") || hunk::is_header(line) {
            return None;
        }
        at += line.len();
    }
    None
}

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
    line: usize,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> &'t [u8] {
        first_line(self.text.get(self.at..).unwrap_or_default()).0
    }

    fn skip(&mut self) {
        self.at += self.peek().len();
        self.line += 1;
    }

    fn fault(&self, what: impl Into<String>) -> PatchError {
        PatchError::syntax(self.line, what)
    }

    /// The rest of the line after `keyword`, which is then behind.
    fn take(&mut self, keyword: &str) -> Option<&'t [u8]> {
        let rest = self.peek().strip_prefix(keyword.as_bytes())?;
        self.skip();
        Some(rest.trim_ascii())
    }

    fn name(&self, rest: &[u8]) -> Result<Name, PatchError> {
        let mut name = rest;
        while let Some(rest) = name.strip_prefix(b"./") {
            name = rest;
        }
        if name.is_empty() { Err(self.fault("no name follows the colon")) } else { Ok(Name(name.to_vec())) }
    }
}

/// Reads the envelope that begins at `begin`.
pub(super) fn read(text: &[u8], begin: usize, files: &mut Vec<FilePatch>) -> Result<(), PatchError> {
    let before = memchr::memchr_iter(b'\n', text.get(..begin).unwrap_or_default()).count();
    let mut reader = Reader { text, at: begin, line: before + 1 };
    reader.skip();
    let mut hunks = 0;
    loop {
        let line = reader.peek();
        if line.is_empty() {
            return Err(reader.fault("the text ends before \"*** End Patch\"; it may have been cut short"));
        }
        if line.trim_ascii() == END {
            reader.skip();
            break;
        }
        if line.trim_ascii().is_empty() {
            reader.skip();
            continue;
        }
        let file = file(&mut reader)?;
        hunks += file.hunks().len();
        files.push(file);
        if files.len() > super::parse::MAX_FILES || hunks > super::parse::MAX_HUNKS {
            let what = "the patch has more files or hunks than one may; send it in parts";
            return Err(PatchError::TooMuch(what.to_owned()));
        }
    }
    if files.is_empty() {
        return Err(reader.fault("the patch names no file"));
    }
    let rest = reader.text.get(reader.at..).unwrap_or_default();
    if memchr::memmem::find(rest, BEGIN).is_some() {
        return Err(reader.fault("a second patch begins after \"*** End Patch\"; send one"));
    }
    Ok(())
}

fn file(reader: &mut Reader<'_>) -> Result<FilePatch, PatchError> {
    let line = reader.line;
    if let Some(name) = reader.take("*** Add File: ") {
        let name = reader.name(name)?;
        return added(reader, FilePatch { new: Some(name), creates: Some(true), ..blank(line) });
    }
    if let Some(name) = reader.take("*** Delete File: ") {
        let name = reader.name(name)?;
        return Ok(FilePatch { old: Some(name), creates: Some(false), deletes: true, takes_all: true, ..blank(line) });
    }
    if let Some(name) = reader.take("*** Update File: ") {
        let name = reader.name(name)?;
        let patch = FilePatch { old: Some(name.clone()), new: Some(name), creates: Some(false), ..blank(line) };
        return updated(reader, patch);
    }
    Err(reader.fault(format!(
        "{} begins no file: \"*** Add File: path\", \"*** Update File: path\" or \"*** Delete File: path\" must stand here",
        shown(reader.peek())
    )))
}

fn is_mark(line: &[u8]) -> bool {
    line.starts_with(b"*** ")
}

fn added(reader: &mut Reader<'_>, mut patch: FilePatch) -> Result<FilePatch, PatchError> {
    let start = reader.at;
    while reader.peek().starts_with(b"+") {
        reader.skip();
    }
    let line = reader.peek();
    if !line.is_empty() && !is_mark(line) && !line.trim_ascii().is_empty() {
        return Err(reader.fault(format!(
            "{} is no line of the new file {}: each begins with '+'",
            shown(line),
            patch.label()
        )));
    }
    let hunk = Hunk::new(reader.text, start..start, start..reader.at);
    patch.body = Body::Text(if hunk.changes() { vec![hunk] } else { Vec::new() });
    Ok(patch)
}

fn updated(reader: &mut Reader<'_>, mut patch: FilePatch) -> Result<FilePatch, PatchError> {
    if let Some(name) = reader.take("*** Move to: ") {
        let name = reader.name(name)?;
        patch.renames = patch.old.as_ref() != Some(&name);
        patch.new = Some(name);
    }
    let mut hunks: Vec<Hunk> = Vec::new();
    loop {
        let line = reader.peek();
        if line.is_empty() || is_mark(line) && line.trim_ascii() != END_OF_FILE {
            break;
        }
        if line.trim_ascii().is_empty() && !goes_on(reader) {
            reader.skip();
            continue;
        }
        hunks.push(chunk(reader, &patch, hunks.len() + 1)?);
    }
    if hunks.is_empty() && !patch.renames {
        return Err(reader.fault(format!("the patch of {} changes nothing: lines must follow here", patch.label())));
    }
    patch.body = Body::Text(hunks);
    Ok(patch)
}

/// Whether more lines of the hunk follow after empty ones.
fn goes_on(reader: &Reader<'_>) -> bool {
    let rest = reader.text.get(reader.at..).unwrap_or_default();
    let next = rest.split_inclusive(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty());
    next.is_some_and(|line| matches!(line.first(), Some(b' ' | b'+' | b'-')))
}

/// One hunk: the lines that it quotes, its lines, and whether it ends the file.
fn chunk(reader: &mut Reader<'_>, patch: &FilePatch, number: usize) -> Result<Hunk, PatchError> {
    let (start, first) = (reader.at, reader.line);
    let mut scopes = Vec::new();
    while hunk::is_header(reader.peek()) {
        let line = reader.peek();
        // The numbers of a unified diff are no line of the file.
        if hunk::header(line).is_none()
            && let Some(range) = hunk::scope(line)
        {
            scopes.push(reader.at + range.start..reader.at + range.end);
        }
        reader.skip();
    }
    let header = start..reader.at.saturating_sub(usize::from(reader.at > start));
    let body = reader.at;
    let mut end = body;
    loop {
        let line = reader.peek();
        let is_line = matches!(line.first(), Some(b' ' | b'+' | b'-')) || line == b"\n" && goes_on(reader);
        if !is_line {
            break;
        }
        reader.skip();
        end = reader.at;
    }
    let mut hunk = Hunk::new(reader.text, header.clone(), body..end);
    (hunk.scopes, hunk.is_scoped) = (scopes, true);
    let line = reader.peek();
    if line.trim_ascii() == END_OF_FILE {
        hunk.at_end = true;
        reader.skip();
    } else if !line.is_empty() && !is_mark(line) && !hunk::is_header(line) && !line.trim_ascii().is_empty() {
        return Err(reader.fault(format!("{} is no line of a hunk: each begins with ' ', '-' or '+'", shown(line))));
    }
    if !hunk.changes() {
        let what = format!("hunk {number} of {} changes nothing", patch.label());
        return Err(PatchError::syntax(first, what));
    }
    Ok(hunk)
}
