//! Where the hunks of a file belong.
//!
//! A hunk's *candidates* are all places in the file, as it was before the diff, at which its old lines stand. It goes in
//! where exactly one place is right:
//!
//! - One candidate is right wherever it is, unless the hunk states another place at which its new lines stand already, or
//!   nearly all of its old lines: then somebody changed that place, and the candidate is a twin of it.
//! - Of several, the right one is the one that the header names. Both of its numbers must name the same, or one of them
//!   none; how far other hunks of the file have shifted for certain must not point to another. Numbers that name none
//!   are mended by the hunks before and behind, where these have shifted alike. A line that the header quotes tells
//!   candidates apart, too.
//!
//! The file is read once, however many hunks there are: each hunk is looked for by the line of it that says most.

use std::cell::Cell;
use std::collections::HashMap;

use super::hunk::Side;
use super::{Hunk, hunk::first_line};

/// The most bytes that the hunks of one diff are compared with files: some seconds' worth. An honest diff compares about as many
/// as it has itself.
pub const MAX_SEARCH_BYTES: usize = 8 * 1024 * 1024 * 1024;

/// The most candidates that are kept of a hunk.
const MAX_CANDIDATES: usize = 64;
/// Each so many lines it is remembered where one begins.
const LINES_A_MARK: usize = 64;
/// What looking at a line costs that is not compared.
const LOOK_BYTES: usize = 16;
/// The most places of a quoted line that are kept.
const MAX_QUOTED: usize = 1024;

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where it begins.
    pub offset: usize,
    /// The number of lines before that.
    pub line: usize,
}

/// Why a hunk has no place. Lines are numbers of lines before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// Its old lines stand nowhere.
    Nowhere,
    /// Its new lines stand already at the place that it states; elsewhere, where this names a line, there is a twin.
    Already(usize, Option<usize>),
    /// At the place that it states nearly all of its old lines stand; all of them elsewhere.
    Nearly(usize, usize),
    /// Several places fit.
    Ambiguous(Vec<usize>),
    /// It inserts without context, elsewhere than at the file's end.
    NoContext,
    /// It inserts after a last line that has no newline.
    OpenEnd,
    /// It would leave a line without a newline in the middle of the file; the line at which it fits.
    EndsEarly(usize),
    /// It must end with the file; a line at which it fits.
    NotAtEnd(usize),
    /// A line that its header quotes is not there, or not once: which, and how often.
    Scope(usize, usize),
    /// It changes the same lines as another hunk, whose number is this.
    Overlaps(usize),
    /// [`MAX_SEARCH_BYTES`] was reached.
    TooFar,
}

/// A hunk to be placed.
#[derive(Debug)]
pub(super) struct Wanted<'h> {
    pub hunk: &'h Hunk,
    /// Its old lines, as they must stand in the file.
    pub old: Vec<u8>,
    /// Its new lines.
    pub new: Vec<u8>,
    /// Whether the numbers of its header are beyond doubt.
    pub is_trusted: bool,
    /// The lines that its headers quote.
    pub scopes: Vec<&'h [u8]>,
}

/// A file with the begins of some of its lines.
#[derive(Debug)]
pub(super) struct Lines<'f> {
    pub content: &'f [u8],
    marks: Vec<usize>,
    /// How many lines there are; a last one without a newline counts.
    pub count: usize,
}

impl<'f> Lines<'f> {
    /// Where line `line` (counted from 0) begins; the end for the one after the last.
    pub(super) fn offset(&self, line: usize) -> Option<usize> {
        if line == self.count {
            return Some(self.content.len());
        }
        let mark = *self.marks.get(line / LINES_A_MARK)?;
        match (line % LINES_A_MARK).checked_sub(1) {
            None => Some(mark),
            Some(last) => {
                memchr::memchr_iter(b'\n', self.content.get(mark..)?).nth(last).map(|newline| mark + newline + 1)
            }
        }
    }

    fn place(&self, line: i64) -> Option<Place> {
        let line = usize::try_from(line).ok()?;
        Some(Place { offset: self.offset(line)?, line })
    }

    /// Whether `needle` stands at `offset`, the begin of a line, as whole lines.
    fn fits(&self, offset: usize, needle: &[u8]) -> bool {
        let rest = self.content.get(offset..).unwrap_or_default();
        rest.starts_with(needle) && (needle.ends_with(b"\n") || rest.len() == needle.len())
    }
}

/// A line number or count as a signed one. The files here are far too small for the bound to matter; what a header
/// states may be anything.
fn signed(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

/// The line before an empty range is its place; any other range's place is before its first line.
fn line_of(start: u64, count: u64) -> i64 {
    if count == 0 { signed(start) } else { signed(start) - 1 }
}

/// A hash of a line that looks at its length and its ends alone.
fn hash(line: &[u8]) -> u64 {
    let word = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let (first, last) = match line.len() {
        0..8 => {
            let mut padded = [0; 8];
            padded.iter_mut().zip(line).for_each(|(to, from)| *to = *from);
            (u64::from_le_bytes(padded), 0)
        }
        _ => (word(line.first_chunk()), word(line.last_chunk())),
    };
    let mixed = first ^ last.rotate_left(29) ^ signed(line.len()).unsigned_abs().rotate_left(53);
    mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A hunk's line by which it is looked for.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    hash: u64,
    /// Which hunk.
    hunk: usize,
    /// Lines and bytes of the hunk before it.
    line: usize,
    offset: usize,
}

/// The old line that says most: long, and not there again and again.
fn anchor(number: usize, old: &[u8]) -> Option<Anchor> {
    const MAX_LENGTH: usize = 64;
    let mut times = HashMap::new();
    let lines = || old.split_inclusive(|byte| *byte == b'\n');
    for line in lines() {
        *times.entry(line).or_insert(0_usize) += 1;
    }
    let mut best: Option<(usize, Anchor)> = None;
    let mut offset = 0;
    for (number_of_line, line) in lines().enumerate() {
        let weight = (line.len().min(MAX_LENGTH) << 16) / times.get(line).map_or(1, |times| times * times);
        if best.is_none_or(|(most, _)| weight > most) {
            let hash = hash(line.strip_suffix(b"\n").unwrap_or(line));
            best = Some((weight, Anchor { hash, hunk: number, line: number_of_line, offset }));
        }
        offset += line.len();
    }
    best.map(|(_, anchor)| anchor)
}

/// Anchors by their hash.
struct Table {
    /// The first anchor of a bucket and one more, or 0.
    heads: Vec<u32>,
    /// The next anchor of the same bucket, likewise.
    next: Vec<u32>,
    anchors: Vec<Anchor>,
    shift: u32,
}

impl Table {
    fn new(anchors: Vec<Anchor>) -> Self {
        let bits = (anchors.len() * 4).next_power_of_two().trailing_zeros().clamp(8, 24);
        let mut table =
            Self { heads: vec![0; 1 << bits], next: vec![0; anchors.len()], anchors: Vec::new(), shift: 64 - bits };
        for (number, anchor) in anchors.iter().enumerate() {
            let bucket = table.bucket(anchor.hash);
            if let (Some(head), Some(next)) = (table.heads.get_mut(bucket), table.next.get_mut(number)) {
                *next = *head;
                *head = u32::try_from(number + 1).unwrap_or(0);
            }
        }
        table.anchors = anchors;
        table
    }

    fn bucket(&self, hash: u64) -> usize {
        usize::try_from(hash >> self.shift).unwrap_or(0)
    }
}

/// The hunks of one file, and where they can be.
pub(super) struct Search<'w, 'f> {
    wanted: &'w [Wanted<'w>],
    pub lines: Lines<'f>,
    /// The candidates of each hunk, in the order of the file; [`MAX_CANDIDATES`] at the most.
    candidates: Vec<Vec<Place>>,
    /// Lines that must be there for a hunk, without white space at their ends, and where the lines after them begin.
    quoted: HashMap<&'w [u8], Vec<usize>>,
    /// How many bytes may still be compared.
    budget: Cell<usize>,
}

impl<'w, 'f> Search<'w, 'f> {
    /// Reads `content` once and finds the candidates of all hunks. `budget` is how many bytes may be compared.
    ///
    /// # Errors
    /// [`NoPlace::TooFar`] with the number of a hunk.
    pub(super) fn new(content: &'f [u8], wanted: &'w [Wanted<'w>], budget: usize) -> Result<Self, (usize, NoPlace)> {
        let anchors = wanted.iter().enumerate().filter(|(_, wanted)| !wanted.is_trusted);
        let table = Table::new(anchors.filter_map(|(number, wanted)| anchor(number, &wanted.old)).collect());
        let lines = Lines { content, marks: vec![0], count: 0 };
        let scopes = wanted.iter().filter(|wanted| wanted.hunk.is_scoped).flat_map(|wanted| &wanted.scopes);
        let quoted = scopes.map(|scope| (scope.trim_ascii(), Vec::new())).collect();
        let candidates = vec![Vec::new(); wanted.len()];
        let mut search = Self { wanted, lines, candidates, quoted, budget: Cell::new(budget) };
        search.scan(table)?;
        Ok(search)
    }

    /// How many bytes may still be compared.
    pub(super) fn budget(&self) -> usize {
        self.budget.get()
    }

    fn spend(&self, bytes: usize) -> Result<(), NoPlace> {
        let left = self.budget.get().checked_sub(bytes).ok_or(NoPlace::TooFar)?;
        self.budget.set(left);
        Ok(())
    }

    fn scan(&mut self, mut table: Table) -> Result<(), (usize, NoPlace)> {
        let content = self.lines.content;
        let (mut start, mut line) = (0, 0);
        let ends = memchr::memchr_iter(b'\n', content).chain((!content.ends_with(b"\n")).then_some(content.len()));
        for end in ends {
            if start == content.len() {
                break;
            }
            if line % LINES_A_MARK == 0 && line > 0 {
                self.lines.marks.push(start);
            }
            let text = content.get(start..end).unwrap_or_default();
            let hash = hash(text);
            let bucket = table.bucket(hash);
            if table.heads.get(bucket).is_some_and(|head| *head > 0) {
                self.look(&mut table, hash, Place { offset: start, line })?;
            }
            if !self.quoted.is_empty()
                && let Some(found) = self.quoted.get_mut(text.trim_ascii())
                && found.len() < MAX_QUOTED
            {
                found.push((end + 1).min(content.len()));
            }
            (start, line) = (end + 1, line + 1);
        }
        self.lines.count = line;
        Ok(())
    }

    /// Holds the hunks that have a line like the one at `place` against the file there. One that has all the candidates that
    /// are kept is not looked for any more.
    fn look(&mut self, table: &mut Table, hash: u64, place: Place) -> Result<(), (usize, NoPlace)> {
        let bucket = table.bucket(hash);
        let mut before: Option<usize> = None;
        let mut at = table.heads.get(bucket).copied().unwrap_or(0);
        while let Some(number) = usize::try_from(at).ok().and_then(|at| at.checked_sub(1)) {
            let next = table.next.get(number).copied().unwrap_or(0);
            let Some(anchor) = table.anchors.get(number).copied() else { break };
            let mut is_full = false;
            if anchor.hash == hash
                && let Some(place) = self.try_anchor(anchor, place)?
                && let Some(candidates) = self.candidates.get_mut(anchor.hunk)
            {
                candidates.push(place);
                is_full = candidates.len() >= MAX_CANDIDATES;
            }
            match before {
                _ if !is_full => before = Some(number),
                None => drop(table.heads.get_mut(bucket).map(|head| *head = next)),
                Some(before) => drop(table.next.get_mut(before).map(|link| *link = next)),
            }
            at = next;
        }
        Ok(())
    }

    fn try_anchor(&self, anchor: Anchor, place: Place) -> Result<Option<Place>, (usize, NoPlace)> {
        let Some(wanted) = self.wanted.get(anchor.hunk) else { return Ok(None) };
        let (Some(offset), Some(line)) = (place.offset.checked_sub(anchor.offset), place.line.checked_sub(anchor.line))
        else {
            return Ok(None);
        };
        let content = self.lines.content;
        let starts = offset == 0 || content.get(offset - 1) == Some(&b'\n');
        let (first, _) = first_line(&wanted.old);
        let is_promising = starts && content.get(offset..).is_some_and(|rest| rest.starts_with(first));
        let cost = if is_promising { wanted.old.len() } else { LOOK_BYTES };
        self.spend(cost).map_err(|no_place| (anchor.hunk, no_place))?;
        Ok((is_promising && self.lines.fits(offset, &wanted.old)).then_some(Place { offset, line }))
    }

    /// The places of all hunks.
    ///
    /// # Errors
    /// The number of the first hunk that has none, and why.
    pub(super) fn places(&self) -> Result<Vec<Place>, (usize, NoPlace)> {
        let certain: Vec<Option<Place>> = (0..self.wanted.len()).map(|number| self.certain(number)).collect();
        let shifts = self.shifts(&certain);
        let place = |number: usize| self.decide(number, &shifts).map_err(|no_place| (number, no_place));
        (0..self.wanted.len()).map(place).collect()
    }

    /// The one candidate of a hunk that can be anywhere.
    fn certain(&self, number: usize) -> Option<Place> {
        match self.candidates.get(number)?.as_slice() {
            [one] => Some(*one),
            _ => None,
        }
    }

    /// How far each hunk of which that is certain has shifted.
    fn shifts(&self, certain: &[Option<Place>]) -> Vec<Option<i64>> {
        let shift = |(wanted, place): (&Wanted<'_>, &Option<Place>)| {
            Some(signed(place.as_ref()?.line) - line_of(wanted.hunk.stated?.old, wanted.hunk.old_lines))
        };
        self.wanted.iter().zip(certain).map(shift).collect()
    }

    /// The lines that the header of a hunk names, where the file has them: by its first number, by its second.
    fn stated(&self, wanted: &Wanted<'_>) -> [Option<Place>; 2] {
        let Some(stated) = wanted.hunk.stated else { return [None, None] };
        let old = line_of(stated.old, wanted.hunk.old_lines);
        let new = line_of(stated.new, wanted.hunk.new_lines).saturating_sub(wanted.hunk.grown);
        [self.lines.place(old), self.lines.place(new)]
    }

    fn decide(&self, number: usize, shifts: &[Option<i64>]) -> Result<Place, NoPlace> {
        let Some(wanted) = self.wanted.get(number) else { return Err(NoPlace::Nowhere) };
        let stated = self.stated(wanted);
        let place = match self.candidates.get(number).map_or(&[][..], Vec::as_slice) {
            _ if wanted.old.is_empty() => self.insertion(wanted, stated)?,
            _ if wanted.is_trusted => self.trusted(wanted, stated)?,
            candidates if wanted.hunk.is_scoped => self.scoped(wanted, candidates)?,
            [] => return Err(self.already(wanted, stated).unwrap_or(NoPlace::Nowhere)),
            [one] => self.lone(wanted, *one, stated)?,
            several => self.named(number, several, stated, shifts)?,
        };
        let end = place.offset + wanted.old.len();
        if wanted.hunk.at_end && end != self.lines.content.len() {
            return Err(NoPlace::NotAtEnd(place.line));
        }
        if !wanted.new.is_empty() && !wanted.new.ends_with(b"\n") && end != self.lines.content.len() {
            return Err(NoPlace::EndsEarly(place.line));
        }
        Ok(place)
    }

    /// Lines that are added without any context: to an empty file, at the end, or where the header's numbers are beyond doubt.
    fn insertion(&self, wanted: &Wanted<'_>, stated: [Option<Place>; 2]) -> Result<Place, NoPlace> {
        let content = self.lines.content;
        let end = Place { offset: content.len(), line: self.lines.count };
        let is_open = !content.is_empty() && !content.ends_with(b"\n");
        let place = match stated[0] {
            _ if content.is_empty() || wanted.hunk.at_end => end,
            Some(place) if wanted.is_trusted || place == end => place,
            _ => return Err(NoPlace::NoContext),
        };
        if place == end && is_open { Err(NoPlace::OpenEnd) } else { Ok(place) }
    }

    fn trusted(&self, wanted: &Wanted<'_>, stated: [Option<Place>; 2]) -> Result<Place, NoPlace> {
        let fits = |place: &Place| self.lines.fits(place.offset, &wanted.old);
        stated[0].filter(fits).ok_or(NoPlace::Nowhere)
    }

    /// One place fits.
    fn lone(&self, wanted: &Wanted<'_>, one: Place, stated: [Option<Place>; 2]) -> Result<Place, NoPlace> {
        if stated.contains(&Some(one)) {
            return match self.stands_already(wanted, one) {
                true => Err(NoPlace::Already(one.line, None)),
                false => Ok(one),
            };
        }
        // A single line says too little to be moved.
        if let (Some(stated), 1, 0, 0) =
            (wanted.hunk.stated, wanted.hunk.old_lines, wanted.hunk.leading, wanted.hunk.trailing)
        {
            let line = usize::try_from(stated.old.saturating_sub(1)).unwrap_or(usize::MAX);
            return Err(NoPlace::Nearly(line, one.line));
        }
        match self.already(wanted, stated) {
            Some(NoPlace::Already(line, _)) => return Err(NoPlace::Already(line, Some(one.line))),
            Some(other) => return Err(other),
            None => {}
        }
        let near = stated.into_iter().flatten().find(|place| self.nearly_stands(wanted, *place));
        near.map_or(Ok(one), |place| Err(NoPlace::Nearly(place.line, one.line)))
    }

    /// Several places fit: the header tells which is meant.
    fn named(
        &self,
        number: usize,
        several: &[Place],
        stated: [Option<Place>; 2],
        shifts: &[Option<i64>],
    ) -> Result<Place, NoPlace> {
        let Some(wanted) = self.wanted.get(number) else { return Err(NoPlace::Nowhere) };
        let ambiguous = || NoPlace::Ambiguous(several.iter().map(|place| place.line).collect());
        let fits = |place: &Place| self.lines.fits(place.offset, &wanted.old);
        let old = wanted.hunk.stated.map(|stated| line_of(stated.old, wanted.hunk.old_lines));
        let shifted = |shift: i64| self.lines.place(old?.checked_add(shift)?).filter(fits);
        let named = match stated.map(|place| place.filter(fits)) {
            [Some(one), Some(other)] if one != other => return Err(ambiguous()),
            [Some(one), _] | [None, Some(one)] => Some(one),
            [None, None] => None,
        };
        let by_number = match self.neighbours(number, shifts) {
            (None, None) => named.filter(|named| !self.is_crowded(wanted, *named, several)),
            // The hunks around it stand where they say, or have shifted alike.
            (Some(before), Some(behind)) if before == behind => shifted(before),
            (Some(0), None) | (None, Some(0)) => named,
            _ => None,
        };
        let other = shifts.iter().flatten().filter_map(|shift| shifted(*shift)).find(|place| Some(*place) != by_number);
        match by_number {
            Some(place) if other.is_none() => Ok(place),
            _ => match self.already(wanted, stated) {
                Some(already) => Err(already),
                None => self.beneath_quoted(wanted, several)?.ok_or_else(ambiguous),
            },
        }
    }

    /// Whether another candidate overlaps one whose hunk has little context: a line more or less in front would lead there.
    /// Programs give three lines on each side.
    fn is_crowded(&self, wanted: &Wanted<'_>, named: Place, several: &[Place]) -> bool {
        const ENOUGH: u64 = 3;
        if wanted.hunk.leading >= ENOUGH && wanted.hunk.trailing >= ENOUGH {
            return false;
        }
        let length = usize::try_from(wanted.hunk.old_lines).unwrap_or(usize::MAX);
        several.iter().any(|other| other.line != named.line && other.line.abs_diff(named.line) < length)
    }

    /// How far the nearest hunks before and behind have shifted, of which that is certain.
    fn neighbours(&self, number: usize, shifts: &[Option<i64>]) -> (Option<i64>, Option<i64>) {
        let before = shifts.get(..number).and_then(|before| before.iter().rev().flatten().next());
        let behind = shifts.get(number + 1..).and_then(|behind| behind.iter().flatten().next());
        (before.copied(), behind.copied())
    }

    /// Of several places the one that lies beneath the line that the header quotes, as git quotes a function's first line:
    /// no line in between stands as far out as that.
    fn beneath_quoted(&self, wanted: &Wanted<'_>, several: &[Place]) -> Result<Option<Place>, NoPlace> {
        let Some(scope) = wanted.scopes.last().filter(|_| several.len() < MAX_CANDIDATES) else { return Ok(None) };
        let mut beneath = None;
        for place in several {
            if self.is_beneath(scope.trim_ascii(), *place)? {
                if beneath.is_some() {
                    return Ok(None);
                }
                beneath = Some(*place);
            }
        }
        Ok(beneath)
    }

    fn is_beneath(&self, scope: &[u8], place: Place) -> Result<bool, NoPlace> {
        /// Git cuts what it quotes at 80 bytes; what is this long and a line's begin is taken for all of it.
        const CUT: usize = 40;
        let above = self.lines.content.get(..place.offset).unwrap_or_default();
        let mut least = usize::MAX;
        for line in above.split(|byte| *byte == b'\n').rev().skip(1) {
            self.spend(line.len() + LOOK_BYTES)?;
            let text = line.trim_ascii();
            let depth = line.len() - line.trim_ascii_start().len();
            if text == scope || scope.len() >= CUT && text.starts_with(scope) {
                return Ok(depth < least);
            }
            if text.first().is_some_and(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$')) {
                least = least.min(depth);
            }
            if least == 0 {
                break;
            }
        }
        Ok(false)
    }

    /// The one candidate behind lines that must be there once each.
    fn scoped(&self, wanted: &Wanted<'_>, candidates: &[Place]) -> Result<Place, NoPlace> {
        let mut from = 0;
        for (number, scope) in wanted.scopes.iter().enumerate() {
            let found = self.quoted.get(scope.trim_ascii()).map_or(&[][..], Vec::as_slice);
            match found.get(found.partition_point(|end| *end <= from)..).unwrap_or_default() {
                [one] => from = *one,
                other => return Err(NoPlace::Scope(number, other.len())),
            }
        }
        let behind = candidates.iter().filter(|place| place.offset >= from && self.ends_rightly(wanted, **place));
        let behind: Vec<&Place> = behind.collect();
        match behind.as_slice() {
            [] if candidates.len() >= MAX_CANDIDATES => {
                Err(NoPlace::Ambiguous(candidates.iter().map(|place| place.line).collect()))
            }
            [] => match candidates.iter().find(|place| place.offset >= from) {
                Some(place) => Err(NoPlace::NotAtEnd(place.line)),
                None => Err(NoPlace::Nowhere),
            },
            [one] => Ok(**one),
            several => Err(NoPlace::Ambiguous(several.iter().map(|place| place.line).collect())),
        }
    }

    /// Whether a hunk that must end with the file does.
    fn ends_rightly(&self, wanted: &Wanted<'_>, place: Place) -> bool {
        !wanted.hunk.at_end || place.offset + wanted.old.len() == self.lines.content.len()
    }

    fn already(&self, wanted: &Wanted<'_>, stated: [Option<Place>; 2]) -> Option<NoPlace> {
        let stands = |place: &Place| self.stands_already(wanted, *place);
        stated.into_iter().flatten().find(stands).map(|place| NoPlace::Already(place.line, None))
    }

    /// Whether a hunk's new lines stand at `place`. Where its old ones do as well, they must be more.
    fn stands_already(&self, wanted: &Wanted<'_>, place: Place) -> bool {
        let fits = |needle: &[u8]| !needle.is_empty() && self.lines.fits(place.offset, needle);
        fits(&wanted.new) && (wanted.hunk.new_lines > wanted.hunk.old_lines || !fits(&wanted.old))
    }

    /// Whether all of a hunk's old lines but one, or two thirds of them, stand at `place`.
    fn nearly_stands(&self, wanted: &Wanted<'_>, place: Place) -> bool {
        let lines = wanted.old.split_inclusive(|byte| *byte == b'\n');
        let rest = self.lines.content.get(place.offset..).unwrap_or_default();
        let same = lines.zip(rest.split_inclusive(|byte| *byte == b'\n')).filter(|(old, found)| old == found).count();
        let count = usize::try_from(wanted.hunk.old_lines).unwrap_or(usize::MAX);
        count >= 2 && (same >= count - 1 || same.saturating_mul(3) >= count.saturating_mul(2))
    }

    /// The line at which the header of hunk `number` says that it begins.
    pub(super) fn first_stated(&self, number: usize) -> Option<Place> {
        self.wanted.get(number).and_then(|wanted| self.stated(wanted).into_iter().flatten().next())
    }
}

/// What a hunk does to the file at its place: bytes from `at` to `end` give way to a range of the hunk's new lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    pub at: usize,
    pub end: usize,
    /// Into the new lines.
    pub from: usize,
    pub to: usize,
    pub hunk: usize,
}

/// The edits of all hunks at their places, in the order of the file.
///
/// # Errors
/// Where two hunks change the same lines, or insert at the same place.
pub(super) fn edits(
    text: &[u8],
    wanted: &[Wanted<'_>],
    places: &[Place],
    crlf: bool,
) -> Result<Vec<Edit>, (usize, NoPlace)> {
    let mut edits: Vec<Edit> = Vec::new();
    for (number, (wanted, place)) in wanted.iter().zip(places).enumerate() {
        let (mut at, mut new) = (place.offset, 0);
        let mut is_open = false;
        for (side, line) in wanted.hunk.lines(text) {
            let length = line.len() + usize::from(crlf && line.ends_with(b"\n"));
            if side == Side::Context {
                (at, new, is_open) = (at + length, new + length, false);
                continue;
            }
            if !is_open {
                edits.push(Edit { at, end: at, from: new, to: new, hunk: number });
                is_open = true;
            }
            let Some(edit) = edits.last_mut() else { continue };
            if side == Side::Old {
                at += length;
                edit.end = at;
            } else {
                new += length;
                edit.to = new;
            }
        }
    }
    edits.sort_by_key(|edit| (edit.at, edit.end));
    for pair in edits.windows(2) {
        if let [one, other] = pair
            && (one.end > other.at || one.at == other.at)
            && one.hunk != other.hunk
        {
            let (first, second) = (one.hunk.min(other.hunk), one.hunk.max(other.hunk));
            return Err((second, NoPlace::Overlaps(first)));
        }
    }
    Ok(edits)
}
