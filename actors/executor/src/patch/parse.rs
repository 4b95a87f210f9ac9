//! A whole diff: the files' patches between whatever else the text holds (a commit's message, `Index:` lines).

use protocol::hint::Hint;

use super::binary;
use super::envelope;
use super::header::{GitHeader, both, traditional};
use super::hunk::{self, first_line};
use super::{Body, Diff, FilePatch, PatchError, shown};

/// The most files of one diff.
pub const MAX_FILES: usize = 1_000;
/// The most hunks of one diff.
pub const MAX_HUNKS: usize = 20_000;

/// A diff as far as it could be read, and what stopped it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// What was read: also the header of the file whose hunks cannot be read.
    pub diff: Diff,
    /// What cannot be read; nothing after it was looked at.
    pub fault: Option<PatchError>,
}

/// Reads a diff, or what an [envelope] holds. It looks at nothing else, and judges no name and no mode.
#[must_use]
pub fn parse(mut text: Vec<u8>) -> Parsed {
    // A last newline is soon lost on the way; what may be cut short by that is refused.
    let is_cut = !text.is_empty() && !text.ends_with(b"\n");
    if is_cut {
        text.push(b'\n');
    }
    let mut files = Vec::new();
    let fault = match envelope::find(&text) {
        Some(begin) => envelope::read(&text, begin, &mut files).err(),
        None => read_all(&text, is_cut, &mut files).err(),
    };
    Parsed { diff: Diff { text, files }, fault }
}

/// Reads what stands in an [envelope], which must be there.
#[must_use]
pub fn parse_enveloped(mut text: Vec<u8>) -> Parsed {
    if !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    let mut files = Vec::new();
    let fault = match envelope::find(&text) {
        Some(begin) => envelope::read(&text, begin, &mut files).err(),
        None => Some(PatchError::syntax(1, envelope::MISSING)),
    };
    Parsed { diff: Diff { text, files }, fault }
}

fn read_all(text: &[u8], is_cut: bool, files: &mut Vec<FilePatch>) -> Result<(), PatchError> {
    let mut reader = Reader { text, at: 0, line: 1, begun: None, is_cut, is_adjacent: false, hunks: 0 };
    loop {
        match reader.next_file() {
            Ok(Some(file)) => {
                files.push(file);
                reader.is_adjacent = true;
            }
            Ok(None) => break,
            Err(fault) => {
                files.extend(reader.begun);
                return Err(fault);
            }
        }
        if files.len() > MAX_FILES {
            return Err(PatchError::TooMuch(format!("the diff has more than {MAX_FILES} files; send it in parts")));
        }
    }
    if files.is_empty() {
        return Err(
            reader.fault("the text ends and holds no diff of any file (--- a/path, +++ b/path, @@ -1,2 +3,4 @@)")
        );
    }
    Ok(())
}

/// A place in the text.
struct Reader<'t> {
    text: &'t [u8],
    at: usize,
    line: usize,
    /// The file whose body is being read, without it.
    begun: Option<FilePatch>,
    /// Whether the last line had no newline.
    is_cut: bool,
    /// Whether nothing but lines without a meaning, and no empty one, stand between the file before and here.
    is_adjacent: bool,
    /// Hunks so far.
    hunks: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> &'t [u8] {
        first_line(self.rest()).0
    }

    fn skip(&mut self, lines: usize) {
        for _ in 0..lines {
            let length = self.peek().len();
            self.at += length;
            self.line += usize::from(length > 0);
        }
    }

    fn fault(&self, what: impl Into<String>) -> PatchError {
        PatchError::syntax(self.line, what)
    }

    /// Whether what comes next is the end of a text whose last line may have been cut short.
    fn is_cut_here(&self) -> bool {
        self.is_cut && self.rest().is_empty()
    }

    /// The next file's patch; `None` where there is no more.
    fn next_file(&mut self) -> Result<Option<FilePatch>, PatchError> {
        self.begun = None;
        loop {
            let (line, tail) = first_line(self.rest());
            if line.is_empty() {
                return Ok(None);
            }
            if hunk::header(line).is_some() {
                return Err(self.fault("a hunk without a file: no --- and +++ lines right before it"));
            }
            if line.starts_with(b"@@@ ") {
                return Err(
                    self.fault("a combined diff of several parents cannot be applied; send the diff to one of them")
                );
            }
            if let Some(names) = line.strip_prefix(b"diff --git ") {
                return self.git(names).map(Some);
            }
            if let (Some(old), Some(new)) = (line.strip_prefix(b"--- "), first_line(tail).0.strip_prefix(b"+++ ")) {
                return self.plain(old, new).map(Some);
            }
            if line == b"GIT binary patch\n" || is_binary_notice(line) {
                return Err(self.fault("a binary diff without a git header right before it"));
            }
            self.skip(1);
            if line.trim_ascii().is_empty() || line.starts_with(b"```") || line == b"-- \n" {
                self.is_adjacent = false;
            }
            // What a header, or another file's patch, may have begun with.
            let text = line.trim_ascii_end();
            let may_begin = [&b"diff --git "[..], b"--- ", b"Index: "];
            let is_begun = may_begin.iter().any(|word| word.starts_with(text) || text.starts_with(word));
            if self.is_cut_here() && !text.is_empty() && (self.is_adjacent || is_begun) {
                return Err(self.fault(CUT));
            }
        }
    }

    fn git(&mut self, names: &[u8]) -> Result<FilePatch, PatchError> {
        let mut header = GitHeader::new(names, self.line);
        self.skip(1);
        let start = self.line;
        while self.peek().ends_with(b"\n") {
            if !header.take(self.peek()).map_err(|what| self.fault(what))? {
                break;
            }
            self.skip(1);
        }
        if self.line == start {
            return Err(self.fault("the header before this line says nothing of what happens to its file"));
        }
        if self.is_cut_here() {
            return Err(self.fault(CUT));
        }
        let (mut patch, promises) = header.finish().map_err(|what| self.fault(what))?;
        self.begun = Some(patch.clone());
        self.hunks(&mut patch)?;
        if !patch.hunks().is_empty() {
            return Ok(patch);
        }
        if self.peek() == b"GIT binary patch\n" {
            self.skip(1);
            let (literals, lines) = binary::read(self.rest()).map_err(|what| self.fault(what))?;
            self.skip(lines);
            patch.body = Body::Binary(Some(literals));
        } else if is_binary_notice(self.peek()) {
            self.skip(1);
            patch.body = Body::Binary(None);
        }
        let is_nothing = !patch.edits() && !patch.renames && !patch.copies && !patch.deletes;
        let lacks_body = promises && patch.body == Body::Text(Vec::new());
        if lacks_body {
            let what =
                format!("the header of {} says that its content changes: a hunk must follow here", patch.label());
            return Err(self.fault(what));
        }
        if is_nothing && patch.creates != Some(true) {
            return Err(self.fault(format!("the patch of {} changes nothing: a hunk must follow here", patch.label())));
        }
        Ok(patch)
    }

    fn plain(&mut self, old: &[u8], new: &[u8]) -> Result<FilePatch, PatchError> {
        let mut patch = traditional(old, new, self.line).map_err(|what| {
            self.begun = Some(both(old, new, self.line));
            self.fault(what)
        })?;
        self.begun = Some(patch.clone());
        self.skip(2);
        if !hunk::is_header(self.peek()) {
            return Err(self.fault(format!(
                "a hunk header of the form \"@@ -1,2 +3,4 @@\" must follow the --- and +++ lines of {}",
                patch.label()
            )));
        }
        self.hunks(&mut patch)?;
        if patch.creates.is_none() && (patch.hunks().len() > 1 || patch.hunks().iter().any(|hunk| hunk.old_lines > 0)) {
            patch.creates = Some(false);
        }
        Ok(patch)
    }

    fn hunks(&mut self, patch: &mut FilePatch) -> Result<(), PatchError> {
        let mut hunks = Vec::new();
        let mut grown = 0;
        while hunk::is_header(self.peek()) {
            let mut hunk = self.hunk(patch, hunks.len() + 1)?;
            hunk.grown = grown;
            grown = grown.saturating_add_unsigned(hunk.new_lines).saturating_sub_unsigned(hunk.old_lines);
            hunks.push(hunk);
            self.hunks += 1;
            if self.hunks > MAX_HUNKS {
                return Err(PatchError::TooMuch(format!("the diff has more than {MAX_HUNKS} hunks; send it in parts")));
            }
        }
        patch.body = Body::Text(hunks);
        Ok(())
    }

    fn hunk(&mut self, patch: &FilePatch, number: usize) -> Result<hunk::Hunk, PatchError> {
        let header_line = self.peek();
        let fault = |line: usize, what: String, right: Option<String>| {
            let end = hunk::header(header_line).map_or(header_line.len(), |(.., end)| end);
            let header = header_line.get(..end).unwrap_or_default();
            let header =
                if end == header_line.len() { shown(header) } else { String::from_utf8_lossy(header).into_owned() };
            // The one that was sent is no remedy.
            let right = right.filter(|right| *right != header);
            let remedy = right.as_ref().map_or_else(String::new, |right| format!("; its lines make it {right}"));
            PatchError::Hunk {
                file: patch.label(),
                number,
                header,
                what: format!("line {line} of the diff: {what}{remedy}"),
                hints: vec![Hint { file: Some(patch.label()), hunk: Some(number), header: right, ..Hint::default() }],
            }
        };
        let read = hunk::read(self.text, self.at).map_err(|it| fault(self.line + it.lines, it.what, it.header))?;
        let hunk = read.hunk;
        if patch.creates == Some(true) && hunk.old_lines > 0 {
            let what = "the file is made by this diff, so that no old line can be there";
            return Err(fault(self.line, what.to_owned(), None));
        }
        if patch.deletes && hunk.new_lines > 0 {
            let what = "the file is deleted by this diff, so that no line can remain";
            return Err(fault(self.line, what.to_owned(), None));
        }
        // Lines that nothing but the text's end told the end of, and which may go on.
        let is_open = !read.is_counted && hunk.body.end == self.text.len();
        self.skip(read.lines);
        if self.is_cut_here() && is_open && !read.ends_in_context {
            return Err(fault(self.line, CUT.to_owned(), hunk.right_header()));
        }
        Ok(hunk)
    }
}

/// Said of a text whose last line may lack its end.
const CUT: &str = "the diff ends without a newline; it may have been cut short";

/// `Binary files a/x and b/x differ`, as git and GNU diff say it.
fn is_binary_notice(line: &[u8]) -> bool {
    (line.starts_with(b"Binary files ") || line.starts_with(b"Files ")) && line.ends_with(b" differ\n")
}
