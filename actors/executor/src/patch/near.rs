//! The place in a file that resembles lines most, and how the two differ. It is looked for only where something is
//! refused: what it finds is told, never acted upon.

use std::collections::HashMap;

use unicode_normalization::UnicodeNormalization as _;

use super::place::Place;
use super::shown;

/// The most lines that a detail lists.
pub const MAX_LISTED: usize = 10;
/// The most lines that are aligned; longer ones are compared line by line.
const MAX_ALIGNED: usize = 400;
/// Lines of the file around the place that may take part.
const SLACK: usize = 6;
/// The most times that a line counts.
const MAX_VOTES: usize = 4096;

/// One line in which the two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference<'a> {
    /// The line of the file, from 0; for one that is missing there, the line before which it should stand.
    pub line: usize,
    /// The line that was sent, with its newline; `None` where it was left out.
    pub sent: Option<&'a [u8]>,
    /// The line that is there, likewise.
    pub found: Option<&'a [u8]>,
    /// Whether it would be behind the file's end.
    pub is_behind: bool,
}

/// A place that resembles the lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Near<'a> {
    /// Where the first of them would be, from 0.
    pub line: usize,
    /// How they differ; at least once.
    pub differences: Vec<Difference<'a>>,
}

/// How lines differ that are the same but for what ends them.
const ENDS: &str = "their ends";

fn split(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n')
}

/// How many lines there are.
#[must_use]
pub fn count(content: &[u8]) -> usize {
    split(content).count()
}

/// A line without what people and programs change without meaning to: white space, forms of quotes, dashes and
/// compatibility characters.
fn skeleton(line: &[u8]) -> Vec<u8> {
    if line.is_ascii() {
        return line.iter().filter(|byte| !byte.is_ascii_whitespace()).copied().collect();
    }
    let text = String::from_utf8_lossy(line);
    let plain = text.nfkc().filter(|c| !c.is_whitespace() && !matches!(c, '\u{200b}'..='\u{200d}' | '\u{feff}'));
    let plain = plain.map(|c| match c {
        '\u{2018}' | '\u{2019}' | '\u{201b}' | '`' | '\u{b4}' => '\'',
        '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{201f}' => '"',
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        other => other,
    });
    plain.collect::<String>().into_bytes()
}

/// How two lines differ, if in one way alone.
fn way(sent: &[u8], found: &[u8]) -> Option<&'static str> {
    let bare = |line: &[u8]| -> Vec<u8> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        line.strip_suffix(b"\r").unwrap_or(line).to_vec()
    };
    let (one, other) = (bare(sent), bare(found));
    let inner = |line: &[u8]| -> Vec<u8> { line.iter().filter(|byte| !byte.is_ascii_whitespace()).copied().collect() };
    match () {
        () if one == other => Some(ENDS),
        () if one.trim_ascii_start() == other.trim_ascii_start() => Some("leading white space"),
        () if one.trim_ascii_end() == other.trim_ascii_end() => Some("trailing white space"),
        () if inner(&one) == inner(&other) => Some("white space"),
        () if skeleton(&one) == skeleton(&other) => Some("Unicode form"),
        () => None,
    }
}

/// In what all the lines differ, if it is one thing.
#[must_use]
pub fn kind(differences: &[Difference<'_>]) -> Option<&'static str> {
    let mut ways = differences.iter().map(|it| way(it.sent?, it.found?));
    let first = ways.next()??;
    let is_blank = |way: &str| way.ends_with("white space");
    ways.try_fold(first, |so_far, way| match way? {
        way if way == so_far => Some(so_far),
        way if is_blank(way) && is_blank(so_far) => Some("white space"),
        _ => None,
    })
}

/// The place that resembles `old` most: near `stated` where there are several. `None` where nothing does.
#[must_use]
pub(crate) fn nearest<'a>(old: &'a [u8], content: &'a [u8], stated: Option<Place>) -> Option<Near<'a>> {
    let lines: Vec<&[u8]> = split(old).collect();
    let mut wanted: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
    for (number, line) in lines.iter().enumerate() {
        let skeleton = skeleton(line);
        if !skeleton.is_empty() {
            wanted.entry(skeleton).or_default().push(number);
        }
    }
    let mut votes: HashMap<i64, usize> = HashMap::new();
    let mut cast = 0;
    for (number, line) in split(content).enumerate() {
        let Some(places) = wanted.get(&skeleton(line)) else { continue };
        for place in places.iter().take(MAX_VOTES / 64) {
            let weight = 2 + usize::from(lines.get(*place) == Some(&line)) + line.len().min(20) / 5;
            *votes.entry(as_signed(number) - as_signed(*place)).or_default() += weight;
            cast += 1;
        }
        if cast > MAX_VOTES * 64 {
            break;
        }
    }
    let wanted_line = stated.map(|place| as_signed(place.line));
    let distance = |line: i64| wanted_line.map_or(line, |wanted| (line - wanted).abs());
    // A place is as good as what stands around it, in case a line was left out.
    let around = |line: i64| -> usize { (line - 2..=line + 2).filter_map(|line| votes.get(&line)).sum() };
    let best = votes.iter().max_by_key(|(line, votes)| (around(**line), **votes, -distance(**line)));
    let line = match best {
        Some((line, _)) => usize::try_from(*line).unwrap_or(0),
        None => alike(&lines, content)?,
    };
    let offset = offset_of(content, line)?;
    let near = compare(old, content, Place { offset, line });
    (!near.differences.is_empty()).then_some(near)
}

fn as_signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX / 4)
}

fn offset_of(content: &[u8], line: usize) -> Option<usize> {
    match line.checked_sub(1) {
        None => Some(0),
        Some(last) => memchr::memchr_iter(b'\n', content).nth(last).map(|newline| newline + 1),
    }
}

/// Where a line is that shares begin and end with the longest of `lines`.
fn alike(lines: &[&[u8]], content: &[u8]) -> Option<usize> {
    let (number, longest) = lines.iter().enumerate().max_by_key(|(_, line)| line.trim_ascii().len())?;
    let longest = longest.trim_ascii();
    let shared = |line: &[u8]| {
        let front = line.iter().zip(longest).take_while(|(a, b)| a == b).count();
        let back = line.iter().rev().zip(longest.iter().rev()).take_while(|(a, b)| a == b).count();
        (front + back).min(line.len()).min(longest.len())
    };
    let best = split(content).map(|line| shared(line.trim_ascii())).enumerate().max_by_key(|(_, shared)| *shared)?;
    (best.1 >= 4 && best.1 * 2 >= longest.len()).then(|| best.0.saturating_sub(number))
}

/// How `old` differs from what stands at about `place`.
#[must_use]
pub(super) fn compare<'a>(old: &'a [u8], content: &'a [u8], place: Place) -> Near<'a> {
    let sent: Vec<&[u8]> = split(old).collect();
    if sent.len() > MAX_ALIGNED {
        return line_by_line(old, content, place);
    }
    let from = place.line.saturating_sub(SLACK);
    let offset = offset_of(content, from).unwrap_or(content.len());
    let rest = content.get(offset..).unwrap_or_default();
    let found: Vec<&[u8]> = split(rest).take(sent.len() + place.line - from + SLACK).collect();
    let (start, differences) = align(&sent, &found);
    let differences = differences.into_iter().map(|it| Difference { line: it.line + from, ..it }).collect();
    Near { line: from + start, differences }
}

/// How each line of `old` differs from the one that stands in its place, if it begins at `place`.
pub(super) fn line_by_line<'a>(old: &'a [u8], content: &'a [u8], place: Place) -> Near<'a> {
    let mut found = split(content.get(place.offset..).unwrap_or_default());
    let mut differences = Vec::new();
    for (number, line) in split(old).enumerate() {
        let found = found.next();
        if found != Some(line) {
            let line_number = place.line + number;
            differences.push(Difference { line: line_number, sent: Some(line), found, is_behind: found.is_none() });
        }
    }
    Near { line: place.line, differences }
}

/// What leads to a cell of the alignment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Start,
    Both,
    Sent,
    Found,
}

/// Aligns all of `sent` with a stretch of `found`: where that begins, and how the two differ.
fn align<'a>(sent: &[&'a [u8]], found: &[&'a [u8]]) -> (usize, Vec<Difference<'a>>) {
    const GAP: usize = 5;
    let skeletons: Vec<Vec<u8>> = found.iter().map(|line| skeleton(line)).collect();
    let width = found.len() + 1;
    let mut costs: Vec<usize> = vec![0; width];
    let mut steps: Vec<Vec<Step>> = vec![vec![Step::Start; width]];
    for (row, line) in sent.iter().enumerate() {
        let bare = skeleton(line);
        let mut next = Vec::with_capacity(width);
        let mut ways = Vec::with_capacity(width);
        for column in 0..width {
            let up = costs.get(column).copied().unwrap_or(0) + GAP;
            let mut best = (up, Step::Sent);
            if let Some(before) = column.checked_sub(1) {
                let price = match (found.get(before), skeletons.get(before)) {
                    (Some(other), _) if other == line => 0,
                    (_, Some(other)) if *other == bare => 1,
                    (Some(other), _) if shares(other, line) => 3,
                    _ => 4,
                };
                let both = costs.get(before).copied().unwrap_or(0) + price;
                if both <= best.0 {
                    best = (both, Step::Both);
                }
                // Nothing is left out in front of the first line, or behind the last.
                let left = next.get(before).copied().unwrap_or(0) + GAP;
                if row + 1 < sent.len() && left < best.0 {
                    best = (left, Step::Found);
                }
            }
            next.push(best.0);
            ways.push(best.1);
        }
        costs = next;
        steps.push(ways);
    }
    let end = costs.iter().enumerate().min_by_key(|(_, cost)| **cost).map_or(0, |(column, _)| column);
    walk_back(sent, found, &steps, end)
}

fn walk_back<'a>(
    sent: &[&'a [u8]],
    found: &[&'a [u8]],
    steps: &[Vec<Step>],
    end: usize,
) -> (usize, Vec<Difference<'a>>) {
    let (mut row, mut column) = (sent.len(), end);
    let mut differences = Vec::new();
    while let Some(above) = row.checked_sub(1) {
        let step = steps.get(row).and_then(|row| row.get(column)).copied().unwrap_or(Step::Sent);
        let line = sent.get(above).copied();
        match step {
            Step::Both => {
                column -= 1;
                row = above;
                if found.get(column).copied() != line {
                    let found = found.get(column).copied();
                    differences.push(Difference { line: column, sent: line, found, is_behind: false });
                }
            }
            Step::Found => {
                column -= 1;
                let found = found.get(column).copied();
                differences.push(Difference { line: column, sent: None, found, is_behind: false });
            }
            Step::Sent | Step::Start => {
                row = above;
                let is_behind = column >= found.len();
                differences.push(Difference { line: column, sent: line, found: None, is_behind });
            }
        }
    }
    differences.reverse();
    (column, differences)
}

/// Whether two lines share half of what they hold at their ends.
fn shares(one: &[u8], other: &[u8]) -> bool {
    let (one, other) = (one.trim_ascii(), other.trim_ascii());
    let front = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let back = one.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
    let longer = one.len().max(other.len());
    longer > 0 && (front + back).min(one.len()).min(other.len()) * 2 >= longer
}

/// All lines that differ, and what is alike in how they do.
#[must_use]
pub fn list(differences: &[Difference<'_>]) -> String {
    let mut listed: Vec<String> = differences.iter().take(MAX_LISTED).map(describe).collect();
    if let Some(more) = differences.len().checked_sub(MAX_LISTED).filter(|more| *more > 0) {
        listed.push(format!("and {more} more"));
    }
    let kind = kind(differences).map_or_else(String::new, |kind| match differences.len() {
        1 if kind == ENDS => String::new(),
        1 => format!(", which differs in {kind} alone"),
        count => format!(": these {count} lines differ in {kind} alone"),
    });
    format!("{}{kind}", listed.join("; "))
}

fn describe(difference: &Difference<'_>) -> String {
    let line = difference.line + 1;
    match (difference.sent, difference.found) {
        (Some(sent), None) if difference.is_behind => {
            format!("line {line} should be {} but the file ends before it", shown(sent))
        }
        (Some(sent), None) => format!("{} should stand before line {line} but is not there", shown(sent)),
        (None, found) => format!("line {line} is {}, which the hunk leaves out", shown(found.unwrap_or_default())),
        (Some(sent), Some(found)) => differs(line, sent, found),
    }
}

fn differs(line: usize, wanted: &[u8], found: &[u8]) -> String {
    let ending = |bytes: &[u8]| match bytes {
        [.., b'\r', b'\n'] => "CR LF",
        [.., b'\n'] => "LF",
        _ => "no newline",
    };
    let bare = |bytes: &[u8]| -> Vec<u8> {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        bytes.strip_suffix(b"\r").unwrap_or(bytes).to_vec()
    };
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
    let is_short = wanted.len().max(found.len()) <= super::MAX_SHOWN_CHARS;
    if is_short || same < super::MAX_SHOWN_CHARS / 2 {
        return (shown(wanted), shown(found));
    }
    // Some of what is common shows where the difference is; a character is not cut in two.
    let mut start = same - super::MAX_SHOWN_CHARS / 8;
    while start > 0 && wanted.get(start).is_some_and(|byte| byte & 0xc0 == 0x80) {
        start -= 1;
    }
    let length = |bytes: &[u8]| bytes.strip_suffix(b"\n").unwrap_or(bytes).len();
    let tail = |bytes: &[u8]| format!("…{} ({} bytes)", shown(bytes.get(start..).unwrap_or_default()), length(bytes));
    (tail(wanted), tail(found))
}
