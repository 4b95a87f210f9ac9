//! The hunks of one file, applied to its content.

use protocol::git_id::{GitId, ObjectFormat};

use super::binary::Literals;
use super::explain::{Trouble, explain};
pub use super::place::MAX_SEARCH_BYTES;
use super::place::{NoPlace, Search, Wanted, edits};
use super::{Body, FilePatch, Hunk, PatchError};

/// Applies `patch`, whose ranges are into `text`, to `before`. `budget` is how many bytes may be compared in search of
/// places, at first [`MAX_SEARCH_BYTES`] for a whole diff; what is spent is taken off. Where `is_trusted`, hunks stand where
/// their headers say.
///
/// # Errors
/// [`PatchError::Hunk`] for the first hunk that has no place; [`PatchError::TooMuch`] where the budget is spent.
pub fn apply(
    text: &[u8],
    patch: &FilePatch,
    before: &[u8],
    budget: &mut usize,
    is_trusted: bool,
) -> Result<Vec<u8>, PatchError> {
    let hunks = patch.hunks();
    let crlf = has_crlf(before) && hunks.iter().all(|hunk| lacks_cr(text, hunk));
    let wanted: Vec<Wanted<'_>> = hunks.iter().map(|hunk| want(text, hunk, crlf, is_trusted)).collect();
    let trouble = |(number, no_place): (usize, NoPlace), search: Option<&Search<'_, '_>>| {
        explain(&Trouble { text, patch, wanted: &wanted, before, search }, number, no_place)
    };
    let search = Search::new(before, &wanted, *budget).map_err(|error| trouble(error, None))?;
    let placed = search.places();
    *budget = search.budget();
    let places = placed.map_err(|error| trouble(error, Some(&search)))?;
    let edits = edits(text, &wanted, &places, crlf).map_err(|error| trouble(error, Some(&search)))?;
    let mut after = Vec::with_capacity(before.len() + wanted.iter().map(|wanted| wanted.new.len()).sum::<usize>());
    let mut at = 0;
    for edit in edits {
        after.extend_from_slice(before.get(at..edit.at).unwrap_or_default());
        let new = wanted.get(edit.hunk).and_then(|wanted| wanted.new.get(edit.from..edit.to));
        after.extend_from_slice(new.unwrap_or_default());
        at = edit.end;
    }
    after.extend_from_slice(before.get(at..).unwrap_or_default());
    Ok(after)
}

fn want<'h>(text: &'h [u8], hunk: &'h Hunk, crlf: bool, is_trusted: bool) -> Wanted<'h> {
    let convert = |lines: Vec<u8>| if crlf { with_crlf(&lines) } else { lines };
    let scopes = hunk.scopes.iter().filter_map(|range| text.get(range.clone())).collect();
    let is_trusted = is_trusted && hunk.stated.is_some();
    Wanted { hunk, old: convert(hunk.before(text)), new: convert(hunk.after(text)), is_trusted, scopes }
}

/// Whether all lines of a file end in CR LF, and there is one.
fn has_crlf(content: &[u8]) -> bool {
    let mut newlines = memchr::memchr_iter(b'\n', content).peekable();
    newlines.peek().is_some()
        && newlines.all(|at| at.checked_sub(1).and_then(|before| content.get(before)) == Some(&b'\r'))
}

fn lacks_cr(text: &[u8], hunk: &Hunk) -> bool {
    memchr::memchr(b'\r', text.get(hunk.body.clone()).unwrap_or_default()).is_none()
}

fn with_crlf(lines: &[u8]) -> Vec<u8> {
    let mut converted = Vec::with_capacity(lines.len() + lines.len() / 16);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(text) => {
                converted.extend_from_slice(text);
                converted.extend_from_slice(b"\r\n");
            }
            None => converted.extend_from_slice(line),
        }
    }
    converted
}

/// Applies `patch` to exactly the content that the blob ids of its `index` line name, binary or not, and sees that
/// what comes of it is named there too. Without an `index` line the content must stay as it is.
///
/// # Errors
/// [`PatchError::File`] where an id is not the content's or not given in full, or a binary patch is no literal; and as
/// [`apply`].
pub fn apply_exactly(text: &[u8], patch: &FilePatch, before: &[u8]) -> Result<Vec<u8>, PatchError> {
    let fault = |what: String| PatchError::file(&patch.label(), what);
    let Some((old, new)) = &patch.ids else {
        if patch.hunks().is_empty() && matches!(patch.body, Body::Text(_)) {
            return Ok(before.to_vec());
        }
        return Err(fault(
            "there is no index line, so that nobody can say whether the file is the right one".to_owned(),
        ));
    };
    let holds = |id: &str, is_none: bool, content: &[u8]| match is_none {
        true => content.is_empty() && !id.is_empty() && id.bytes().all(|byte| byte == b'0'),
        false => GitId::from_hex(id).is_some_and(|id| id.names(content)),
    };
    let found = |id: &str, content: &[u8]| {
        GitId::of_blob(GitId::from_hex(id).map_or(ObjectFormat::default(), |id| id.format()), content)
    };
    if !holds(old, patch.old.is_none(), before) {
        return Err(fault(format!(
            "the file is not the one that the diff was made from, {old}, but {}",
            found(old, before)
        )));
    }
    let after = match &patch.body {
        Body::Text(_) => apply(text, patch, before, &mut { MAX_SEARCH_BYTES }, true)?,
        Body::Binary(Some(Literals { after: Some(literal), .. })) => literal.inflate().map_err(fault)?,
        Body::Binary(_) => {
            return Err(fault("the binary patch does not hold the file's bytes as a literal".to_owned()));
        }
    };
    if !holds(new, patch.new.is_none(), &after) {
        return Err(fault(format!(
            "the diff does not lead to the file that it names, {new}, but to {}",
            found(new, &after)
        )));
    }
    Ok(after)
}

/// A hunk's header as it was sent.
pub(super) fn header(text: &[u8], hunk: &Hunk) -> String {
    let header = text.get(hunk.header.clone()).unwrap_or_default();
    if header.is_empty() { "no @@ line".to_owned() } else { String::from_utf8_lossy(header).into_owned() }
}
