//! The work tree after a rebase: only the paths that upstream changed, and of those only the ones nobody changed here.
//!
//! Files come whole, by rename, in the folder they belong to, never through a symbolic link. The audit log and `meta/`
//! are written by the bridge alone and never checked out. No filters, no line-ending conversion: bytes as they are.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::objs::Kind;
use rustix::io::Errno;

use crate::core::Core;
use crate::error::WorkError;
use crate::files::Found;
use crate::merge::{Change, diff};
use crate::objects::MAX_BLOB_BYTES;
use crate::safe_path::is_ours;
use crate::tree::{EXECUTABLE, FILE, LINK, Leaf};

/// What is to be done with one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is as it should be.
    Done,
    /// It is as it was before, so it may be changed.
    Apply,
    /// Somebody here changed it, or something else stands there.
    Leave,
}

impl Core {
    /// Brings what changed from `base` to `upstream` into the work tree.
    pub(crate) fn check_out(&mut self, base: Option<ObjectId>, upstream: ObjectId) -> Result<(), WorkError> {
        let old = base.map(|id| self.tree_of(id)).transpose()?;
        let new = self.tree_of(upstream)?;
        let merged = self.head.map(|id| self.tree_of(id)).transpose()?;
        let ours: BTreeSet<Vec<u8>> = diff(&self.store, Some(new), merged)?.into_iter().map(|c| c.path).collect();
        let mut folders = BTreeSet::new();
        let mut left = 0u64;
        for change in diff(&self.store, old, Some(new))? {
            // Where our own version won there is nothing to bring.
            if ours.contains(&change.path) || !may_check_out(&change.path) {
                continue;
            }
            let path = PathBuf::from(OsStr::from_bytes(&change.path));
            match self.check_out_one(&path, &change) {
                Ok(Verdict::Apply) => {
                    supervision::crash_point!("remote.file");
                    folders.extend(path.parent().map(Path::to_owned));
                }
                Ok(Verdict::Done) => {}
                Ok(Verdict::Leave) => {
                    left += 1;
                    tracing::info!(path = %path.display(), "changed upstream and here: left as it is here");
                }
                Err(error) if in_the_way(&error) => {
                    left += 1;
                    tracing::warn!(%error, "changed upstream, but something is in the way here: left as it is");
                }
                Err(error) => return Err(error),
            }
        }
        for folder in &folders {
            // A folder that is gone again needs no syncing.
            if let Err(error) = self.root.sync(folder) {
                tracing::debug!(folder = %folder.display(), %error, "not synced");
            }
        }
        tracing::debug!(left, folders = folders.len(), "work tree brought in line");
        Ok(())
    }

    fn check_out_one(&self, path: &Path, change: &Change) -> Result<Verdict, WorkError> {
        let io = |e| WorkError::io(self.root.path().join(path), e);
        let found = self.root.find(path).map_err(io)?;
        let verdict = if self.stands(path, &found, change.new)? {
            Verdict::Done
        } else if self.stands(path, &found, change.old)? || is_new_command(change, &found) {
            Verdict::Apply
        } else {
            Verdict::Leave
        };
        if verdict != Verdict::Apply {
            return Ok(verdict);
        }
        match change.new {
            None => self.root.remove(path).map_err(io)?,
            Some(Leaf { mode: FILE | EXECUTABLE, id }) if self.store.size(id)? > MAX_BLOB_BYTES => {
                return Ok(Verdict::Leave);
            }
            Some(Leaf { mode: mode @ (FILE | EXECUTABLE), id }) => {
                let bytes = self.store.read(id, Kind::Blob)?;
                self.root.write(path, &bytes, mode == EXECUTABLE).map_err(io)?;
            }
            Some(Leaf { mode: LINK, id }) if !is_ours(&change.path) && !is_command(&change.path) => {
                self.root.link(path, &self.store.read(id, Kind::Blob)?).map_err(io)?;
            }
            // Links in our folders, submodules.
            Some(_) => return Ok(Verdict::Leave),
        }
        Ok(Verdict::Apply)
    }

    /// Whether exactly that stands there.
    fn stands(&self, path: &Path, found: &Found, leaf: Option<Leaf>) -> Result<bool, WorkError> {
        let Some(leaf) = leaf else { return Ok(*found == Found::Nothing) };
        let bytes = match found {
            Found::File { size, executable } => {
                let mode = if *executable { EXECUTABLE } else { FILE };
                if mode != leaf.mode || *size > MAX_BLOB_BYTES || self.store.size(leaf.id)? != *size {
                    return Ok(false);
                }
                let read = self.root.read(path, MAX_BLOB_BYTES);
                read.map_err(|e| WorkError::io(self.root.path().join(path), e))?
            }
            Found::Link(target) if leaf.mode == LINK => Some(target.clone()),
            _ => None,
        };
        let Some(bytes) = bytes else { return Ok(false) };
        Ok(self.store.id_of(&bytes)? == leaf.id)
    }
}

/// A command's file that is gone here was filed. If upstream has other content under its name, that is a new delivery.
fn is_new_command(change: &Change, found: &Found) -> bool {
    is_command(&change.path) && *found == Found::Nothing && change.new.is_some()
}

fn is_command(path: &[u8]) -> bool {
    path.starts_with(b"commands/")
}

/// Whether a path of upstream's may be brought into the work tree at all.
fn may_check_out(path: &[u8]) -> bool {
    let odd = |part: &[u8]| {
        part.is_empty() || part == b"." || part == b".." || part.eq_ignore_ascii_case(b".git") || part.contains(&0)
    };
    let own = [b"logs/".as_slice(), b"meta/"].iter().any(|top| path.starts_with(top)) || path == b".bridge.lock";
    !own && !path.split(|byte| *byte == b'/').any(odd)
}

/// Errors that come from what stands in the work tree, not from the disk.
fn in_the_way(error: &WorkError) -> bool {
    use std::io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, IsADirectory, NotADirectory, PermissionDenied};
    let WorkError::Io { source, .. } = error else { return false };
    // A link, or a name that is too long here.
    let errno = |no: Errno| source.raw_os_error() == Some(no.raw_os_error());
    let kind = source.kind();
    errno(Errno::LOOP)
        || errno(Errno::NAMETOOLONG)
        || matches!(kind, AlreadyExists | DirectoryNotEmpty | IsADirectory | NotADirectory | PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_the_index_of_retries_and_git_itself_are_never_checked_out() {
        for good in ["a", "src/a", "commands/x.json", "summaries/a", "results/a", ".gitignore", "logsx/a"] {
            assert!(may_check_out(good.as_bytes()), "{good}");
        }
        for bad in
            ["logs/bridge.log", "meta/retries.json", ".git/config", "a/.GIT/hooks/x", "../a", "a//b", ".bridge.lock"]
        {
            assert!(!may_check_out(bad.as_bytes()), "{bad}");
        }
    }
}
