//! One hunk: its header, its lines, and where it ends.
//!
//! The counts of an `@@` line are believed where the lines bear them out. Where they do not, the hunk's end is where the
//! text says so unmistakably: at the next header, at a fence, or at the text's end with as much context behind the change
//! as before it. Everything else is refused, with the header that would be right.

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

/// Where an `@@` line says that a hunk begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stated {
    /// The first line before, from 1; for an empty range, the line before it.
    pub old: u64,
    /// The first line after, likewise.
    pub new: u64,
}

/// A hunk that was read. Ranges are into the diff's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hunk {
    /// What its header states; `None` for a header without numbers.
    pub stated: Option<Stated>,
    /// Lines before, as there are.
    pub old_lines: u64,
    /// Lines after, as there are.
    pub new_lines: u64,
    /// By how many lines the hunks before it in the same header make the file longer.
    pub grown: i64,
    /// The header up to the second `@@`, or the whole line where it has no numbers.
    pub header: Range<usize>,
    /// The lines, each with its sign.
    pub body: Range<usize>,
    /// Lines that stand above it, outermost first, as far as its headers name any.
    pub scopes: Vec<Range<usize>>,
    /// Whether those lines must be there, each once; else they only tell several places apart.
    pub is_scoped: bool,
    /// Whether its last line must be the file's.
    pub at_end: bool,
    /// Context lines before the first change.
    pub leading: u64,
    /// Context lines after the last change.
    pub trailing: u64,
    /// Whether it is read backwards: `+` is old, and `-` new.
    pub is_reversed: bool,
}

impl Hunk {
    /// A hunk whose lines are `body`.
    pub(super) fn new(text: &[u8], header: Range<usize>, body: Range<usize>) -> Self {
        let mut hunk = Self {
            stated: None,
            old_lines: 0,
            new_lines: 0,
            grown: 0,
            header,
            body,
            scopes: Vec::new(),
            is_scoped: false,
            at_end: false,
            leading: 0,
            trailing: 0,
            is_reversed: false,
        };
        let mut is_changed = false;
        let (mut old, mut new, mut leading, mut trailing) = (0, 0, 0, 0);
        for (side, _) in hunk.lines(text) {
            old += u64::from(side != Side::New);
            new += u64::from(side != Side::Old);
            is_changed |= side != Side::Context;
            trailing = if side == Side::Context { trailing + 1 } else { 0 };
            leading += u64::from(!is_changed);
        }
        (hunk.old_lines, hunk.new_lines, hunk.leading, hunk.trailing) = (old, new, leading, trailing);
        hunk
    }

    /// Whether it changes anything.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.leading < self.old_lines.max(self.new_lines)
    }

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

    /// The header that tells the truth of its lines.
    #[must_use]
    pub fn right_header(&self) -> Option<String> {
        let stated = self.stated?;
        Some(format!("@@ -{} +{} @@", span(stated.old, self.old_lines), span(stated.new, self.new_lines)))
    }
}

fn span(start: u64, count: u64) -> String {
    if count == 1 { start.to_string() } else { format!("{start},{count}") }
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

/// Whether a line begins a hunk, with numbers or without.
pub(super) fn is_header(line: &[u8]) -> bool {
    line.starts_with(b"@@") && !line.starts_with(b"@@@")
}

/// The text of a header that names a line of the file, by its range in the header's line: what follows the numbers, or
/// all of it where there are none.
pub(super) fn scope(line: &[u8]) -> Option<Range<usize>> {
    let start = header(line).map_or(2, |(.., end)| end);
    let text = line.get(start..)?;
    let text = text.trim_ascii_end();
    let text = text.strip_suffix(b"@@").unwrap_or(text).trim_ascii_end();
    let blanks = text.len() - text.trim_ascii_start().len();
    let name = text.trim_ascii_start();
    let is_none = name.is_empty() || name == b"..." || !name.iter().any(u8::is_ascii_alphanumeric) && name.is_ascii();
    (!is_none).then(|| start + blanks..start + text.len())
}

/// What ends a hunk's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The text.
    Text,
    /// A header, or a fence.
    Header,
    /// Something else, so that the hunk may have been damaged there.
    Other,
}

/// How far a hunk was read when it turned out to be malformed.
#[derive(Debug)]
pub(super) struct Malformed {
    /// Lines read, the header included.
    pub lines: usize,
    /// What is wrong with the next.
    pub what: String,
    /// The header that would be right, where that can be said.
    pub header: Option<String>,
}

impl Malformed {
    fn at(lines: usize, what: impl Into<String>) -> Self {
        Self { lines, what: what.into(), header: None }
    }
}

/// A hunk whose numbers were read, and what is behind it.
#[derive(Debug)]
pub(super) struct Read {
    /// The hunk.
    pub hunk: Hunk,
    /// Its lines, the header included.
    pub lines: usize,
    /// Whether its counts were fulfilled; else the lines alone told its end.
    pub is_counted: bool,
    /// Whether its last line is context.
    pub ends_in_context: bool,
}

/// Whether `rest` begins with the `---` and `+++` lines of another file's patch.
pub(super) fn is_pair(rest: &[u8]) -> bool {
    let (first, tail) = first_line(rest);
    let (second, tail) = first_line(tail);
    first.starts_with(b"--- ") && second.starts_with(b"+++ ") && is_header(first_line(tail).0)
}

/// Whether a line that is no line of a hunk ends one for certain.
pub(super) fn ends_hunk(line: &[u8]) -> bool {
    is_header(line)
        || [&b"diff "[..], b"```", b"*** ", b"Index: ", b"Only in ", b"====", b"commit ", b"From "]
            .iter()
            .any(|start| line.starts_with(start))
}

/// Lines of a hunk as far as they reach.
struct Extent {
    /// Where they end in the text; empty lines at their end are left out.
    end: usize,
    /// How many lines of the text they are.
    lines: usize,
    by: End,
}

/// The lines that follow at `start` and can be a hunk's.
fn extent(text: &[u8], start: usize) -> Extent {
    let (mut at, mut lines) = (start, 0);
    let mut found = Extent { end: start, lines: 0, by: End::Text };
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let (line, tail) = first_line(rest);
        if line.is_empty() {
            return found;
        }
        if is_pair(rest) || ends_hunk(line) || is_rule(line, tail) {
            found.by = End::Header;
            return found;
        }
        let Some((_, _, skipped)) = read_line(line, tail) else {
            found.by = End::Other;
            return found;
        };
        at += line.len() + skipped;
        lines += 1 + usize::from(skipped > 0);
        if line != b"\n" || skipped > 0 {
            (found.end, found.lines) = (at, lines);
        }
    }
}

/// Whether `line` is the rule before a mail's signature: nothing of the hunk follows it.
fn is_rule(line: &[u8], tail: &[u8]) -> bool {
    line == b"-- \n" && !first_line(tail).0.starts_with(b"+") && !first_line(tail).0.starts_with(b" ")
}

/// Reads the hunk at `start`, whose first line begins with `@@`.
pub(super) fn read(text: &[u8], start: usize) -> Result<Read, Malformed> {
    let (first, _) = first_line(text.get(start..).unwrap_or_default());
    let body = start + first.len();
    let Some((old, new, length)) = header(first) else {
        if first.starts_with(b"@@ -") && first.get(4).is_some_and(u8::is_ascii_digit) {
            return Err(Malformed::at(0, "is no hunk header of the form \"@@ -1,2 +3,4 @@\""));
        }
        return without_numbers(text, start, first);
    };
    let header = start..start + length;
    let scope = scope(first).map(|range| start + range.start..start + range.end);
    let finish = |end: usize, lines: usize, is_counted: bool| {
        let mut hunk = Hunk::new(text, header.clone(), body..end);
        hunk.stated = Some(Stated { old: old.0, new: new.0 });
        hunk.scopes = scope.clone().into_iter().collect();
        let ends_in_context = hunk.trailing > 0;
        Read { hunk, lines: lines + 1, is_counted, ends_in_context }
    };
    let by_count = counted(text, body, old.1, new.1);
    if let Ok((end, lines)) = by_count
        && surplus(text, end).is_none()
    {
        let read = finish(end, lines, true);
        if !read.hunk.changes() {
            return recount(text, body, &finish, "the hunk ends here and changes nothing", read.lines);
        }
        if let Some(swallowed) = swallowed(text, &read.hunk) {
            return recount(text, body, &finish, &swallowed, read.lines);
        }
        return Ok(read);
    }
    let (lines, what) = match by_count {
        Ok((end, lines)) => (lines + 1, surplus(text, end).unwrap_or_default().to_owned()),
        Err((lines, what)) => (lines + 1, what),
    };
    recount(text, body, &finish, &what, lines)
}

/// The end of the lines that fulfil the counts, and how many lines of the text they are; else how many there are before the
/// one that does not fit, and what is wrong with it.
fn counted(text: &[u8], body: usize, old: u64, new: u64) -> Result<(usize, usize), (usize, String)> {
    let mut rest = text.get(body..).unwrap_or_default();
    let (mut old_left, mut new_left, mut lines) = (old, new, 0);
    // A line without a newline is the last of its side.
    let (mut old_ended, mut new_ended) = (false, false);
    while old_left > 0 || new_left > 0 {
        let (line, tail) = first_line(rest);
        if line.is_empty() {
            return Err((lines, format!("the diff ends here, {}", missing(old_left, new_left))));
        }
        let Some((side, content, skipped)) = read_line(line, tail) else {
            return Err((lines, unreadable(line, old_left, new_left)));
        };
        let (is_old, is_new) = (side != Side::New, side != Side::Old);
        if is_old && old_left == 0 || is_new && new_left == 0 {
            return Err((lines, "is one line more than the @@ line counts".to_owned()));
        }
        if is_old && old_ended || is_new && new_ended || content.is_empty() {
            return Err((lines, "follows a line that is said to have no newline at its end".to_owned()));
        }
        old_left -= u64::from(is_old);
        new_left -= u64::from(is_new);
        old_ended |= is_old && skipped > 0;
        new_ended |= is_new && skipped > 0;
        rest = tail.get(skipped..).unwrap_or_default();
        lines += 1 + usize::from(skipped > 0);
    }
    Ok((text.len() - rest.len(), lines))
}

/// A hunk whose counts lie: its lines tell where it ends, or it is refused.
fn recount(
    text: &[u8],
    body: usize,
    finish: &dyn Fn(usize, usize, bool) -> Read,
    what: &str,
    lines: usize,
) -> Result<Read, Malformed> {
    let found = extent(text, body);
    let read = finish(found.end, found.lines, false);
    let hunk = &read.hunk;
    let refused =
        || Malformed { lines, what: what.to_owned(), header: if hunk.changes() { hunk.right_header() } else { None } };
    let is_whole = match found.by {
        End::Other => false,
        // Somebody else's header was not written before this hunk was.
        End::Header => hunk.trailing >= hunk.leading,
        End::Text => hunk.trailing >= hunk.leading.max(1),
    };
    let swallows = what.contains(SWALLOWED);
    if !is_whole || swallows || !hunk.changes() || !is_sound(text, hunk) || surplus(text, found.end).is_some() {
        return Err(refused());
    }
    Ok(read)
}

/// A hunk whose header has no numbers.
fn without_numbers(text: &[u8], start: usize, first: &[u8]) -> Result<Read, Malformed> {
    let body = start + first.len();
    let found = extent(text, body);
    let length = first.trim_ascii_end().len();
    let mut hunk = Hunk::new(text, start..start + length, body..found.end);
    hunk.scopes = scope(first).map(|range| start + range.start..start + range.end).into_iter().collect();
    let lines = found.lines + 1;
    if found.by == End::Other {
        let what = "is no line of a hunk, and its header has no counts that say where it ends: begin each line with ' ', \
                    '-' or '+', or write \"@@ -1,2 +3,4 @@\"";
        return Err(Malformed::at(lines, what));
    }
    if !hunk.changes() {
        return Err(Malformed::at(lines, "the hunk ends here and changes nothing"));
    }
    if !is_sound(text, &hunk) {
        return Err(Malformed::at(lines, "the hunk goes on after a line that is said to have no newline at its end"));
    }
    let ends_in_context = hunk.trailing > 0;
    Ok(Read { hunk, lines, is_counted: false, ends_in_context })
}

/// Whether a line without a newline is the last of its side.
fn is_sound(text: &[u8], hunk: &Hunk) -> bool {
    let (mut old_ended, mut new_ended) = (false, false);
    hunk.lines(text).all(|(side, content)| {
        let (is_old, is_new) = (side != Side::New, side != Side::Old);
        let fits = !(is_old && old_ended || is_new && new_ended || content.is_empty());
        let is_open = !content.ends_with(b"\n");
        old_ended |= is_old && is_open;
        new_ended |= is_new && is_open;
        fits
    })
}

/// How a detail begins that tells of a header among a hunk's lines.
const SWALLOWED: &str = "the counts of the @@ line take in the header of another file";

/// The header of another file that the counts take for lines of this hunk.
fn swallowed(text: &[u8], hunk: &Hunk) -> Option<String> {
    let next = first_line(text.get(hunk.body.end..)?).0;
    if !is_header(next) || hunk.trailing > 0 || hunk.leading == 0 {
        return None;
    }
    let body = text.get(hunk.body.clone())?;
    let mut lines = body.rsplit(|byte| *byte == b'\n').skip(1);
    let (second, first) = (lines.next()?, lines.next()?);
    (first.starts_with(b"--- ") && second.starts_with(b"+++ "))
        .then(|| format!("{SWALLOWED} ({} and {})", super::shown(first), super::shown(second)))
}

/// Why the lines after a hunk look like more of it. Git would leave them out without a word.
fn surplus(text: &[u8], end: usize) -> Option<&'static str> {
    const MORE: &str = "follows the hunk's last line by the count of its @@ line, but looks like more of the hunk";
    let mut rest = text.get(end..).unwrap_or_default();
    let mut is_next = true;
    loop {
        let (line, tail) = first_line(rest);
        if line.is_empty() || ends_hunk(line) || is_rule(line, tail) {
            return None;
        }
        if line.starts_with(b"--- ") && first_line(tail).0.starts_with(b"+++ ") {
            return None;
        }
        // A separator between the files of a diff, or between a mail's parts.
        let is_separator = matches!(line, b"--\n" | b"---\n");
        match line.first() {
            Some(b'\n') => {}
            Some(b'\r') if line == b"\r\n" => {}
            Some(b' ' | b'+' | b'-' | b'\\') if !is_separator => return Some(MORE),
            _ if is_next && !is_separator => return Some(MORE),
            _ => {}
        }
        (rest, is_next) = (tail, false);
    }
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
