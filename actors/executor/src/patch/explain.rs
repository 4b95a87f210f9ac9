//! Why a hunk has no place, so that its author can mend it at first sight: in one sentence for a person, and as hints for
//! a program.

use protocol::hint::{self, Hint, MAX_CANDIDATES};

use super::hunk::first_line;
use super::near::{self, Difference, MAX_LISTED, Near, list};
use super::place::{NoPlace, Place, Search, Wanted};
use super::{FilePatch, PatchError, apply::header, shown};

/// All that is known of a file whose hunks do not fit.
pub(super) struct Trouble<'t> {
    pub text: &'t [u8],
    pub patch: &'t FilePatch,
    pub wanted: &'t [Wanted<'t>],
    pub before: &'t [u8],
    pub search: Option<&'t Search<'t, 't>>,
}

/// The error for hunk `number` (from 0), which has no place.
pub(super) fn explain(trouble: &Trouble<'_>, number: usize, no_place: NoPlace) -> PatchError {
    let Some(wanted) = trouble.wanted.get(number) else {
        return PatchError::file(&trouble.patch.label(), "a hunk is missing".to_owned());
    };
    let blank = Hint { file: Some(trouble.patch.label()), hunk: Some(number + 1), ..Hint::default() };
    let one = |what: String, hint: Hint| (what, vec![hint]);
    let (what, hints) = match no_place {
        NoPlace::TooFar => {
            return PatchError::TooMuch(format!(
                "{}: its hunks fit at so many places in part that more than {} bytes would have to be compared; give them \
                 lines that are there once",
                trouble.patch.label(),
                super::apply::MAX_SEARCH_BYTES
            ));
        }
        NoPlace::Nowhere => nearest(trouble, number, wanted, &blank),
        NoPlace::Already(line, None) => {
            one(format!("its new lines stand at line {} already", line + 1), at(blank, &[line]))
        }
        NoPlace::Already(line, Some(twin)) => one(
            format!(
                "its new lines stand at line {} already, as its header says, and its old lines at line {}, which may be \
                 another place; give it the line number of the one that is meant",
                line + 1,
                twin + 1
            ),
            moved(at(blank, &[twin]), wanted, twin),
        ),
        NoPlace::Nearly(line, twin) => nearly(trouble, wanted, &blank, line, twin),
        NoPlace::Ambiguous(lines) => one(ambiguous(&lines), at(blank, &lines)),
        NoPlace::NoContext => one(
            "it adds lines without context elsewhere than at the file's end; give it the line before or after".to_owned(),
            blank,
        ),
        NoPlace::OpenEnd => one(
            "it adds lines after the file's last line, which has no newline at its end; give it that line, as old and as \
             new"
                .to_owned(),
            blank,
        ),
        NoPlace::EndsEarly(line) => one(
            format!("its last line has no newline, so that it must end the file, but it fits at line {}", line + 1),
            at(blank, &[line]),
        ),
        NoPlace::NotAtEnd(line) => {
            one(format!("it must end with the file, but fits at line {}", line + 1), at(blank, &[line]))
        }
        NoPlace::Scope(scope, times) => {
            let quoted = wanted.scopes.get(scope).copied().unwrap_or_default();
            let times = match times {
                0 => "is not in the file".to_owned(),
                times => format!("is there {times} times"),
            };
            let what = format!("the line that it quotes, {}, {times}; quote one that is there once", shown(quoted));
            one(what, Hint { sent: Some(hint::text(quoted)), ..blank })
        }
        NoPlace::Overlaps(other) => {
            one(format!("it changes the same lines as hunk {}; send what both do as one hunk", other + 1), blank)
        }
    };
    PatchError::Hunk {
        file: trouble.patch.label(),
        number: number + 1,
        header: header(trouble.text, wanted.hunk),
        what,
        hints,
    }
}

fn at(hint: Hint, lines: &[usize]) -> Hint {
    let candidates = lines.iter().take(MAX_CANDIDATES).map(|line| line + 1).collect();
    Hint { candidates: Some(candidates), ..hint }
}

/// With the header that would be right at `line`.
fn moved(hint: Hint, wanted: &Wanted<'_>, line: usize) -> Hint {
    Hint { header: header_at(wanted, line), ..hint }
}

fn header_at(wanted: &Wanted<'_>, line: usize) -> Option<String> {
    let mut hunk = wanted.hunk.clone();
    let first = u64::try_from(line).ok()? + 1;
    let new = first.checked_add_signed(hunk.grown)?;
    hunk.stated = Some(super::hunk::Stated { old: first, new });
    hunk.right_header()
}

fn ambiguous(lines: &[usize]) -> String {
    let mut listed: Vec<String> = lines.iter().take(MAX_LISTED).map(|line| (line + 1).to_string()).collect();
    if lines.len() > MAX_LISTED {
        listed.push("others".to_owned());
    }
    let last = listed.pop().unwrap_or_default();
    format!(
        "its lines are not where it says, and fit at line {} as well as at line {last}; give it the right line number or more \
         context",
        listed.join(", ")
    )
}

/// Nearly all old lines stand at the stated place, and all of them at another.
fn nearly(trouble: &Trouble<'_>, wanted: &Wanted<'_>, blank: &Hint, line: usize, twin: usize) -> (String, Vec<Hint>) {
    let place = trouble.search.and_then(|search| Some(Place { offset: search.lines.offset(line)?, line }));
    let found = place.map(|place| near::line_by_line(&wanted.old, trouble.before, place));
    let differences = found.map(|near| near.differences).unwrap_or_default();
    let what = format!(
        "at line {}, where its header says, {}; all of its lines stand at line {}, which may be another place: mend the \
         lines or the line number",
        line + 1,
        list(&differences),
        twin + 1
    );
    let mut hints = hints(&differences, blank);
    hints.push(moved(at(blank.clone(), &[twin]), wanted, twin));
    (what, hints)
}

/// The old lines stand nowhere: where most of them do, and how these differ.
fn nearest(trouble: &Trouble<'_>, number: usize, wanted: &Wanted<'_>, blank: &Hint) -> (String, Vec<Hint>) {
    let stated = trouble.search.and_then(|search| search.first_stated(number));
    let stated_line = wanted.hunk.stated.map(|stated| stated.old);
    let Some(near) = near::nearest(&wanted.old, trouble.before, stated) else {
        let (first, _) = first_line(&wanted.old);
        let lines = near::count(trouble.before);
        let what = match stated_line {
            Some(line) if usize::try_from(line).is_ok_and(|line| line > lines) => {
                format!("line {line} should be {} but the file ends after line {lines}", shown(first))
            }
            _ => format!("none of its lines is in the file, which has {lines}: the first is {}", shown(first)),
        };
        return (what, vec![Hint { sent: Some(hint::text(first)), ..blank.clone() }]);
    };
    let lines = near::count(trouble.before);
    let elsewhere = match stated {
        Some(place) if place.line == near.line => String::new(),
        None if stated_line.is_some_and(|line| usize::try_from(line).is_ok_and(|line| line > lines)) => {
            format!("the file ends after line {lines}; nearest at line {}: ", near.line + 1)
        }
        _ => format!("nearest at line {}: ", near.line + 1),
    };
    let what = format!("{elsewhere}{}", list(&near.differences));
    let mut hints = hints(&near.differences, blank);
    if let Some(first) = hints.first_mut() {
        first.candidates = Some(vec![near.line + 1]);
        first.header = header_for(wanted, &near);
    }
    (what, hints)
}

/// The header of the hunk once its lines are as the file has them.
fn header_for(wanted: &Wanted<'_>, near: &Near) -> Option<String> {
    let mut mended = wanted.hunk.clone();
    let missing = near.differences.iter().filter(|difference| difference.sent.is_none()).count();
    let surplus = near.differences.iter().filter(|difference| difference.found.is_none()).count();
    let (missing, surplus) = (u64::try_from(missing).ok()?, u64::try_from(surplus).ok()?);
    mended.old_lines = (mended.old_lines + missing).checked_sub(surplus)?;
    mended.new_lines = (mended.new_lines + missing).checked_sub(surplus)?;
    header_at(
        &Wanted { hunk: &mended, old: Vec::new(), new: Vec::new(), is_trusted: false, scopes: Vec::new() },
        near.line,
    )
}

fn hints(differences: &[Difference<'_>], blank: &Hint) -> Vec<Hint> {
    let hint = |difference: &Difference<'_>| Hint {
        line: Some(difference.line + 1),
        sent: difference.sent.map(hint::text),
        found: difference.found.map(hint::text),
        ..blank.clone()
    };
    differences.iter().take(MAX_LISTED).map(hint).collect()
}
