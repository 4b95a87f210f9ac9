//! The index, brought in line with what the bridge committed, in quiet moments, so that `git status` tells the truth.
//!
//! Only paths that changed on the branch are touched; what somebody else staged stays. The file is rewritten by git,
//! under git's own lock, which is never broken here.

use std::path::Path;

use chrono::{DateTime, Utc};
use gix::bstr::ByteSlice;

use crate::core::Core;
use crate::error::WorkError;
use crate::files::Found;
use crate::merge::{Change, diff};
use crate::refs::{self, INDEXED};
use crate::roll::is_flat;
use crate::safe_path::is_ours;
use crate::tree::Leaf;

/// An object id that stands for nothing.
const NULL_ID: &str = "0000000000000000000000000000000000000000";

impl Core {
    /// Whether the index lags behind the branch.
    #[must_use]
    pub fn index_lags(&self) -> bool {
        self.head.is_some() && refs::read(self.store.repo(), INDEXED).ok().flatten() != self.head
    }

    /// Brings the index in line.
    ///
    /// # Errors
    /// When somebody holds its lock, or it cannot be read; it is tried again then.
    pub fn refresh_index(&mut self, now: DateTime<Utc>) -> Result<(), WorkError> {
        self.sync_head()?;
        let Some(head) = self.head else { return Ok(()) };
        let indexed = refs::read(self.store.repo(), INDEXED)?;
        if indexed == Some(head) {
            return Ok(());
        }
        // A commit that is gone is as good as none: then everything is compared.
        let old = indexed.and_then(|id| self.tree_of(id).ok());
        let new = self.tree_of(head)?;
        let mut changes = diff(&self.store, old, Some(new))?;
        // Whether the last try came to its end is known of this life's alone.
        if !std::mem::take(&mut self.rolling.index_is_sure) {
            changes.extend(self.left_in_index()?);
        }
        let input = self.index_lines(&changes)?;
        if !input.is_empty() {
            self.git.check(&["update-index", "-z", "--index-info"], Some(input))?;
            // It says so by its exit status when other files are dirty: that is no failure.
            self.git.run(&["update-index", "-q", "--refresh"], None)?;
        }
        supervision::crash_point!("publisher.indexed");
        refs::set(self.store.repo(), INDEXED, head, &self.signature(now))?;
        self.rolling.index_is_sure = true;
        Ok(())
    }

    /// Artifacts that the index has flat, and neither branch nor disk: a try that was cut off put them there, and they
    /// were rolled over since.
    fn left_in_index(&mut self) -> Result<Vec<Change>, WorkError> {
        if !self.store.repo().index_path().exists() {
            return Ok(Vec::new());
        }
        let index = self.store.repo().open_index().map_err(|e| WorkError::Index(e.to_string()))?;
        let mut left = Vec::new();
        for entry in index.entries() {
            let path = entry.path(&index);
            let Ok(flat) = std::str::from_utf8(path) else { continue };
            if is_flat(flat)
                && self.get(flat)?.is_none()
                && self.root.find(Path::new(flat)).is_ok_and(|it| it == Found::Nothing)
            {
                let old = Leaf { mode: entry.mode.bits(), id: entry.id };
                left.push(Change { path: path.to_vec(), old: Some(old), new: None });
            }
        }
        Ok(left)
    }

    fn index_lines(&self, changes: &[Change]) -> Result<Vec<u8>, WorkError> {
        let repo = self.store.repo();
        let index = if repo.index_path().exists() {
            Some(repo.open_index().map_err(|e| WorkError::Index(e.to_string()))?)
        } else {
            None
        };
        let mut input = Vec::new();
        for change in changes {
            let path = change.path.as_bstr();
            let entry = index.as_ref().and_then(|index| index.entry_by_path(path));
            let staged = entry.map(|entry| (entry.mode.bits(), entry.id));
            let leaf = |leaf: Option<crate::tree::Leaf>| leaf.map(|leaf| (leaf.mode, leaf.id));
            if staged == leaf(change.new) || (staged != leaf(change.old) && !is_ours(&change.path)) {
                continue;
            }
            let line = match change.new {
                Some(leaf) => format!("{:o} {}\t", leaf.mode, leaf.id),
                None => format!("0 {NULL_ID}\t"),
            };
            input.extend_from_slice(line.as_bytes());
            input.extend_from_slice(&change.path);
            input.push(0);
        }
        Ok(input)
    }

    /// At the start: an index that nobody kept track of yet is taken to reflect the branch, unless there is none.
    pub(crate) fn open_indexed(&mut self, now: DateTime<Utc>) -> Result<(), WorkError> {
        let repo = self.store.repo();
        if refs::read(repo, INDEXED)?.is_some() || !repo.index_path().exists() {
            return Ok(());
        }
        let empty = repo.open_index().map_err(|e| WorkError::Index(e.to_string()))?.entries().is_empty();
        match self.head {
            Some(head) if !empty => refs::set(repo, INDEXED, head, &self.signature(now)),
            _ => Ok(()),
        }
    }
}
