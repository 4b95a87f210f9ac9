//! The index, in lockstep with the branch, so that `git status` tells the truth and a person's `git commit` never sees a
//! branch without its artifacts.
//!
//! While the branch moves, git's own lock on the index is held: the new index is written into the lock, the branch is
//! moved, the lock takes the index's place. A lock of somebody else's is waited for, for a bounded time and once; then
//! commits go on, and the index follows when the lock is gone. A lock is never broken here.
//!
//! `git commit` reads the index before it takes the lock: it may put an index in place that is older than ours (its own
//! commit fails then, because the branch has moved). So what was moved lately is remembered until the index that was
//! written is known to have stayed, and is brought in line again if it did not.

mod edit;
pub(crate) mod fold;
pub(crate) mod marks;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use gix::ObjectId;
use gix::bstr::ByteSlice as _;
use gix::index::entry::Stage;
use gix::lock::acquire::Fail;

use self::edit::{Move, Stats};
use crate::core::Core;
use crate::error::WorkError;
use crate::files::Found;
use crate::incoming::fits_index;
use crate::merge::{Change, Lookup, diff};
use crate::pack::checksum;
use crate::refs::{self, INDEXED};
use crate::roll::is_flat;
use crate::safe_path::is_ours;
use crate::tree::Leaf;

/// How long somebody else's lock on the index is waited for before commits go on without the index.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Paths that were moved lately and are remembered.
const RECENT_MAX: usize = 20_000;

/// How long after the branch moved last an index that is in place is taken to stay: longer than any git program takes
/// between reading an index and locking it.
pub(crate) const PROOF: Duration = Duration::from_secs(1);

/// By what a file is known to be the one that was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seal {
    inode: u64,
    bytes: u64,
    changed: i128,
}

/// What is remembered of the index between moves of the branch.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    /// The index that was written or looked through last.
    seal: Option<Seal>,
    /// Paths that were brought in line lately, with what stood there before.
    recent: BTreeMap<Vec<u8>, Option<Leaf>>,
    /// When that was last.
    moved_at: Option<DateTime<Utc>>,
    /// What the files of the artifacts looked like when they were read to be committed.
    stats: Stats,
    /// What the files looked like that are about to be moved to their segments, by their flat paths.
    pub(crate) moving: Stats,
    /// Entries whose files have not been compared with them yet.
    unmarked: BTreeSet<Vec<u8>>,
    /// Where somebody else moved the branch to since the index was brought in line: his index went along, perhaps.
    pub(crate) foreign: Option<ObjectId>,
    /// Whether somebody else's lock was in the way the last time.
    held: bool,
    /// Whether an index was put in place in this life: before, a crash may have come between that and its being noted.
    sure: bool,
}

/// The index as it is to be, written into its lock. Dropped, it leaves the index as it is.
#[derive(Debug)]
pub(crate) struct Written {
    /// None where nothing changes.
    lock: Option<gix::lock::File>,
    seal: Option<Seal>,
    changes: Vec<Change>,
    unmarked: BTreeSet<Vec<u8>>,
    moving: Stats,
}

impl Core {
    /// Whether the index lags behind the branch, or holds entries whose files were not looked at yet.
    #[must_use]
    pub fn index_lags(&self) -> bool {
        let behind = || refs::read(self.store.repo(), INDEXED).ok().flatten() != self.head;
        self.head.is_some() && (!self.index.unmarked.is_empty() || behind() || self.index_was_replaced())
    }

    /// Whether somebody may still put an older index in the place of the one that was written.
    #[must_use]
    pub fn index_is_unproved(&self) -> bool {
        !self.index.recent.is_empty()
    }

    fn index_was_replaced(&self) -> bool {
        self.index_is_unproved() && seal_of(&self.store.repo().index_path()) != self.index.seal
    }

    /// Whether something keeps the index from following: somebody else's lock, or an index that cannot be read.
    #[must_use]
    pub fn index_is_held(&self) -> bool {
        self.index.held
    }

    /// Brings the index in line.
    ///
    /// # Errors
    /// When somebody holds its lock, or it cannot be read; it is tried again then.
    pub fn refresh_index(&mut self, now: DateTime<Utc>) -> Result<(), WorkError> {
        self.sync_head()?;
        let Some(head) = self.head else { return Ok(()) };
        if !self.index_lags() {
            let proof = chrono::TimeDelta::from_std(PROOF).unwrap_or_default();
            // A clock that was set back proves it, too: nothing is held for ever.
            if self.index.moved_at.is_none_or(|at| now < at || now - at >= proof) {
                self.index.recent.clear();
            }
            return Ok(());
        }
        let written = match self.write_index(head) {
            Ok(written) => written,
            Err(error) => {
                self.held_back(&error);
                return Err(error);
            }
        };
        if refs::read(self.store.repo(), &self.branch)? != Some(head) {
            return Err(WorkError::Index("the branch was moved meanwhile".to_owned()));
        }
        self.place_index(written, head, now)
    }

    /// Takes the index's lock and writes into it what the index is to be once the branch is at `tip`. `None`: the branch
    /// goes on without it, and the index follows later.
    pub(crate) fn hold_index(&mut self, tip: ObjectId) -> Option<Written> {
        match self.write_index(tip) {
            Ok(written) => Some(written),
            Err(error) => {
                self.held_back(&error);
                None
            }
        }
    }

    /// Said once, however often it is tried.
    fn held_back(&mut self, error: &WorkError) {
        if !std::mem::replace(&mut self.index.held, true) {
            tracing::warn!(%error, "commits go on without the index, which follows when it can");
        }
    }

    /// The branch is at `tip`: so is the index from now on.
    pub(crate) fn follow_with_index(&mut self, written: Option<Written>, tip: ObjectId, now: DateTime<Utc>) {
        let Some(written) = written else { return };
        if let Err(error) = self.place_index(written, tip, now) {
            tracing::warn!(%error, "the index follows later");
        }
    }

    fn place_index(&mut self, written: Written, tip: ObjectId, now: DateTime<Utc>) -> Result<(), WorkError> {
        if let Some(lock) = written.lock {
            lock.commit().map_err(|e| WorkError::Index(e.to_string()))?;
        }
        supervision::crash_point!("publisher.indexed");
        self.index.sure = true;
        self.index.foreign = None;
        self.index.stats.clear();
        self.index.unmarked = written.unmarked;
        self.index.moving = written.moving;
        self.index.seal = written.seal;
        for change in written.changes {
            if self.index.recent.len() < RECENT_MAX && change.old != change.new {
                self.index.recent.entry(change.path).or_insert(change.old);
            }
        }
        self.index.moved_at = Some(now);
        if std::mem::take(&mut self.index.held) {
            tracing::info!("the index follows the branch again");
        }
        if refs::read(self.store.repo(), INDEXED)? == Some(tip) {
            return Ok(());
        }
        refs::set(self.store.repo(), INDEXED, tip, &self.signature(now))
    }

    fn write_index(&mut self, tip: ObjectId) -> Result<Written, WorkError> {
        let (mut changes, old, new) = self.index_changes(tip)?;
        let path = self.store.repo().index_path();
        let mut lock = self.lock_index(&path)?;
        // Somebody who switches branches does so under this lock, and has perhaps just let it go.
        let found = refs::head_branch(self.store.repo())?;
        if found.as_deref() != Some(self.branch.as_str()) {
            let found = found.unwrap_or_else(|| "HEAD is detached".to_owned());
            return Err(WorkError::HeadElsewhere { expected: self.branch.clone(), found });
        }
        let mut index = open_index(&path, self.store.ids())?;
        let mut seal = seal_of(&path);
        if seal != self.index.seal {
            self.add_recent(new, &mut changes)?;
        }
        if !self.index.sure {
            self.add_left(&index, new, &mut changes)?;
        }
        let folded = fold::folded(&index);
        let (stats, unmarked) = self.marked(&changes, &folded);
        let moving = self.moving(&index, &folded);
        let step = Move { old, new: Some(new), changes: &changes, fold_from: self.config.fold_from };
        if !edit::apply(&mut index, step, &stats, &self.store)? {
            return Ok(Written { lock: None, seal, changes, unmarked, moving });
        }
        self.smudge(&mut index);
        let mut bytes = edit::serialize(&index)?;
        let checksum = checksum(self.store.ids(), &bytes)?;
        bytes.extend_from_slice(checksum.as_slice());
        lock.with_mut(|file| {
            file.write_all(&bytes)?;
            seal = Some(Seal::of(&file.metadata()?));
            Ok(())
        })
        .map_err(|e| WorkError::io(&path, e))?;
        Ok(Written { lock: Some(lock), seal, changes, unmarked, moving })
    }

    /// Somebody else wrote the index: what was brought in line lately is looked at again.
    fn add_recent(&self, new: ObjectId, changes: &mut Vec<Change>) -> Result<(), WorkError> {
        let mut again = Vec::new();
        let named: BTreeSet<&Vec<u8>> = changes.iter().map(|change| &change.path).collect();
        let mut there = Lookup::new(&self.store, new);
        for (path, old) in self.index.recent.iter().filter(|(path, _)| !named.contains(path)) {
            let leaf = there.leaf(path)?;
            again.push(Change { path: path.clone(), old: *old, new: leaf });
        }
        changes.append(&mut again);
        Ok(())
    }

    /// Artifacts that the index has flat, and neither branch nor disk: an index that was put in place just before a crash
    /// has them, and they were rolled over since. Likewise what no index should have: whoever let it in.
    fn add_left(&self, index: &gix::index::File, new: ObjectId, changes: &mut Vec<Change>) -> Result<(), WorkError> {
        let moves: BTreeSet<&[u8]> = self.rolling.moves.iter().map(|step| step.path.as_bytes()).collect();
        let mut there = Lookup::new(&self.store, new);
        for entry in index.entries() {
            let path = entry.path(index);
            let left = Leaf { mode: entry.mode.bits(), id: entry.id };
            if entry.mode != gix::index::entry::Mode::DIR && !fits_index(path, left.mode) {
                changes.push(Change { path: path.to_vec(), old: Some(left), new: None });
                continue;
            }
            let flat = std::str::from_utf8(path).is_ok_and(is_flat);
            if !flat || there.leaf(path)?.is_some() {
                continue;
            }
            // What this very move rolls over leaves the disk a moment later.
            let leaving = moves.contains::<[u8]>(path.as_ref());
            let gone = || self.root.find(Path::new(OsStr::from_bytes(path))).is_ok_and(|found| found == Found::Nothing);
            if (leaving || gone()) && !changes.iter().any(|change| change.path == **path) {
                changes.push(Change { path: path.to_vec(), old: Some(left), new: None });
            }
        }
        Ok(())
    }

    fn lock_index(&self, path: &Path) -> Result<gix::lock::File, WorkError> {
        let patience = if self.index.held { Fail::Immediately } else { Fail::AfterDurationWithBackoff(LOCK_PATIENCE) };
        gix::lock::File::acquire_to_update_resource(path, patience, None, 0)
            .map_err(|e| WorkError::Index(e.to_string()))
    }

    /// What is to change in the index, from which tree to which.
    #[allow(clippy::type_complexity)]
    fn index_changes(&self, tip: ObjectId) -> Result<(Vec<Change>, Option<ObjectId>, ObjectId), WorkError> {
        let repo = self.store.repo();
        // A commit that is gone is as good as none, and so is one whose index is gone: then everything is compared.
        let indexed = refs::read(repo, INDEXED)?.filter(|_| repo.index_path().exists());
        let old = indexed.and_then(|id| self.tree_of(id).ok());
        let new = self.tree_of(tip)?;
        let mut changes = diff(&self.store, old, Some(new))?;
        self.add_foreign(new, &mut changes)?;
        let named: BTreeSet<Vec<u8>> = changes.iter().map(|change| change.path.clone()).collect();
        let mut there = Lookup::new(&self.store, new);
        for path in self.index.unmarked.difference(&named) {
            let leaf = there.leaf(path)?;
            changes.extend(leaf.map(|leaf| Change { path: path.clone(), old: Some(leaf), new: Some(leaf) }));
        }
        Ok((changes, old, new))
    }

    /// What differs from the commit that somebody put the branch on: where that was answered at once, by putting back what
    /// it dropped, nothing else tells that the index dropped it, too.
    fn add_foreign(&self, new: ObjectId, changes: &mut Vec<Change>) -> Result<(), WorkError> {
        let Some(foreign) = self.index.foreign.and_then(|id| self.tree_of(id).ok()) else { return Ok(()) };
        let mut again = BTreeMap::new();
        for change in diff(&self.store, Some(foreign), Some(new))? {
            again.insert(change.path.clone(), change);
        }
        for change in changes.iter_mut() {
            if let Some(again) = again.remove(&change.path) {
                change.old = again.old;
            }
        }
        changes.extend(again.into_values());
        Ok(())
    }

    /// At the start: an index that nobody kept track of yet, or no more, is taken to reflect the branch if it has what is
    /// published as the branch has it. Else everything is compared.
    pub(crate) fn open_indexed(&mut self, now: DateTime<Utc>) -> Result<(), WorkError> {
        let repo = self.store.repo();
        if refs::read(repo, INDEXED)?.is_some() || !repo.index_path().exists() {
            return Ok(());
        }
        let index = open_index(&repo.index_path(), self.store.ids())?;
        match self.head {
            Some(head) if !index.entries().is_empty() && self.is_in_line(&index, head)? => {
                refs::set(repo, INDEXED, head, &self.signature(now))
            }
            _ => Ok(()),
        }
    }

    fn is_in_line(&self, index: &gix::index::File, head: ObjectId) -> Result<bool, WorkError> {
        let published = diff(&self.store, None, Some(self.tree_of(head)?))?;
        let entry = |change: &Change| index.entry_by_path_and_stage(change.path.as_bstr(), Stage::Unconflicted);
        let same = |change: &Change| {
            entry(change).map(|entry| (entry.mode.bits(), entry.id)) == change.new.map(|leaf| (leaf.mode, leaf.id))
        };
        Ok(published.iter().filter(|change| is_ours(&change.path)).all(same))
    }
}

impl Seal {
    fn of(meta: &std::fs::Metadata) -> Self {
        let changed = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        Self { inode: meta.ino(), bytes: meta.len(), changed }
    }
}

fn seal_of(index: &Path) -> Option<Seal> {
    index.metadata().ok().map(|meta| Seal::of(&meta))
}

fn open_index(path: &Path, ids: gix::hash::Kind) -> Result<gix::index::File, WorkError> {
    let options = gix::index::decode::Options::default();
    gix::index::File::at_or_default(path, ids, false, options).map_err(|e| WorkError::Index(e.to_string()))
}
