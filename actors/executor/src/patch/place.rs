//! Where a hunk belongs. The file is searched as bytes, never split into lines: a hunk's old lines are one needle.

use memchr::memmem;

use super::Hunk;

/// The most bytes that all searches for one diff's shifted hunks look at together: some seconds' worth. An honest diff needs one search of
/// the file for each hunk that shifted otherwise than the one before it.
pub const MAX_SEARCH_BYTES: usize = 8 * 1024 * 1024 * 1024;

/// The place of a hunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Where its old lines begin.
    pub offset: usize,
    /// The number of lines before that.
    pub line: usize,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// It fits nowhere. The place where it should be, where the file reaches that far.
    Nowhere(Option<Place>),
    /// Several places fit; two of them, as numbers of lines before.
    Ambiguous(usize, usize),
    /// It must be at the file's begin, because it starts at line 1, and a hunk before it is there.
    BeginTaken,
    /// It must end with the file, because no context follows its change; the line where it would begin, if the file is
    /// long enough.
    NotAtEnd(Option<Place>),
    /// It inserts without context, elsewhere than at the end.
    NoContext,
    /// It inserts after a last line that has no newline.
    OpenEnd,
    /// [`MAX_SEARCH_BYTES`] was reached.
    TooFar,
}

/// A walk through a file, hunk after hunk.
#[derive(Debug)]
pub(super) struct Walk<'f> {
    content: &'f [u8],
    /// The end of the hunk before.
    cursor: Place,
    is_begun: bool,
    /// How many lines longer the file has become.
    grown: i64,
    /// The most that `grown` ever was.
    most_grown: i64,
    /// How far the hunk before was from its stated place.
    drift: i64,
    /// How many bytes may still be searched.
    budget: &'f mut usize,
}

/// A line number or count as a signed one. The files here are far too small for the bound to matter; what a header
/// states may be anything.
fn signed(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

fn unsigned(number: i64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

fn newlines(bytes: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', bytes).count()
}

impl<'f> Walk<'f> {
    pub(super) fn new(content: &'f [u8], budget: &'f mut usize) -> Self {
        let cursor = Place { offset: 0, line: 0 };
        Self { content, cursor, is_begun: false, grown: 0, most_grown: 0, drift: 0, budget }
    }

    /// The end of the hunk before.
    pub(super) const fn cursor(&self) -> Place {
        self.cursor
    }

    /// Finds the place of `hunk`, whose old lines are `needle`, and steps behind it.
    pub(super) fn step(&mut self, hunk: &Hunk, needle: &[u8]) -> Result<Place, NoPlace> {
        let stated = signed(hunk.new_start.saturating_sub(1)) - self.grown;
        let place = self.find(hunk, needle, stated)?;
        self.drift = signed(place.line) - stated;
        self.cursor = Place {
            offset: place.offset + needle.len(),
            line: place.line.saturating_add(usize::try_from(hunk.old_lines).unwrap_or(usize::MAX)),
        };
        self.is_begun = true;
        let (old, new) = (signed(hunk.old_lines), signed(hunk.new_lines));
        self.grown += new - old;
        self.most_grown = self.most_grown.max(self.grown);
        Ok(place)
    }

    /// The rules for hunks that are tied to an end of the file are git's: one that starts at line 1 is at the begin,
    /// one without context after its change is at the end.
    fn find(&mut self, hunk: &Hunk, needle: &[u8], stated: i64) -> Result<Place, NoPlace> {
        let (at_begin, at_end) = (hunk.old_start <= 1, hunk.trailing == 0);
        if at_begin {
            let begin = Place { offset: 0, line: 0 };
            return match () {
                () if self.is_begun => Err(NoPlace::BeginTaken),
                () if !self.fits(0, needle) => Err(NoPlace::Nowhere(Some(begin))),
                () if at_end && needle.len() != self.content.len() => Err(NoPlace::NotAtEnd(Some(begin))),
                () => Ok(begin),
            };
        }
        if at_end {
            return self.find_at_end(needle, stated);
        }
        let wanted = stated + self.drift;
        let near = self.place_of(wanted)?;
        if let Some(place) = near
            && self.fits(place.offset, needle)
            && !self.is_rivalled(place, needle, stated)?
        {
            return Ok(place);
        }
        self.search(needle, stated, near)
    }

    fn find_at_end(&self, needle: &[u8], stated: i64) -> Result<Place, NoPlace> {
        let nowhere = || NoPlace::NotAtEnd(self.near_cursor(stated));
        let offset = self.content.len().checked_sub(needle.len()).ok_or_else(nowhere)?;
        if offset < self.cursor.offset || !self.fits(offset, needle) {
            return Err(nowhere());
        }
        let before = self.content.get(self.cursor.offset..offset).unwrap_or_default();
        let place = Place { offset, line: self.cursor.line + newlines(before) };
        if needle.is_empty() {
            if before.last().or(self.content.last()).is_some_and(|byte| *byte != b'\n') {
                return Err(NoPlace::OpenEnd);
            }
            if signed(place.line) != stated {
                return Err(NoPlace::NoContext);
            }
        }
        Ok(place)
    }

    /// Whether `needle` stands at `offset`, as whole lines.
    fn fits(&self, offset: usize, needle: &[u8]) -> bool {
        let starts = offset == 0 || self.content.get(offset - 1) == Some(&b'\n');
        let rest = self.content.get(offset..).unwrap_or_default();
        starts && rest.starts_with(needle) && (needle.ends_with(b"\n") || rest.len() == needle.len())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), NoPlace> {
        *self.budget = self.budget.checked_sub(bytes).ok_or(NoPlace::TooFar)?;
        Ok(())
    }

    /// The place of line `line` (counted from 0), unless it lies before the cursor or behind the end.
    fn place_of(&mut self, line: i64) -> Result<Option<Place>, NoPlace> {
        let Some(ahead) = line.checked_sub(signed(self.cursor.line)).filter(|ahead| *ahead >= 0) else {
            return Ok(None);
        };
        let place = self.walk(ahead);
        // What lies before the next hunk's place is walked over once; only what is walked again counts.
        if place.is_none() {
            self.spend(self.content.len() - self.cursor.offset)?;
        }
        Ok(place)
    }

    fn walk(&self, ahead: i64) -> Option<Place> {
        let rest = self.content.get(self.cursor.offset..)?;
        let Some(last) = unsigned(ahead).checked_sub(1) else { return Some(self.cursor) };
        let newline = memchr::memchr_iter(b'\n', rest).nth(last)?;
        Some(Place { offset: self.cursor.offset + newline + 1, line: self.cursor.line + unsigned(ahead) })
    }

    /// For a detail: the stated place, where it can be shown.
    fn near_cursor(&self, stated: i64) -> Option<Place> {
        let ahead = (stated + self.drift).checked_sub(signed(self.cursor.line)).filter(|ahead| *ahead >= 0)?;
        self.walk(ahead)
    }

    /// The next place at or after `from` that fits.
    fn next_match(&mut self, from: Place, end: usize, needle: &[u8]) -> Result<Option<Place>, NoPlace> {
        let finder = memmem::Finder::new(needle);
        let (mut at, mut line) = (from.offset, from.line);
        while let Some(found) = self.content.get(at..end).and_then(|window| finder.find(window)) {
            let offset = at + found;
            self.spend(found.saturating_add(1))?;
            line += newlines(self.content.get(at..offset).unwrap_or_default());
            if self.fits(offset, needle) {
                return Ok(Some(Place { offset, line }));
            }
            // Go on at the next line: nothing in between is a line's begin.
            let rest = self.content.get(offset..end).unwrap_or_default();
            let Some(newline) = memchr::memchr(b'\n', rest) else { return Ok(None) };
            (at, line) = (offset + newline + 1, line + 1);
        }
        self.spend(end.saturating_sub(at))?;
        Ok(None)
    }

    /// The one place behind the cursor that fits.
    fn search(&mut self, needle: &[u8], stated: i64, near: Option<Place>) -> Result<Place, NoPlace> {
        let end = self.content.len();
        let Some(found) = self.next_match(self.cursor, end, needle)? else { return Err(NoPlace::Nowhere(near)) };
        if let Some(after) = self.after(found)
            && let Some(second) = self.next_match(after, end, needle)?
        {
            return Err(NoPlace::Ambiguous(found.line, second.line));
        }
        let distance = (signed(found.line) - stated).abs();
        match self.rival_before(needle, stated, distance)? {
            Some(rival) => Err(NoPlace::Ambiguous(rival, found.line)),
            None => Ok(found),
        }
    }

    /// The begin of the line after `place`.
    fn after(&self, place: Place) -> Option<Place> {
        let newline = memchr::memchr(b'\n', self.content.get(place.offset..)?)?;
        Some(Place { offset: place.offset + newline + 1, line: place.line + 1 })
    }

    /// Whether a place other than `place` fits that is as near to the stated one: git would take that.
    fn is_rivalled(&mut self, place: Place, needle: &[u8], stated: i64) -> Result<bool, NoPlace> {
        if self.drift == 0 {
            return Ok(false);
        }
        let distance = self.drift.abs();
        // From the first line that is as near, to the last, and as far as a place there reaches.
        let from = self.back_from(place, signed(place.line) - (stated - distance));
        let last = self.walk((stated + distance).saturating_sub(signed(self.cursor.line)).max(0));
        let last = last.map_or(self.content.len(), |last| last.offset);
        let end = last.saturating_add(needle.len()).min(self.content.len());
        let mut at = Some(from);
        while let Some(from) = at {
            match self.next_match(from, end, needle)? {
                Some(found) if found != place => return Ok(true),
                Some(found) => at = self.after(found),
                None => break,
            }
        }
        Ok(self.rival_before(needle, stated, distance)?.is_some())
    }

    /// The place `lines` lines before `place`, but none before the cursor.
    fn back_from(&self, place: Place, lines: i64) -> Place {
        if lines <= 0 {
            return place;
        }
        let between = self.content.get(self.cursor.offset..place.offset).unwrap_or_default();
        // The newline that ends the line before the wanted one.
        match memchr::memrchr_iter(b'\n', between).nth(unsigned(lines)) {
            Some(newline) => {
                Place { offset: self.cursor.offset + newline + 1, line: place.line.saturating_sub(unsigned(lines)) }
            }
            None => self.cursor,
        }
    }

    /// The line of a place before the cursor that fits and is as near to the stated one as `distance`. It may be one
    /// that an earlier hunk took, and the distance is taken generously: in doubt there is a rival.
    fn rival_before(&mut self, needle: &[u8], stated: i64, distance: i64) -> Result<Option<usize>, NoPlace> {
        // Git counts in the changed file, where a line before the cursor may be further on than the cursor's own growth
        // says.
        let first = stated - distance - (self.most_grown - self.grown);
        let back = signed(self.cursor.line) - first;
        if back <= 0 || self.cursor.line == 0 {
            return Ok(None);
        }
        let before = self.content.get(..self.cursor.offset).unwrap_or_default();
        let from = match memchr::memrchr_iter(b'\n', before).nth(unsigned(back)) {
            Some(newline) => Place { offset: newline + 1, line: unsigned(first) },
            None => Place { offset: 0, line: 0 },
        };
        let end = self.cursor.offset.saturating_add(needle.len()).min(self.content.len());
        let found = self.next_match(from, end, needle)?;
        Ok(found.filter(|found| found.offset < self.cursor.offset).map(|found| found.line))
    }
}
