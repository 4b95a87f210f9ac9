//! One hunk: its header, its lines, and whether the one tells the truth of the others.

use std::ops::Range;

/// The shortest line that says that the line before it has no newline: its wording depends on the maker's language.
const MIN_NO_NEWLINE_BYTES: usize = 12;

/// Which side of a hunk a line is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Both.
    Context,
    /// Before only.
    Old,
    /// After only.
    New,
}

/// A hunk that was read and found consistent. Ranges are into the diff's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hunk {
    /// The first line before, from 1; for an empty range, the line before it.
    pub old_start: u64,
    /// Lines before.
    pub old_lines: u64,
    /// The first line after, likewise.
    pub new_start: u64,
    /// Lines after.
    pub new_lines: u64,
    /// The header up to the second `@@`.
    pub header: Range<usize>,
    /// The lines, each with its sign.
    pub body: Range<usize>,
    /// Context lines before the first change.
    pub leading: u64,
    /// Context lines after the last change.
    pub trailing: u64,
    /// Whether it is read backwards: `+` is old, and `-` new.
    pub is_reversed: bool,
}

impl Hunk {
    /// Its lines: side, and content with its newline where it has one.
    pub fn lines<'t>(&self, text: &'t [u8]) -> impl Iterator<Item = (Side, &'t [u8])> + use<'t> {
        let mut rest = text.get(self.body.clone()).unwrap_or_default();
        let is_reversed = self.is_reversed;
        std::iter::from_fn(move || {
            let (line, tail) = first_line(rest);
            let (side, content, skipped) = read_line(line, tail)?;
            rest = tail.get(skipped..).unwrap_or_default();
            Some((if is_reversed { side.turned() } else { side }, content))
        })
    }

    /// The content before, as it must stand in the file.
    #[must_use]
    pub fn before(&self, text: &[u8]) -> Vec<u8> {
        self.side(text, Side::New)
    }

    /// The content after.
    #[must_use]
    pub fn after(&self, text: &[u8]) -> Vec<u8> {
        self.side(text, Side::Old)
    }

    fn side(&self, text: &[u8], without: Side) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.body.len());
        self.lines(text).filter(|(side, _)| *side != without).for_each(|(_, line)| bytes.extend_from_slice(line));
        bytes
    }
}

impl Side {
    const fn turned(self) -> Self {
        match self {
            Self::Context => Self::Context,
            Self::Old => Self::New,
            Self::New => Self::Old,
        }
    }
}

/// Splits after the first newline.
pub(super) fn first_line(text: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'\n', text).map_or(text.len(), |newline| newline + 1);
    text.split_at_checked(end).unwrap_or((text, &[]))
}

/// One line of a hunk: its side, its content, and the length of the line after it that says that it has no newline.
/// `None` where it is no line of a hunk.
fn read_line<'t>(line: &'t [u8], tail: &[u8]) -> Option<(Side, &'t [u8], usize)> {
    let (side, content) = match line {
        // GNU diff leaves the blank out of an empty context line.
        [b'\n'] => (Side::Context, line),
        [b' ', content @ ..] => (Side::Context, content),
        [b'-', content @ ..] => (Side::Old, content),
        [b'+', content @ ..] => (Side::New, content),
        _ => return None,
    };
    let content_only = content.strip_suffix(b"\n")?;
    if tail.starts_with(b"\\ ") {
        let marker = first_line(tail).0.len();
        if marker >= MIN_NO_NEWLINE_BYTES {
            return Some((side, content_only, marker));
        }
    }
    Some((side, content, 0))
}

/// A number of a header.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = text.split_at_checked(digits)?;
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, rest))
}

/// First line and count.
type Span = (u64, u64);

fn range(text: &[u8]) -> Option<(Span, &[u8])> {
    let (start, rest) = number(text)?;
    match rest.strip_prefix(b",") {
        Some(rest) => number(rest).map(|(count, rest)| ((start, count), rest)),
        None => Some(((start, 1), rest)),
    }
}

/// Reads `@@ -1,2 +3,4 @@`: the two ranges and the length up to the second `@@`.
pub(super) fn header(line: &[u8]) -> Option<(Span, Span, usize)> {
    let (old, rest) = range(line.strip_prefix(b"@@ -")?)?;
    let (new, rest) = range(rest.strip_prefix(b" +")?)?;
    let rest = rest.strip_prefix(b" @@")?;
    Some((old, new, line.len() - rest.len()))
}

/// How far a hunk was read when it turned out to be malformed.
#[derive(Debug)]
pub(super) struct Malformed {
    /// Lines read, the header included.
    pub lines: usize,
    /// What is wrong with the next.
    pub what: String,
}

/// Reads the hunk at `start`, whose first line is a well-formed header: the hunk, and how many lines it has.
pub(super) fn read(text: &[u8], start: usize) -> Result<(Hunk, usize), Malformed> {
    let fault = |lines, what: &str| Malformed { lines, what: what.to_owned() };
    let (first, mut rest) = first_line(text.get(start..).unwrap_or_default());
    let Some((old, new, length)) = header(first) else {
        return Err(fault(0, "is no hunk header of the form \"@@ -1,2 +3,4 @@\""));
    };
    let body = start + first.len();
    let mut hunk = Hunk {
        old_start: old.0,
        old_lines: old.1,
        new_start: new.0,
        new_lines: new.1,
        header: start..start + length,
        body: body..body,
        leading: 0,
        trailing: 0,
        is_reversed: false,
    };
    let (mut old_left, mut new_left, mut lines, mut is_changed) = (old.1, new.1, 1, false);
    // A line without a newline is the last of its side.
    let (mut old_ended, mut new_ended) = (false, false);
    while old_left > 0 || new_left > 0 {
        let (line, tail) = first_line(rest);
        if line.is_empty() {
            return Err(fault(lines, &format!("the diff ends here, {}", missing(old_left, new_left))));
        }
        let Some((side, content, skipped)) = read_line(line, tail) else {
            return Err(fault(lines, &unreadable(line, old_left, new_left)));
        };
        let (is_old, is_new) = (side != Side::New, side != Side::Old);
        if is_old && old_left == 0 || is_new && new_left == 0 {
            return Err(fault(lines, "is one line more than the @@ line counts"));
        }
        if is_old && old_ended || is_new && new_ended || content.is_empty() {
            return Err(fault(lines, "follows a line that is said to have no newline at its end"));
        }
        old_left -= u64::from(is_old);
        new_left -= u64::from(is_new);
        let has_no_newline = skipped > 0;
        old_ended |= is_old && has_no_newline;
        new_ended |= is_new && has_no_newline;
        is_changed |= side != Side::Context;
        hunk.trailing = if side == Side::Context { hunk.trailing + 1 } else { 0 };
        hunk.leading += u64::from(!is_changed);
        rest = tail.get(skipped..).unwrap_or_default();
        lines += 1 + usize::from(has_no_newline);
    }
    if !is_changed {
        return Err(fault(lines, "the hunk ends here and changes nothing"));
    }
    hunk.body.end = text.len() - rest.len();
    Ok((hunk, lines))
}

fn missing(old: u64, new: u64) -> String {
    format!("but the @@ line counts {old} more old and {new} more new lines")
}

fn unreadable(line: &[u8], old: u64, new: u64) -> String {
    if line.ends_with(b"\n") {
        format!("{} is no line of a hunk (one begins with ' ', '-' or '+'), {}", super::shown(line), missing(old, new))
    } else {
        "the diff ends without a newline; it may have been cut short".to_owned()
    }
}
