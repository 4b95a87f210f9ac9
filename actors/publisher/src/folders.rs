//! What others write and the bridge publishes as it is found: `summaries/` and `context/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use chrono::{DateTime, Utc};
use gix::objs::Kind;

use crate::checkout::is_passing;
use crate::core::Core;
use crate::error::WorkError;
use crate::files::Found;
use crate::files::Stamp;
use crate::incoming::fits_work_tree;
use crate::objects::MAX_BLOB_BYTES;
use crate::tree::{EXECUTABLE, FILE, Leaf, canonical};

/// The folders.
const FOLDERS: [&str; 2] = ["context", "summaries"];

/// The most files that are published of each.
const MAX_FILES: usize = 50_000;

impl Core {
    /// Commits what changed in `summaries/` and `context/`; tells whether anything did.
    ///
    /// # Errors
    /// When something could not be read or committed; it is found again next time.
    pub fn scan(&mut self, now: DateTime<Utc>) -> Result<bool, WorkError> {
        self.sync_head()?;
        self.put_back(now)?;
        // Until the work tree has what upstream brought, a missing file does not mean a deleted one.
        if self.owed.is_some() || self.recovery.is_some() {
            return Ok(false);
        }
        match self.scan_all(now) {
            Ok(made) => Ok(made > 0),
            Err(error) => {
                self.loaded = false;
                self.seen.clear();
                Err(error)
            }
        }
    }

    fn scan_all(&mut self, now: DateTime<Utc>) -> Result<u64, WorkError> {
        let mut tip = self.head;
        let mut made = 0;
        let mut seen = BTreeMap::new();
        let mut changed = false;
        for folder in FOLDERS {
            changed |= self.scan_folder(folder, &mut seen)?;
        }
        if changed {
            tip = Some(self.seal(tip, "bridge: summaries", now)?);
            made += 1;
        }
        self.publish(tip, made, now)?;
        self.seen = seen;
        Ok(made)
    }

    fn scan_folder(&mut self, folder: &str, seen: &mut BTreeMap<String, Stamp>) -> Result<bool, WorkError> {
        let io = |e| WorkError::io(self.root.path().join(folder), e);
        let Some(listed) = self.root.list(folder, MAX_FILES).map_err(io)? else { return Ok(false) };
        let complete = listed.len() < MAX_FILES;
        let mut changed = false;
        let mut here = BTreeSet::new();
        for file in listed {
            let known = self.seen.get(&file.path) == Some(&file.stamp);
            if known || self.scan_file(&file.path, &mut changed)? {
                seen.insert(file.path.clone(), file.stamp);
            }
            here.insert(file.path);
        }
        if complete {
            changed |= self.remove_missing(folder, &here)?;
        }
        Ok(changed)
    }

    /// Puts one file into the tree if it differs; tells whether it could be read.
    fn scan_file(&mut self, path: &str, changed: &mut bool) -> Result<bool, WorkError> {
        let bytes = match self.root.read(Path::new(path), MAX_BLOB_BYTES) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(false),
            Err(error) => {
                tracing::warn!(path, %error, "not published");
                return Ok(true);
            }
        };
        let id = self.store.id_of(&bytes)?;
        let old = self.get(path)?;
        if old.is_none_or(|leaf| leaf.id != id) {
            let mode = old.map_or(FILE, |leaf| leaf.mode);
            let id = self.store.blob(path, bytes)?;
            *changed |= self.put(path, Some(Leaf { mode, id }))?;
        }
        Ok(true)
    }

    fn remove_missing(&mut self, folder: &str, here: &BTreeSet<String>) -> Result<bool, WorkError> {
        let mut changed = false;
        for (path, leaf) in self.tree.files(folder, &self.store)? {
            let hidden = path.split('/').any(|part| part.starts_with('.'));
            if !hidden && !here.contains(&path) && self.was_taken_away(&path, leaf)? {
                changed |= self.put(&path, None)?;
            }
        }
        Ok(changed)
    }

    /// Whether a file is missing that the work tree had: one that cannot stand there was never taken away.
    fn was_taken_away(&self, path: &str, leaf: Leaf) -> Result<bool, WorkError> {
        let found = match self.root.find(Path::new(path)) {
            Ok(found) => found,
            Err(error) if is_passing(&error) => return Err(WorkError::io(self.root.path().join(path), error)),
            Err(_) => return Ok(false),
        };
        let can_stand = matches!(canonical(leaf.mode), FILE | EXECUTABLE) && fits_work_tree(path.as_bytes(), leaf.mode);
        let is_file = || -> Result<bool, WorkError> {
            Ok(self.store.kind(leaf.id)? == Kind::Blob && self.store.size(leaf.id)? <= MAX_BLOB_BYTES)
        };
        Ok(found == Found::Nothing && can_stand && is_file()?)
    }
}
