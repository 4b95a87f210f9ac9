//! A whole diff: the files' patches between whatever else the text holds (a commit's message, `Index:` lines).

use super::binary;
use super::header::{GitHeader, traditional};
use super::hunk::{self, first_line};
use super::{Body, Diff, FilePatch, PatchError, shown};

/// A diff as far as it could be read, and what stopped it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// What was read: also the header of the file whose hunks cannot be read.
    pub diff: Diff,
    /// What cannot be read; nothing after it was looked at.
    pub fault: Option<PatchError>,
}

/// Reads a diff. It looks at nothing else, and judges no name and no mode.
#[must_use]
pub fn parse(text: Vec<u8>) -> Parsed {
    let mut files = Vec::new();
    let fault = read_all(&text, &mut files).err();
    Parsed { diff: Diff { text, files }, fault }
}

fn read_all(text: &[u8], files: &mut Vec<FilePatch>) -> Result<(), PatchError> {
    let mut reader = Reader { text, at: 0, line: 1, begun: None };
    loop {
        match reader.next_file() {
            Ok(Some(file)) => files.push(file),
            Ok(None) => break,
            Err(fault) => {
                files.extend(reader.begun);
                return Err(fault);
            }
        }
    }
    if !text.is_empty() && !text.ends_with(b"\n") {
        return Err(reader.fault("the diff ends without a newline; it may have been cut short"));
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
        PatchError::Syntax { line: self.line, what: what.into() }
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
        let mut patch = traditional(old, new, self.line).map_err(|what| self.fault(what))?;
        self.begun = Some(patch.clone());
        self.skip(2);
        if !self.peek().starts_with(b"@@ -") {
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
        while self.peek().starts_with(b"@@ -") {
            let label = patch.label();
            let header_line = self.peek();
            let fault = |line: usize, what: String| {
                let end = hunk::header(header_line).map_or(header_line.len(), |(.., end)| end);
                let header = header_line.get(..end).unwrap_or_default();
                let header =
                    if end == header_line.len() { shown(header) } else { String::from_utf8_lossy(header).into_owned() };
                let what = format!("line {line} of the diff: {what}");
                PatchError::Hunk { file: label.clone(), number: hunks.len() + 1, header, what }
            };
            let (hunk, lines) = hunk::read(self.text, self.at).map_err(|it| fault(self.line + it.lines, it.what))?;
            if patch.creates == Some(true) && hunk.old_lines > 0 {
                return Err(fault(self.line, "the file is made by this diff, so that no old line can be there".into()));
            }
            if patch.deletes && hunk.new_lines > 0 {
                return Err(fault(self.line, "the file is deleted by this diff, so that no line can remain".into()));
            }
            self.skip(lines);
            if let Some(what) = self.surplus() {
                return Err(fault(self.line, what.to_owned()));
            }
            hunks.push(hunk);
        }
        patch.body = Body::Text(hunks);
        Ok(())
    }

    /// Why the lines after a hunk look like more of it. Git would leave them out without a word.
    fn surplus(&self) -> Option<&'static str> {
        let next = self.peek();
        let mut rest = self.rest();
        while let Some(tail) = rest.strip_prefix(b"\n") {
            rest = tail;
        }
        let (line, tail) = first_line(rest);
        let is_header = line.starts_with(b"--- ") && first_line(tail).0.starts_with(b"+++ ");
        // A mail's signature, or a separator.
        let is_rule = matches!(line, b"-- \n" | b"--\n" | b"---\n");
        let is_more = match line.first() {
            Some(b'+' | b'-') => !is_header && !is_rule,
            Some(b' ' | b'\\') => line.len() == next.len() && rest.len() == self.rest().len(),
            _ => false,
        };
        is_more.then_some("follows the hunk's last line by the count of its @@ line, but looks like more of the hunk")
    }
}

/// `Binary files a/x and b/x differ`, as git and GNU diff say it.
fn is_binary_notice(line: &[u8]) -> bool {
    (line.starts_with(b"Binary files ") || line.starts_with(b"Files ")) && line.ends_with(b" differ\n")
}
