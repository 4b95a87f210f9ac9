//! What becomes of an index's entries when the branch moves (pure: no file is looked at).
//!
//! Only paths that changed on the branch are touched; what somebody else staged stays. A folder that the index holds as
//! one entry (mode `040000`, as in git's sparse index) follows its tree as a whole.

use std::collections::{BTreeMap, BTreeSet};

use gix::ObjectId;
use gix::bstr::{BStr, ByteSlice};
use gix::index::State;
use gix::index::entry::{Flags, Mode, Stage, Stat};

use super::fold;
use crate::error::WorkError;
use crate::incoming::fits_index;
use crate::merge::Change;
use crate::safe_path::is_ours;
use crate::tree::{Leaf, Trees, canonical};

/// What is known of the files that a change names: which object they hold, and the marks by which git knows that again
/// without reading them.
pub type Stats = BTreeMap<Vec<u8>, (ObjectId, Stat)>;

/// One move of the branch.
#[derive(Clone, Copy, Debug)]
pub struct Move<'a> {
    /// The tree that the index reflects.
    pub old: Option<ObjectId>,
    /// The tree that it is to reflect.
    pub new: Option<ObjectId>,
    /// What differs between them.
    pub changes: &'a [Change],
    /// Entries beneath the years from which on these are folded.
    pub fold_from: usize,
}

/// Brings `state` in line with a move of the branch; tells whether anything changed.
///
/// # Errors
/// When a tree cannot be read.
pub fn apply(state: &mut State, step: Move<'_>, stats: &Stats, trees: &dyn Trees) -> Result<bool, WorkError> {
    let folded = fold::follow(state, step, trees)?;
    let mut removed = BTreeSet::new();
    let mut added = Vec::new();
    let mut changed = folded.changed;
    for change in step.changes {
        if !folded.covers(&change.path) {
            changed |= one(state, change, stats, &mut removed, &mut added);
        }
    }
    drop_entries(state, &removed);
    for (path, leaf, stat) in &added {
        state.dangerously_push_entry(*stat, leaf.id, Flags::empty(), mode(leaf.mode), path.as_bstr());
    }
    changed |= !removed.is_empty() || !added.is_empty();
    if !added.is_empty() {
        state.sort_entries();
    }
    changed |= fold::fold(state, step, trees)?;
    if changed {
        // It would tell git of trees that these entries no longer make.
        state.remove_tree();
    }
    Ok(changed)
}

/// Removes the entries at these places.
pub(super) fn drop_entries(state: &mut State, at: &BTreeSet<usize>) {
    if !at.is_empty() {
        state.remove_entries(|index, _, _| at.contains(&index));
    }
}

/// Judges one path; what is to be removed and added is collected, what is to be replaced is replaced.
fn one(
    state: &mut State,
    change: &Change,
    stats: &Stats,
    removed: &mut BTreeSet<usize>,
    added: &mut Vec<(Vec<u8>, Leaf, Stat)>,
) -> bool {
    let path = change.path.as_bstr();
    let ours = is_ours(&change.path);
    let stages = state.entry_range(path);
    let staged = state.entry_by_path_and_stage(path, Stage::Unconflicted).map(|entry| (entry.mode.bits(), entry.id));
    let leaf = |leaf: Option<Leaf>| leaf.map(|leaf| (canonical(leaf.mode), leaf.id));
    // Somebody is in the middle of a merge there, or staged something else.
    let theirs = (stages.is_some() && staged.is_none()) || (staged != leaf(change.old) && staged != leaf(change.new));
    if theirs && !ours {
        return false;
    }
    let known = |leaf: Leaf| stats.get(&change.path).filter(|(id, _)| *id == leaf.id).map(|(_, stat)| *stat);
    // What git refuses, or what would come into the place of what is the bridge's own, is no entry: a person's git goes by
    // the index, and writes what it names.
    match (change.new.filter(|leaf| fits_index(&change.path, leaf.mode)), staged) {
        (None, _) => {
            removed.extend(stages.into_iter().flatten());
            false
        }
        (Some(leaf), Some(found)) => {
            let Some(entry) = state.entry_mut_by_path_and_stage(path, Stage::Unconflicted) else { return false };
            let stat = known(leaf);
            let same = found == (canonical(leaf.mode), leaf.id);
            if same && stat.is_none_or(|stat| stat == entry.stat) {
                return false;
            }
            entry.stat = stat.unwrap_or_default();
            (entry.id, entry.mode) = (leaf.id, mode(leaf.mode));
            entry.flags.remove(Flags::INTENT_TO_ADD | Flags::ASSUME_VALID);
            true
        }
        (Some(leaf), None) => {
            removed.extend(stages.into_iter().flatten());
            removed.extend(in_the_way(state, path));
            added.push((change.path.clone(), leaf, known(leaf).unwrap_or_default()));
            false
        }
    }
}

/// Entries that cannot stand beside a file at `path`: a file where one of its folders is, or files beneath it.
fn in_the_way(state: &State, path: &BStr) -> Vec<usize> {
    let mut found = Vec::new();
    for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
        let above = path.get(..at).unwrap_or_default().as_bstr();
        found.extend(state.entry_range(above).into_iter().flatten());
    }
    let beneath = [path.as_bytes(), b"/"].concat();
    found.extend(state.prefixed_entries_range(beneath.as_bstr()).into_iter().flatten());
    found
}

fn mode(bits: u32) -> Mode {
    Mode::from_bits_truncate(canonical(bits))
}

/// An index as bytes, without the checksum that ends it.
///
/// # Errors
/// When it cannot be written in git's format.
pub fn serialize(state: &State) -> Result<Vec<u8>, WorkError> {
    let mut bytes = Vec::new();
    let options = gix::index::write::Options {
        extensions: gix::index::write::Extensions::Given { tree_cache: true, end_of_index_entry: false },
        skip_hash: true,
    };
    state.write_to(&mut bytes, options).map_err(|e| WorkError::Index(e.to_string()))?;
    // The library says that an index is sparse where it was so when it was read.
    if !state.is_sparse() && state.entries().iter().any(|entry| entry.mode == Mode::DIR) {
        bytes.extend_from_slice(b"sdir");
        bytes.extend_from_slice(&0u32.to_be_bytes());
    }
    Ok(bytes)
}
