//! The hunks of one file, applied to its content.

use protocol::git_id::{GitId, ObjectFormat};

use super::binary::Literals;
pub use super::place::MAX_SEARCH_BYTES;
use super::place::{NoPlace, Place, Walk};
use super::{Body, FilePatch, Hunk, PatchError, hunk::Side, hunk::first_line, shown};

/// Applies `patch`, whose ranges are into `text`, to `before`. `budget` is how many bytes may be looked at in search of
/// hunks that have shifted, at first [`MAX_SEARCH_BYTES`] for a whole diff; what is spent is taken off.
///
/// # Errors
/// [`PatchError::Hunk`] for the first hunk that does not fit, with the first line that differs.
pub fn apply(text: &[u8], patch: &FilePatch, before: &[u8], budget: &mut usize) -> Result<Vec<u8>, PatchError> {
    let hunks = patch.hunks();
    let mut after = Vec::with_capacity(before.len());
    let mut walk = Walk::new(before, budget);
    for (number, hunk) in hunks.iter().enumerate() {
        let (from, needle) = (walk.cursor(), hunk.before(text));
        let place = walk.step(hunk, &needle).map_err(|no_place| PatchError::Hunk {
            file: patch.label(),
            number: number + 1,
            header: header(text, hunk),
            what: explain(no_place, text, hunk, before, from),
        })?;
        after.extend_from_slice(before.get(from.offset..place.offset).unwrap_or_default());
        hunk.lines(text).filter(|(side, _)| *side != Side::Old).for_each(|(_, line)| after.extend_from_slice(line));
    }
    after.extend_from_slice(before.get(walk.cursor().offset..).unwrap_or_default());
    Ok(after)
}

/// Applies `patch` to exactly the content that the blob ids of its `index` line name, binary or not, and sees that
/// what comes of it is named there too. Without an `index` line the content must stay as it is.
///
/// # Errors
/// [`PatchError::File`] where an id is not the content's or not given in full, or a binary patch is no literal; and as
/// [`apply`].
pub fn apply_exactly(text: &[u8], patch: &FilePatch, before: &[u8]) -> Result<Vec<u8>, PatchError> {
    let fault = |what: String| PatchError::File { file: patch.label(), what };
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
        Body::Text(_) => apply(text, patch, before, &mut { MAX_SEARCH_BYTES })?,
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

/// The hunk's header as it was sent.
fn header(text: &[u8], hunk: &Hunk) -> String {
    String::from_utf8_lossy(text.get(hunk.header.clone()).unwrap_or_default()).into_owned()
}

fn explain(no_place: NoPlace, text: &[u8], hunk: &Hunk, before: &[u8], cursor: Place) -> String {
    match no_place {
        NoPlace::Nowhere(Some(place)) => difference(text, hunk, before, place),
        NoPlace::NotAtEnd(Some(place)) => match first_difference(text, hunk, before, place) {
            Ok(what) => what,
            Err(end) => format!(
                "no context follows its change, so it must end with the file, but line {} is {}",
                end.line + 1,
                shown(first_line(before.get(end.offset..).unwrap_or_default()).0)
            ),
        },
        NoPlace::Nowhere(None) | NoPlace::NotAtEnd(None) => out_of_reach(text, hunk, before, cursor),
        NoPlace::Ambiguous(one, other) => format!(
            "its lines are not where it says, and fit at line {} as well as at line {}; give it the right line number or \
             more context",
            one + 1,
            other + 1
        ),
        NoPlace::BeginTaken => "it starts at line 1, so it must be the first hunk of its file".to_owned(),
        NoPlace::NoContext => {
            "it adds lines without context elsewhere than at the file's end; make the diff with context lines"
                .to_owned()
        }
        NoPlace::OpenEnd => "it adds lines after the file's last line, which has no newline at its end".to_owned(),
        NoPlace::TooFar => format!(
            "too many hunks have shifted: more than {MAX_SEARCH_BYTES} bytes would have to be searched; make the diff \
             against the file as it is"
        ),
    }
}

/// The stated place is before the end of the hunk before, or behind the file's end.
fn out_of_reach(text: &[u8], hunk: &Hunk, before: &[u8], cursor: Place) -> String {
    let wanted = hunk.lines(text).find(|(side, _)| *side != Side::New).map(|(_, line)| shown(line));
    let wanted = wanted.unwrap_or_else(|| "(nothing)".to_owned());
    let rest = before.get(cursor.offset..).unwrap_or_default();
    let lines = cursor.line + rest.split_inclusive(|byte| *byte == b'\n').count();
    if usize::try_from(hunk.old_start).is_ok_and(|start| start <= cursor.line) {
        format!(
            "line {} should be {wanted} but belongs to the hunk before, which ends at line {}",
            hunk.old_start, cursor.line
        )
    } else {
        format!("line {} should be {wanted} but the file ends after line {lines}", hunk.old_start)
    }
}

fn difference(text: &[u8], hunk: &Hunk, before: &[u8], place: Place) -> String {
    first_difference(text, hunk, before, place)
        .unwrap_or_else(|_| "its lines fit only where another hunk is".to_owned())
}

/// The first old line of `hunk` that is not in the file when the hunk begins at `place`; else where the hunk ends.
fn first_difference(text: &[u8], hunk: &Hunk, before: &[u8], place: Place) -> Result<String, Place> {
    let (mut at, mut line) = (place.offset, place.line);
    for (_, wanted) in hunk.lines(text).filter(|(side, _)| *side != Side::New) {
        let (found, _) = first_line(before.get(at..).unwrap_or_default());
        if found != wanted {
            return Ok(describe(line + 1, wanted, found));
        }
        (at, line) = (at + found.len(), line + 1);
    }
    Err(Place { offset: at, line })
}

fn describe(line: usize, wanted: &[u8], found: &[u8]) -> String {
    let ending = |bytes: &[u8]| match bytes {
        [.., b'\r', b'\n'] => "CR LF",
        [.., b'\n'] => "LF",
        _ => "no newline",
    };
    let bare = |bytes: &[u8]| -> Vec<u8> {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        bytes.strip_suffix(b"\r").unwrap_or(bytes).to_vec()
    };
    if found.is_empty() {
        return format!("line {line} should be {} but the file ends before it", shown(wanted));
    }
    if bare(wanted) == bare(found) {
        return format!(
            "line {line} should be {} with {} at its end but has {}",
            shown(&bare(wanted)),
            ending(wanted),
            ending(found)
        );
    }
    let (wanted, found) = from_the_difference(wanted, found);
    format!("line {line} should be {wanted} but is {found}")
}

/// Both lines as a detail shows them. Where they are so long that the difference would be cut off, what they have in
/// common is left out in front.
fn from_the_difference(wanted: &[u8], found: &[u8]) -> (String, String) {
    let same = wanted.iter().zip(found).take_while(|(a, b)| a == b).count();
    if same < super::MAX_SHOWN_CHARS / 2 {
        return (shown(wanted), shown(found));
    }
    // Some of what is common shows where the difference is; a character is not cut in two.
    let mut start = same - super::MAX_SHOWN_CHARS / 4;
    while start > 0 && wanted.get(start).is_some_and(|byte| byte & 0xc0 == 0x80) {
        start -= 1;
    }
    let tail = |bytes: &[u8]| format!("…{}", shown(bytes.get(start..).unwrap_or_default()));
    (tail(wanted), tail(found))
}
