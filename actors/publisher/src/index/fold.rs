//! The years of rolled-over artifacts as one entry each, once there are many: an index is written whole at each move of
//! the branch, so it must not grow with history.
//!
//! Git knows such entries from its sparse index: a folder with mode `040000`, marked as not to be looked at, and an
//! extension that says so. Git reads them whatever is configured, unfolds them when it writes the index itself, and the
//! next move of the branch folds them again. A folder is folded only where the index holds exactly what the branch holds:
//! what somebody staged there stays as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::index::entry::{Flags, Mode, Stage, Stat};
use gix::index::{Entry, State};

use super::edit::{Move, drop_entries};
use crate::error::WorkError;
use crate::safe_path::KEPT;
use crate::tree::{FOLDER, Trees};

/// Entries beneath the years from which on these are folded. Below it the index is like any other, and every git tool
/// reads it; an index of that size is written in a few milliseconds.
pub const FOLD_FROM: usize = 20_000;

/// Digits of a year's folder.
const YEAR_DIGITS: usize = 4;

/// The folders that an index holds as one entry each.
#[derive(Debug, Default)]
pub(super) struct Folded {
    prefixes: BTreeSet<BString>,
    /// Whether one of them was brought in line.
    pub(super) changed: bool,
}

impl Folded {
    /// Whether a path lies in one of them.
    pub(super) fn covers(&self, path: &[u8]) -> bool {
        if self.prefixes.is_empty() {
            return false;
        }
        let folders = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let mut above = folders.filter_map(|(at, _)| path.get(..=at));
        above.any(|folder| self.prefixes.contains(folder.as_bstr()))
    }
}

/// The folders that an index holds as one entry each.
pub(super) fn folded(state: &State) -> Folded {
    let folders = state.entries().iter().filter(|entry| entry.mode == Mode::DIR);
    Folded { prefixes: folders.map(|entry| entry.path(state).to_owned()).collect(), changed: false }
}

/// Lets folded folders follow their trees.
pub(super) fn follow(state: &mut State, step: Move<'_>, trees: &dyn Trees) -> Result<Folded, WorkError> {
    let mut folded = Folded::default();
    let mut gone = BTreeSet::new();
    let found: Vec<(usize, BString, ObjectId)> = state
        .entries()
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.mode == Mode::DIR)
        .map(|(at, entry)| (at, entry.path(state).to_owned(), entry.id))
        .collect();
    for (at, path, id) in found {
        let new = folder_at(trees, step.new, &path)?;
        // A folder that is not ours stays as somebody staged it.
        let follows = year_of(&path).is_some() || folder_at(trees, step.old, &path)? == Some(id);
        if follows && new != Some(id) {
            folded.changed = true;
            match (new, state.entries_mut().get_mut(at)) {
                (Some(new), Some(entry)) => entry.id = new,
                _ => drop(gone.insert(at)),
            }
        }
        if !gone.contains(&at) {
            folded.prefixes.insert(path);
        }
    }
    drop_entries(state, &gone);
    Ok(folded)
}

/// Folds the years if there is cause to; tells whether anything changed.
pub(super) fn fold(state: &mut State, step: Move<'_>, trees: &dyn Trees) -> Result<bool, WorkError> {
    let (years, folded_before) = years(state);
    let unfolded: usize = years.values().map(ExactSizeIterator::len).sum();
    if unfolded == 0 || (unfolded < step.fold_from && !folded_before) {
        return Ok(false);
    }
    let mut removed = BTreeSet::new();
    let mut added = Vec::new();
    for (path, range) in years {
        let Some(id) = folder_at(trees, step.new, &path)? else { continue };
        let Some(entries) = state.entries().get(range.clone()) else { continue };
        let mut rest = entries.iter();
        let same = matches(trees, id, &path, state, &mut rest)? && rest.next().is_none();
        if same {
            removed.extend(range);
            added.push((path, id));
        }
    }
    if added.is_empty() {
        return Ok(false);
    }
    drop_entries(state, &removed);
    for (path, id) in &added {
        let flags = Flags::EXTENDED | Flags::SKIP_WORKTREE;
        state.dangerously_push_entry(Stat::default(), *id, flags, Mode::DIR, path.as_bstr());
    }
    state.sort_entries();
    Ok(true)
}

/// The years that lie unfolded, with their entries' places; and whether some are folded.
fn years(state: &State) -> (BTreeMap<BString, Range<usize>>, bool) {
    let mut years: BTreeMap<BString, Range<usize>> = BTreeMap::new();
    let mut folded = false;
    for folder in KEPT {
        let Some(range) = state.prefixed_entries_range(folder.as_bstr()) else { continue };
        let entries = state.entries().get(range.clone()).unwrap_or_default();
        let mut current: Option<(&BStr, Range<usize>)> = None;
        for (at, entry) in range.zip(entries) {
            let Some(year) = year_of(entry.path(state)).map(ByteSlice::as_bstr) else { continue };
            if entry.mode == Mode::DIR {
                folded = true;
                continue;
            }
            match &mut current {
                Some((path, range)) if *path == year => range.end = at + 1,
                _ => {
                    years.extend(current.take().map(|(path, range)| (path.to_owned(), range)));
                    current = Some((year, at..at + 1));
                }
            }
        }
        years.extend(current.map(|(path, range)| (path.to_owned(), range)));
    }
    (years, folded)
}

/// `results/2026/` of `results/2026/11/24/0000/a.json`; `None` for what lies in no year.
fn year_of(path: &[u8]) -> Option<&[u8]> {
    let folder = KEPT.iter().find(|folder| path.starts_with(folder))?;
    let digits = path.get(folder.len()..folder.len() + YEAR_DIGITS)?;
    let end = folder.len() + YEAR_DIGITS;
    let year = digits.iter().all(u8::is_ascii_digit) && path.get(end) == Some(&b'/');
    if year { path.get(..=end) } else { None }
}

/// The tree of a folder (its path ends with `/`) beneath `root`.
fn folder_at(trees: &dyn Trees, root: Option<ObjectId>, path: &[u8]) -> Result<Option<ObjectId>, WorkError> {
    let mut at = root;
    for part in path.split_inclusive(|byte| *byte == b'/') {
        let Some(id) = at else { return Ok(None) };
        at = trees.tree(id)?.get(part).filter(|leaf| leaf.mode == FOLDER).map(|leaf| leaf.id);
    }
    Ok(at)
}

/// Whether the next entries are exactly what a tree holds.
fn matches<'a>(
    trees: &dyn Trees,
    tree: ObjectId,
    prefix: &[u8],
    state: &'a State,
    entries: &mut impl Iterator<Item = &'a Entry>,
) -> Result<bool, WorkError> {
    for (name, leaf) in trees.tree(tree)? {
        let path = [prefix, name.as_slice()].concat();
        if leaf.mode == FOLDER {
            if !matches(trees, leaf.id, &path, state, entries)? {
                return Ok(false);
            }
            continue;
        }
        let same = entries.next().is_some_and(|entry| {
            let settled = entry.stage() == Stage::Unconflicted && !entry.flags.contains(Flags::INTENT_TO_ADD);
            settled && entry.path(state) == path.as_bstr() && (entry.mode.bits(), entry.id) == (leaf.mode, leaf.id)
        });
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}
