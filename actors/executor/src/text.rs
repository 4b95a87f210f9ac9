//! `replaceText` and `insertText`: a file's bytes changed in place. Nothing is guessed: what does not fit is refused, with
//! what stands there instead.

use std::ops::Range;

use memchr::memmem::Finder;
use protocol::command::Times;
use protocol::hint::{self, Hint, MAX_CANDIDATES};

use crate::patch::near::{self, MAX_LISTED};
use crate::patch::shown;
use crate::tree::MAX_FILE_BYTES;

/// Why a text cannot be changed.
#[derive(Debug, PartialEq, Eq)]
pub enum TextError {
    /// It does not fit.
    Conflict {
        /// What does not, to follow the file's name.
        what: String,
        /// The same for a program; without file and op.
        hints: Vec<Hint>,
    },
    /// The file would become this long.
    TooLarge(u64),
}

fn conflict(what: impl Into<String>, hints: Vec<Hint>) -> TextError {
    TextError::Conflict { what: what.into(), hints }
}

/// Whether occurrences of `needle` can overlap: it begins as it ends.
fn overlaps_itself(needle: &[u8]) -> bool {
    // The longest border of each prefix, by Knuth, Morris and Pratt.
    let mut borders = vec![0_usize; needle.len()];
    let mut border = 0;
    for (at, byte) in needle.iter().enumerate().skip(1) {
        while border > 0 && needle.get(border) != Some(byte) {
            border = borders.get(border - 1).copied().unwrap_or(0);
        }
        if needle.get(border) == Some(byte) {
            border += 1;
        }
        if let Some(slot) = borders.get_mut(at) {
            *slot = border;
        }
    }
    border > 0
}

/// All occurrences, those that overlap others included. UTF-8 synchronises itself, so that a text is found at whole
/// characters only, whatever else the file holds.
fn occurrences(content: &[u8], search: &[u8]) -> Vec<usize> {
    let finder = Finder::new(search);
    if !overlaps_itself(search) {
        return finder.find_iter(content).collect();
    }
    let (mut found, mut from) = (Vec::new(), 0);
    while let Some(at) = content.get(from..).and_then(|rest| finder.find(rest)) {
        found.push(from + at);
        from += at + 1;
    }
    found
}

/// The number of the line at `offset`, from 1.
fn line_at(content: &[u8], offset: usize) -> usize {
    memchr::memchr_iter(b'\n', content.get(..offset).unwrap_or_default()).count() + 1
}

/// Replaces `search` by `replace` in `content`, as often as `count` says it must occur, or where it begins on `line`.
///
/// # Errors
/// Where it occurs otherwise, or overlaps itself, or too much would come of it.
pub fn replace(
    content: &mut Vec<u8>,
    search: &str,
    replace: &str,
    count: Times,
    line: Option<u64>,
) -> Result<(), TextError> {
    let found = occurrences(content, search.as_bytes());
    let chosen = match line {
        Some(line) => vec![on_line(content, &found, line, search)?],
        None => counted(content, found, count, search)?,
    };
    let removed = chosen.len().saturating_mul(search.len());
    let size = content.len().saturating_sub(removed).saturating_add(chosen.len().saturating_mul(replace.len()));
    let size = u64::try_from(size).unwrap_or(u64::MAX);
    if size > MAX_FILE_BYTES {
        return Err(TextError::TooLarge(size));
    }
    substitute(content, &chosen, search.len(), replace.as_bytes());
    Ok(())
}

/// Puts `new` in the place of `length` bytes at each of `places`.
fn substitute(content: &mut Vec<u8>, places: &[usize], length: usize, new: &[u8]) {
    match places {
        [one] => drop(content.splice(*one..*one + length, new.iter().copied())),
        _ => {
            let mut result = Vec::with_capacity(content.len());
            let mut at = 0;
            for place in places {
                result.extend_from_slice(content.get(at..*place).unwrap_or_default());
                result.extend_from_slice(new);
                at = place + length;
            }
            result.extend_from_slice(content.get(at..).unwrap_or_default());
            *content = result;
        }
    }
}

fn counted(content: &[u8], found: Vec<usize>, count: Times, search: &str) -> Result<Vec<usize>, TextError> {
    let times = u64::try_from(found.len()).unwrap_or(u64::MAX);
    let wanted = match count {
        Times::Exactly(wanted) => wanted,
        Times::All => times.max(1),
    };
    if found.is_empty() {
        return Err(missing(content, search));
    }
    if times != wanted {
        let what = format!(
            "the text to replace occurs a different number of times: found {times}, expected {wanted} (line {}); give it more \
             of what is around, or \"line\", or \"count\"",
            listed(content, &found)
        );
        return Err(conflict(what, vec![places(content, &found)]));
    }
    if found.windows(2).any(|pair| matches!(pair, [one, other] if other - one < search.len())) {
        let what = format!(
            "the text to replace overlaps itself (line {}); give it more of what is around",
            listed(content, &found)
        );
        return Err(conflict(what, vec![places(content, &found)]));
    }
    Ok(found)
}

fn on_line(content: &[u8], found: &[usize], line: u64, search: &str) -> Result<usize, TextError> {
    let begins = |at: &&usize| u64::try_from(line_at(content, **at)).is_ok_and(|number| number == line);
    let mut there = found.iter().filter(begins);
    match (there.next(), there.next()) {
        (Some(one), None) => Ok(*one),
        (None, _) if found.is_empty() => Err(missing(content, search)),
        (None, _) => {
            let what =
                format!("the text to replace does not begin on line {line}, but on line {}", listed(content, found));
            Err(conflict(what, vec![places(content, found)]))
        }
        (Some(_), Some(_)) => {
            let what =
                format!("the text to replace begins on line {line} more than once; give it more of what is around");
            Err(conflict(what, vec![places(content, found)]))
        }
    }
}

/// The lines on which occurrences begin, in words.
fn listed(content: &[u8], found: &[usize]) -> String {
    let mut lines: Vec<String> = found.iter().take(MAX_LISTED).map(|at| line_at(content, *at).to_string()).collect();
    if found.len() > MAX_LISTED {
        lines.push("others".to_owned());
    }
    lines.join(", ")
}

fn places(content: &[u8], found: &[usize]) -> Hint {
    let lines = found.iter().take(MAX_CANDIDATES).map(|at| line_at(content, *at)).collect();
    Hint { candidates: Some(lines), ..Hint::default() }
}

/// What stands in the file instead of `search`.
fn missing(content: &[u8], search: &str) -> TextError {
    const LEAD: &str = "the text to replace occurs a different number of times: found 0, expected it once or more";
    // A text that ends within a line is held against whole lines.
    let mut lines = search.as_bytes().to_vec();
    let is_whole = lines.ends_with(b"\n");
    if !is_whole {
        lines.push(b'\n');
    }
    let Some(near) = near::nearest(&lines, content, None) else {
        return conflict(format!("{LEAD}; no line of the file resembles it"), Vec::new());
    };
    let differences = &near.differences;
    let hint = |difference: &near::Difference<'_>| Hint {
        line: Some(difference.line + 1),
        sent: difference.sent.map(hint::text),
        found: difference.found.map(hint::text),
        ..Hint::default()
    };
    let mut hints: Vec<Hint> = differences.iter().take(MAX_LISTED).map(hint).collect();
    if let Some(first) = hints.first_mut() {
        first.candidates = Some(vec![near.line + 1]);
    }
    let what = format!("{LEAD}; nearest at line {}: {}", near.line + 1, near::list(differences));
    conflict(what, hints)
}

/// Inserts `text` as lines of their own after line `line` (from 1; 0 is the start), whose text must be `anchor` where one is
/// given. A newline that `text` lacks at its end is added, as the file writes them; so is one that the file's last line
/// lacks.
///
/// # Errors
/// Where there is no such line, or it is another, or too much would come of it.
pub fn insert(content: &mut Vec<u8>, line: u64, text: &str, anchor: Option<&str>) -> Result<(), TextError> {
    let Some(before) = range_of(content, line) else {
        let what = format!("there is no line {line}: the file has {}", near::count(content));
        return Err(conflict(what, vec![Hint { found: None, ..Hint::default() }]));
    };
    let found = content.get(before.clone()).unwrap_or_default();
    if let Some(anchor) = anchor
        && trimmed(found) != anchor.as_bytes()
    {
        return Err(elsewhere(content, line, anchor, found));
    }
    let end: &[u8] = if found.ends_with(b"\r\n") { b"\r\n" } else { b"\n" };
    let mut lines = Vec::with_capacity(text.len() + 4);
    if !found.is_empty() && !found.ends_with(b"\n") {
        lines.extend_from_slice(end);
    }
    lines.extend_from_slice(text.as_bytes());
    if !text.ends_with('\n') {
        lines.extend_from_slice(end);
    }
    let size = u64::try_from(content.len().saturating_add(lines.len())).unwrap_or(u64::MAX);
    if size > MAX_FILE_BYTES {
        return Err(TextError::TooLarge(size));
    }
    drop(content.splice(before.end..before.end, lines));
    Ok(())
}

/// The bytes of line `line`, from 1; an empty range for line 0.
fn range_of(content: &[u8], line: u64) -> Option<Range<usize>> {
    let Some(last) = usize::try_from(line).ok()?.checked_sub(1) else { return Some(0..0) };
    let mut start = 0;
    for (number, line) in content.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if number == last {
            return Some(start..start + line.len());
        }
        start += line.len();
    }
    None
}

/// A line without what ends it.
fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The line is another one than the anchor says.
fn elsewhere(content: &[u8], line: u64, anchor: &str, found: &[u8]) -> TextError {
    let lines = content.split_inclusive(|byte| *byte == b'\n').enumerate();
    let same = lines.filter(|(_, line)| trimmed(line) == anchor.as_bytes());
    let candidates: Vec<usize> = same.map(|(number, _)| number + 1).take(MAX_CANDIDATES).collect();
    let where_it_is = match candidates.as_slice() {
        [] => "no line of the file is".to_owned(),
        [one] => format!("line {one} is"),
        [one, other, ..] => format!("line {one} is, and line {other}"),
    };
    let what =
        format!("line {line} is {}, not the anchor {}; {where_it_is}", shown(trimmed(found)), shown(anchor.as_bytes()));
    let hint = Hint {
        line: usize::try_from(line).ok(),
        sent: Some(hint::text(anchor.as_bytes())),
        found: Some(hint::text(trimmed(found))),
        candidates: Some(candidates),
        ..Hint::default()
    };
    conflict(what, vec![hint])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn replaced(content: &str, search: &str, new: &str, count: Times, line: Option<u64>) -> Result<String, String> {
        let mut bytes = content.as_bytes().to_vec();
        match replace(&mut bytes, search, new, count, line) {
            Ok(()) => Ok(String::from_utf8(bytes).unwrap()),
            Err(TextError::Conflict { what, .. }) => Err(what),
            Err(TextError::TooLarge(size)) => Err(size.to_string()),
        }
    }

    #[test]
    fn overlapping_places_are_two() {
        let refused = replaced("{\n}\n}\n}\n", "}\n}\n", "}\n", Times::Exactly(1), None).unwrap_err();
        assert!(refused.contains("found 2, expected 1 (line 2, 3)"), "{refused}");
        let refused = replaced("{\n}\n}\n}\n", "}\n}\n", "}\n", Times::Exactly(2), None).unwrap_err();
        assert!(refused.contains("overlaps itself"), "{refused}");
        assert!(replaced("aaa", "aa", "b", Times::All, None).is_err());
    }

    #[test]
    fn all_and_the_one_on_a_line() {
        assert_eq!(replaced("a b a\na\n", "a", "xy", Times::All, None).unwrap(), "xy b xy\nxy\n");
        assert!(replaced("b\n", "a", "x", Times::All, None).unwrap_err().contains("found 0"));
        assert_eq!(replaced("a\nb\na\n", "a", "x", Times::Exactly(1), Some(3)).unwrap(), "a\nb\nx\n");
        assert!(replaced("a\nb\na\n", "a", "x", Times::Exactly(1), Some(2)).unwrap_err().contains("on line 1, 3"));
        assert!(replaced("a a\n", "a", "x", Times::Exactly(1), Some(1)).unwrap_err().contains("more than once"));
    }

    #[test]
    fn what_is_missing_is_told_by_what_is_there() {
        let refused = replaced("x\r\nline 10\r\nline 11\r\n", "line 10\nline 11\n", "", Times::Exactly(1), None);
        assert!(refused.as_ref().unwrap_err().contains("nearest at line 2"), "{refused:?}");
        assert!(refused.unwrap_err().contains("their ends alone"));
        let refused = replaced("if a:\n\tb()\n\tc()\n", "    b()\n    c()\n", "", Times::Exactly(1), None);
        assert!(refused.as_ref().unwrap_err().contains("line 2"), "{refused:?}");
        assert!(refused.unwrap_err().contains("leading white space alone"));
    }

    #[test]
    fn lines_are_inserted_after_the_one_that_is_named() {
        let inserted = |content: &str, line, text, anchor| {
            let mut bytes = content.as_bytes().to_vec();
            insert(&mut bytes, line, text, anchor).map(|()| String::from_utf8(bytes).unwrap())
        };
        assert_eq!(inserted("a\nb\n", 1, "x\n", Some("a")).unwrap(), "a\nx\nb\n");
        assert_eq!(inserted("a\nb\n", 0, "x\n", None).unwrap(), "x\na\nb\n");
        assert_eq!(inserted("a\nb", 2, "x", Some("b")).unwrap(), "a\nb\nx\n");
        assert_eq!(inserted("a\r\nb\r\n", 1, "x", Some("a")).unwrap(), "a\r\nx\r\nb\r\n");
        assert_eq!(inserted("", 0, "x\n", None).unwrap(), "x\n");
        let Err(TextError::Conflict { what, hints }) = inserted("a\nb\n", 1, "x\n", Some("b")) else { panic!() };
        assert!(what.contains("line 1 is \"a\", not the anchor \"b\"; line 2 is"), "{what}");
        assert_eq!(hints[0].candidates, Some(vec![2]));
        assert!(inserted("a\n", 2, "x\n", Some("a")).is_err());
    }
}
