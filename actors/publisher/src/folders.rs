//! What others write and the bridge publishes as it is found: `summaries/` and `context/`; and `meta/retries.json`,
//! which the publisher writes itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use chrono::{DateTime, Utc};
use gix::objs::Kind;

use crate::core::Core;
use crate::error::WorkError;
use crate::files::Found;
use crate::objects::MAX_BLOB_BYTES;
use crate::pending::Pending;
use crate::retries::{RETRIES_PATH, Retries, bad_name};
use crate::tree::{FILE, Leaf};

/// The folders.
const FOLDERS: [&str; 2] = ["context", "summaries"];

/// The most files that are published of each.
const MAX_FILES: usize = 50_000;

/// The largest index that is read.
const MAX_RETRIES_BYTES: u64 = 64 << 20;

impl Core {
    /// Commits what changed in `summaries/`, `context/` and `meta/retries.json`; tells whether anything did.
    ///
    /// # Errors
    /// When something could not be read or committed; it is found again next time.
    pub fn scan(&mut self, now: DateTime<Utc>) -> Result<bool, WorkError> {
        self.sync_head()?;
        // Until the work tree has what upstream brought, a missing file does not mean a deleted one.
        if self.checkout_pending || self.recovery.is_some() {
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
        let retries = self.changed_retries()?;
        if let Some(bytes) = &retries {
            let id = self.store.blob(None, bytes.clone())?;
            if self.put(RETRIES_PATH, Some(Leaf { mode: FILE, id }))? {
                tip = Some(self.seal(tip, "bridge: retries index update", now)?);
                made += 1;
            }
        }
        self.publish(tip, made, now)?;
        self.seen = seen;
        if retries.is_some() {
            self.retries_committed = retries;
        }
        Ok(made)
    }

    fn scan_folder(&mut self, folder: &str, seen: &mut BTreeMap<String, (u64, i128, u64)>) -> Result<bool, WorkError> {
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
        let id = gix::objs::compute_hash(gix::hash::Kind::Sha1, Kind::Blob, &bytes)
            .map_err(|e| WorkError::object(path, e))?;
        let old = self.get(path)?;
        if old.is_none_or(|leaf| leaf.id != id) {
            let mode = old.map_or(FILE, |leaf| leaf.mode);
            let id = self.store.blob(None, bytes)?;
            *changed |= self.put(path, Some(Leaf { mode, id }))?;
        }
        Ok(true)
    }

    fn remove_missing(&mut self, folder: &str, here: &BTreeSet<String>) -> Result<bool, WorkError> {
        let mut changed = false;
        for (path, _) in self.tree.files(folder, &self.store)? {
            let hidden = path.split('/').any(|part| part.starts_with('.'));
            if hidden || here.contains(&path) {
                continue;
            }
            let found = self.root.find(Path::new(&path)).map_err(|e| WorkError::io(self.root.path().join(&path), e))?;
            if found == Found::Nothing {
                changed |= self.put(&path, None)?;
            }
        }
        Ok(changed)
    }

    /// Reads `meta/retries.json`: makes it where there is none, sets an unreadable one aside.
    pub(crate) fn open_retries(&mut self, now: DateTime<Utc>) -> Result<(), WorkError> {
        let path = Path::new(RETRIES_PATH);
        let io = |e| WorkError::io(self.root.path().join(RETRIES_PATH), e);
        self.retries = match self.root.read(path, MAX_RETRIES_BYTES).map_err(io)? {
            None => {
                let empty = Retries::default();
                self.root.write(path, &empty.to_bytes(), false).map_err(io)?;
                empty
            }
            Some(bytes) => match Retries::parse(&bytes) {
                Ok(retries) => retries,
                Err(error) => {
                    let aside = bad_name(now);
                    tracing::error!(%error, kept = %format!("meta/{aside}"), "set aside; a new one begins");
                    self.root.set_aside(path, &aside).map_err(io)?;
                    let empty = Retries::default();
                    self.root.write(path, &empty.to_bytes(), false).map_err(io)?;
                    empty
                }
            },
        };
        self.root.sync(Path::new("meta")).map_err(|e| WorkError::io(self.root.path().join("meta"), e))?;
        Ok(())
    }

    /// Counts one more failure of a command.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn record_retry(&mut self, id: &str, error: &str, now: DateTime<Utc>) -> Result<(), WorkError> {
        self.retries.record(id, error, now);
        self.write_retries()
    }

    pub(crate) fn settle_retries<'a>(&mut self, batch: impl Iterator<Item = &'a Pending>) -> Result<(), WorkError> {
        let mut settled = false;
        for id in batch.filter_map(|item| item.id.as_ref()) {
            settled |= self.retries.settle(id);
        }
        if settled { self.write_retries() } else { Ok(()) }
    }

    fn write_retries(&self) -> Result<(), WorkError> {
        let written = self.root.write(Path::new(RETRIES_PATH), &self.retries.to_bytes(), false);
        written.map_err(|e| WorkError::io(self.root.path().join(RETRIES_PATH), e))
    }

    /// The index's bytes if the branch has others. An empty index that was never published is nothing to tell of.
    fn changed_retries(&mut self) -> Result<Option<Vec<u8>>, WorkError> {
        let io = |e| WorkError::io(self.root.path().join(RETRIES_PATH), e);
        let bytes = self.root.read(Path::new(RETRIES_PATH), MAX_RETRIES_BYTES).map_err(io)?;
        let Some(bytes) = bytes.filter(|bytes| self.retries_committed.as_ref() != Some(bytes)) else { return Ok(None) };
        if self.retries.is_empty() && self.get(RETRIES_PATH)?.is_none() {
            return Ok(None);
        }
        Ok(Some(bytes))
    }
}
